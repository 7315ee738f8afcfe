package stytchhttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

// inProcess calls a server's handler without a network, so that a test can run in a bubble with a fake clock.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	defer func() {
		if v := recover(); v == http.ErrAbortHandler {
			err = errors.New("connection reset")
		} else if v != nil {
			panic(v)
		}
	}()
	w := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	p.handler.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	resp = w.Result()
	resp.Request = r
	return resp, nil
}

// newBubbleRig returns a rig that needs no network.
func newBubbleRig(t *testing.T, change ...func(*stytchhttp.Config)) *rig {
	srv := stytchtest.New()
	t.Cleanup(srv.Close)
	srv.URL = "https://stytch.invalid"
	g := newColdRig(t, srv, append([]func(*stytchhttp.Config){func(c *stytchhttp.Config) {
		c.HTTPClient = &http.Client{Transport: inProcess{srv}}
	}}, change...)...)
	if err := g.auth.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestDuringAnOutageValidJWTsPassAndNobodyIsLoggedOut(t *testing.T) {
	faults := map[string]stytchtest.Fault{
		"503":                      stytchtest.Outage(),
		"500":                      stytchtest.Status(500, "internal_server_error"),
		"429":                      stytchtest.RateLimited(0),
		"429 for a while":          stytchtest.RateLimited(20 * time.Second),
		"HTML with 200":            stytchtest.Garbage(200),
		"HTML with 401":            stytchtest.Garbage(401),
		"HTML with 404":            stytchtest.Garbage(404),
		"JSON of another kind":     stytchtest.Body(200, "application/json", `{"session":{"session_id":1}}`),
		"a session without an id":  stytchtest.Body(200, "application/json", `{"session":{}}`),
		"nothing":                  stytchtest.Body(200, "application/json", ``),
		"404 of an unknown route":  stytchtest.Status(404, "route_not_found"),
		"400 of an unknown type":   stytchtest.Status(400, "something_new"),
		"dropped connections":      stytchtest.Drop(),
		"no answer":                stytchtest.Hang(),
		"our secret is wrong":      stytchtest.Status(401, "unauthorized_credentials"),
		"an answer without an end": stytchtest.Body(200, "application/json", strings.Repeat(" ", 2<<20)),
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newBubbleRig(t)
				h := g.auth.Authenticate(whoami)
				expired := g.srv.Login("user-test-ada")
				g.srv.Advance(6 * time.Minute)
				valid := g.srv.Login("user-test-bob")
				g.srv.Break(fault)

				for range 10 {
					if a := send(t, h, get(cookies(valid))); a.StatusCode != 200 || a.User != "user-test-bob" {
						t.Fatalf("a valid JWT gets %d %s", a.StatusCode, a.Body)
					}
					for _, tokens := range []stytchhttp.Tokens{expired, tokenOnly(expired), jwtOnly(expired)} {
						a := send(t, h, get(cookies(tokens))).want(t, 503, "unavailable")
						if a.Header.Get("Retry-After") == "" || len(a.Header["Set-Cookie"]) > 0 {
							t.Fatalf("header %v", a.Header)
						}
					}
				}
				began := time.Now()
				send(t, h, get(cookies(expired))).want(t, 503, "unavailable")
				if d := time.Since(began); d > 0 {
					t.Errorf("a request in a long outage waits %v", d)
				}
				// It recovers by itself.
				g.srv.Heal()
				time.Sleep(31 * time.Second)
				send(t, h, get(cookies(expired))).want(t, 200, "remote")
			})
		})
	}
}

func TestRetriesStayWithinTheDeadline(t *testing.T) {
	cases := []struct {
		name     string
		fault    stytchtest.Fault
		times    int // how often it strikes
		status   int
		attempts int
		min, max time.Duration
	}{
		{"two failures are retried", stytchtest.Outage(), 2, 200, 3, 150 * time.Millisecond, 500 * time.Millisecond},
		{"three are not", stytchtest.Outage(), 3, 503, 3, 150 * time.Millisecond, 500 * time.Millisecond},
		{"a dropped connection is retried", stytchtest.Drop(), 1, 200, 2, 50 * time.Millisecond, 150 * time.Millisecond},
		{"Retry-After is honoured", stytchtest.RateLimited(2 * time.Second), 1, 200, 2, 2 * time.Second, 2 * time.Second},
		{"unless it takes too long", stytchtest.RateLimited(20 * time.Second), 1, 503, 1, 0, 0},
		{"an answer that hangs is cut off and retried", stytchtest.Hang(), 1, 200, 2, 3 * time.Second, 3500 * time.Millisecond},
		{"all in all six seconds at most", stytchtest.Hang(), 9, 503, 2, 6 * time.Second, 6 * time.Second},
		{"an unreadable answer is not", stytchtest.Garbage(200), 1, 503, 1, 0, 0},
		{"wrong credentials are not", stytchtest.Status(401, "unauthorized_credentials"), 1, 503, 1, 0, 0},
		{"a definitive refusal is not", stytchtest.Status(404, "session_not_found"), 1, 401, 1, 0, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newBubbleRig(t)
				tokens := g.srv.Login("user-test-ada")
				left := c.times
				g.srv.Break(func(w http.ResponseWriter, r *http.Request, quit <-chan struct{}) bool {
					left--
					return left >= 0 && c.fault(w, r, quit)
				}, stytchtest.Authenticate)
				began := time.Now()
				if a := send(t, g.auth.Authenticate(whoami), get(bearer(tokens.SessionToken))); a.StatusCode != c.status {
					t.Errorf("got %d %s", a.StatusCode, a.Body)
				}
				if d := time.Since(began); d < c.min || d > c.max {
					t.Errorf("took %v, want %v to %v", d, c.min, c.max)
				}
				if n := g.srv.Calls().Authenticate; n != c.attempts {
					t.Errorf("%d attempts, want %d", n, c.attempts)
				}
			})
		})
	}
}

