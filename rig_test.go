package stytchhttp_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

// rig is a Middleware on a stytchtest server.
type rig struct {
	t    testing.TB
	srv  *stytchtest.Server
	auth *stytchhttp.Middleware

	mu     sync.Mutex
	events []stytchhttp.Event
}

// newRig returns a rig whose keys are loaded.
func newRig(t testing.TB, change ...func(*stytchhttp.Config)) *rig {
	t.Helper()
	g := newColdRig(t, stytchtest.NewServer(t), change...)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := g.auth.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return g
}

// newColdRig returns a rig that may have no keys yet.
func newColdRig(t testing.TB, srv *stytchtest.Server, change ...func(*stytchhttp.Config)) *rig {
	t.Helper()
	g := &rig{t: t, srv: srv}
	config := srv.Config()
	config.Observe = func(_ context.Context, e stytchhttp.Event) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.events = append(g.events, e)
	}
	for _, c := range change {
		c(&config)
	}
	auth, err := stytchhttp.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { auth.Close() })
	g.auth = auth
	return g
}

// eventsOf returns what was observed of one kind.
func (g *rig) eventsOf(kind stytchhttp.EventKind) []stytchhttp.Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	var found []stytchhttp.Event
	for _, e := range g.events {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

// answer is what a client gets to see.
type answer struct {
	*http.Response
	Body string

	User, Session string          // of whoami
	Via           stytchhttp.Via  // of whoami
	Err           string          // of whoami: ErrFrom
	Code          string          // of a problem
	Rule          string          // of a problem
	Claims        json.RawMessage // of whoami
}

// whoami answers with what the accessors say.
var whoami = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	out := map[string]any{"via": stytchhttp.ViaFrom(r.Context())}
	if s, ok := stytchhttp.SessionFrom(r.Context()); ok {
		out["user"], out["session_id"] = s.UserID(), s.ID()
		if claims, err := stytchhttp.ClaimsFrom[map[string]any](r.Context()); err == nil {
			out["claims"] = claims
		}
	}
	if err := stytchhttp.ErrFrom(r.Context()); err != nil {
		out["err"] = err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
})

// send sends one request to h and decodes the answer.
func send(t testing.TB, h http.Handler, r *http.Request) answer {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	a := answer{Response: w.Result(), Body: w.Body.String()}
	var body struct {
		User, Err, Code, Rule string
		Session               string `json:"session_id"`
		Via                   stytchhttp.Via
		Claims                json.RawMessage
	}
	if len(a.Body) > 0 && a.Body[0] == '{' {
		if err := json.Unmarshal([]byte(a.Body), &body); err != nil {
			t.Fatalf("%v in %s", err, a.Body)
		}
	}
	a.User, a.Session, a.Via, a.Err = body.User, body.Session, body.Via, body.Err
	a.Code, a.Rule, a.Claims = body.Code, body.Rule, body.Claims
	return a
}

// want fails the test unless the answer has this status and, according to it, this rung or this code.
func (a answer) want(t testing.TB, status int, viaOrCode string) answer {
	t.Helper()
	got := string(a.Via)
	if a.Code != "" {
		got = a.Code
	}
	if a.StatusCode != status || got != viaOrCode {
		t.Fatalf("got %d %q, want %d %q; body: %s", a.StatusCode, got, status, viaOrCode, a.Body)
	}
	return a
}

func get(change ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://app.example.com/", nil)
	for _, c := range change {
		c(r)
	}
	return r
}

func post(change ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "https://app.example.com/", nil)
	for _, c := range change {
		c(r)
	}
	return r
}

func bearer(credential string) func(*http.Request) {
	return header("Authorization", "Bearer "+credential)
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

// cookies sends the tokens as the browser SDK's cookies.
func cookies(tokens stytchhttp.Tokens) func(*http.Request) {
	return func(r *http.Request) {
		if tokens.SessionToken != "" {
			r.AddCookie(&http.Cookie{Name: "stytch_session", Value: tokens.SessionToken})
		}
		if tokens.SessionJWT != "" {
			r.AddCookie(&http.Cookie{Name: "stytch_session_jwt", Value: tokens.SessionJWT})
		}
	}
}

// tokenOnly and jwtOnly are what remains of tokens.
func tokenOnly(t stytchhttp.Tokens) stytchhttp.Tokens {
	return stytchhttp.Tokens{SessionToken: t.SessionToken}
}

func jwtOnly(t stytchhttp.Tokens) stytchhttp.Tokens {
	return stytchhttp.Tokens{SessionJWT: t.SessionJWT}
}