// A dead Stytch must cost microseconds, and a crowd must not fall upon it when it comes back.
func TestTheBreakerLetsOneProbeThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleRig(t)
		h := g.auth.Authenticate(whoami)
		login := func() *http.Request { return get(bearer(g.srv.Login("user-test-ada").SessionToken)) }
		g.srv.Break(stytchtest.Outage(), stytchtest.Authenticate)
		for range 100 {
			send(t, h, login()).want(t, 503, "unavailable")
		}
		if n := g.srv.Calls().Authenticate; n > 6 {
			t.Errorf("%d calls to a dead Stytch", n)
		}
		for range 600 { // ten minutes
			time.Sleep(time.Second)
			send(t, h, login()).want(t, 503, "unavailable")
		}
		if n := g.srv.Calls().Authenticate; n > 60 {
			t.Errorf("%d calls in ten minutes of outage", n)
		}
		g.srv.Heal()
		time.Sleep(16 * time.Second)
		send(t, h, login()).want(t, 200, "remote")
	})
}

func TestNewReturnsAtOnceWithStytchDownAndRecoversByItself(t *testing.T) {
	// An address where nobody listens.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	srv := stytchtest.NewServer(t)
	config := srv.Config()
	config.BaseURL = "http://" + listener.Addr().String()
	began := time.Now()
	auth, err := stytchhttp.New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer auth.Close()
	if d := time.Since(began); d > 100*time.Millisecond {
		t.Errorf("New took %v", d)
	}
	if err := auth.Ready(t.Context()); !errors.Is(err, stytchhttp.ErrUnavailable) {
		t.Errorf("Ready: %v", err)
	}
	send(t, auth.Authenticate(whoami), get(bearer(srv.Login("user-test-ada").SessionJWT))).want(t, 503, "unavailable")

	synctest.Test(t, func(t *testing.T) {
		srv := stytchtest.New()
		defer srv.Close()
		srv.URL = "https://stytch.invalid"
		srv.Break(stytchtest.Drop())
		g := newColdRig(t, srv, func(c *stytchhttp.Config) { c.HTTPClient = &http.Client{Transport: inProcess{srv}} })
		h := g.auth.Authenticate(whoami)
		tokens := g.srv.Login("user-test-ada")
		send(t, h, get(bearer(tokens.SessionJWT))).want(t, 503, "unavailable")
		g.srv.Heal()
		time.Sleep(30 * time.Second)
		send(t, h, get(bearer(tokens.SessionJWT))).want(t, 200, "local")
	})
}

func TestKeyRotation(t *testing.T) {
	g := newRig(t)
	h := g.auth.Authenticate(whoami)
	old := g.srv.Login("user-test-ada")
	send(t, h, get(bearer(old.SessionJWT))).want(t, 200, "local")

	g.srv.RotateKeys()
	new := g.srv.Login("user-test-bob")
	send(t, h, get(bearer(new.SessionJWT))).want(t, 200, "local") // the keys were fetched for it
	send(t, h, get(bearer(old.SessionJWT))).want(t, 200, "cache")

	g.srv.RetireKeys()
	g.srv.RotateKeys()
	g.srv.Advance(31 * time.Second) // the next window
	send(t, h, get(bearer(g.srv.Login("user-test-eve").SessionJWT))).want(t, 200, "local")
	// A key that is gone takes all that was verified with it along.
	send(t, h, get(bearer(old.SessionJWT))).want(t, 503, "unavailable")
	g.srv.Advance(31 * time.Second)
	send(t, h, get(bearer(old.SessionJWT))).want(t, 401, "invalid_session")
	if n := g.srv.Calls().Authenticate; n != 0 {
		t.Errorf("%d remote calls", n)
	}
}

func TestWrongCredentialsAreTheOperatorsProblem(t *testing.T) {
	var log bytes.Buffer
	g := newRig(t, func(c *stytchhttp.Config) {
		c.Secret = "secret-test-wrong"
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	tokens := g.srv.Login("user-test-ada")
	h := g.auth.Authenticate(whoami)
	send(t, h, get(bearer(tokens.SessionJWT))).want(t, 200, "local")
	for range 20 {
		send(t, h, get(bearer(tokens.SessionToken))).want(t, 503, "unavailable")
	}
	g.auth.Close()
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "Config.Secret") {
		t.Errorf("%d errors in the log, want 1:\n%s", n, log.String())
	}
	if strings.Contains(log.String(), "secret-test-wrong") || strings.Contains(log.String(), tokens.SessionToken) {
		t.Error("the log holds a secret")
	}
	if calls := g.eventsOf(stytchhttp.EventAuthenticateCall); !errors.Is(calls[0].Err, stytchhttp.ErrMisconfigured) {
		t.Errorf("observed: %v", calls[0].Err)
	}
}

// custom is an Authenticator of a user's own.
type custom struct {
	authenticate func(stytchhttp.Tokens) (stytchhttp.AuthenticateResponse, error)
	revoked      []string
}

func (c *custom) AuthenticateSession(_ context.Context, r stytchhttp.AuthenticateRequest) (stytchhttp.AuthenticateResponse, error) {
	return c.authenticate(r.Tokens)
}

func (c *custom) RevokeSession(_ context.Context, r stytchhttp.RevokeRequest) error {
	c.revoked = append(c.revoked, r.SessionID)
	return nil
}

func TestAnAuthenticatorOfOnesOwn(t *testing.T) {
	session := stytchtest.Session("user-test-ada")
	own := &custom{authenticate: func(t stytchhttp.Tokens) (stytchhttp.AuthenticateResponse, error) {
		switch t.SessionToken {
		case "good":
			return stytchhttp.AuthenticateResponse{Session: session}, nil
		case "gone":
			return stytchhttp.AuthenticateResponse{}, fmt.Errorf("sdk: %w", &stytchhttp.APIError{StatusCode: 404, Type: "session_not_found"})
		case "empty":
			return stytchhttp.AuthenticateResponse{}, nil
		}
		panic("token " + t.SessionToken)
	}}
	g := newRig(t, func(c *stytchhttp.Config) { c.Authenticator = own })
	h := g.auth.Authenticate(whoami)
	if a := send(t, h, get(bearer("good"))).want(t, 200, "remote"); a.User != "user-test-ada" {
		t.Error(a.Body)
	}
	send(t, h, get(bearer("gone"))).want(t, 401, "invalid_session")
	send(t, h, get(bearer("empty"))).want(t, 503, "unavailable")
	send(t, h, get(bearer("panics"))).want(t, 503, "unavailable")
	if _, err := logout(t, g, post(cookies(stytchhttp.Tokens{SessionToken: "good"}))); err != nil {
		t.Error(err)
	}
	if len(own.revoked) != 1 || own.revoked[0] != session.ID() {
		t.Errorf("revoked %q", own.revoked)
	}
	for _, e := range g.eventsOf(stytchhttp.EventAuthenticateCall) {
		if e.Err != nil && strings.Contains(e.Err.Error(), "token panics") {
			t.Error("the panic's value got into an error")
		}
	}
}

func TestNoGoroutineOutlivesClose(t *testing.T) {
	srv := stytchtest.NewServer(t)
	hold := make(chan struct{})
	defer close(hold)
	before := runtime.NumGoroutine()
	for range 5 {
		g := newColdRig(t, srv)
		h := g.auth.Authenticate(whoami)
		tokens := srv.Login("user-test-ada")
		send(t, h, get(cookies(tokens)))
		srv.Break(stytchtest.Hold(hold), stytchtest.Authenticate)
		waiting := make(chan answer, 1)
		go func() { waiting <- send(t, h, get(bearer(tokens.SessionToken))) }()
		eventually(t, func() bool { return srv.Calls().Authenticate == 1 })
		g.auth.Close()
		g.auth.Close()
		(<-waiting).want(t, 503, "unavailable")
		send(t, h, get(cookies(tokens))).want(t, 200, "cache") // no remote call is needed
		send(t, h, get(bearer(srv.Login("user-test-bob").SessionToken))).want(t, 503, "unavailable")
		srv.Heal()
		srv.ResetCalls()
	}
	eventually(t, func() bool { return runtime.NumGoroutine() <= before+2 }) // the server's own connections end on their own
}
