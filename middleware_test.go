package stytchhttp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

func TestWrongConfigurationIsAnErrorOfNewThatNamesTheField(t *testing.T) {
	cases := []struct {
		field  string
		change func(*stytchhttp.Config)
	}{
		{"ProjectID", func(c *stytchhttp.Config) { c.ProjectID = "" }},
		{"ProjectID", func(c *stytchhttp.Config) { c.ProjectID = "my-project" }},
		{"ProjectID", func(c *stytchhttp.Config) { c.ProjectID = "project-test-1/../x" }},
		{"Secret", func(c *stytchhttp.Config) { c.Secret = "" }},
		{"BaseURL", func(c *stytchhttp.Config) { c.BaseURL = "login.example.com" }},
		{"BaseURL", func(c *stytchhttp.Config) { c.BaseURL = "http://login.example.com" }},
		{"BaseURL", func(c *stytchhttp.Config) { c.BaseURL = "http://127.0.0.1.example.com" }},
		{"BaseURL", func(c *stytchhttp.Config) { c.BaseURL = "https://user:pass@login.example.com" }},
		{"BaseURL", func(c *stytchhttp.Config) { c.BaseURL = "https://login.example.com?x=y" }},
		{"MaxTokenAge", func(c *stytchhttp.Config) { c.MaxTokenAge = -1 }},
		{"Leeway", func(c *stytchhttp.Config) { c.Leeway = -1 }},
		{"Leeway", func(c *stytchhttp.Config) { c.Leeway = time.Hour }},
		{"StaleGrace", func(c *stytchhttp.Config) { c.StaleGrace = -1 }},
		{"Sources[1]", func(c *stytchhttp.Config) { c.Sources = []stytchhttp.Source{stytchhttp.Bearer(), {}} }},
		{"Sources[0]", func(c *stytchhttp.Config) { c.Sources = []stytchhttp.Source{stytchhttp.SourceFunc(nil)} }},
		{"TrustedOrigins", func(c *stytchhttp.Config) { c.TrustedOrigins = []string{"example.com"} }},
		{"Cookies.Mode", func(c *stytchhttp.Config) { c.Cookies.Mode = 99 }},
		{"Cookies", func(c *stytchhttp.Config) { c.Cookies.SessionTokenName = "a b" }},
		{"Cookies", func(c *stytchhttp.Config) { c.Cookies.SessionTokenName = "stytch_session_jwt" }},
		{"Cookies", func(c *stytchhttp.Config) {
			c.Cookies = stytchhttp.CookieConfig{Mode: stytchhttp.CookiesHTTPOnly, SessionTokenName: "stytch_session"}
		}},
		{"Cookies.Path", func(c *stytchhttp.Config) { c.Cookies.Path = "app" }},
		{"Domain", func(c *stytchhttp.Config) { c.Cookies.Domain = "ex ample.com" }},
		{"Cookies.SessionTokenName", func(c *stytchhttp.Config) {
			c.Cookies = stytchhttp.CookieConfig{SessionTokenName: "__Host-s", Domain: "example.com"}
		}},
	}
	for _, c := range cases {
		config := stytchhttp.Config{ProjectID: "project-test-1", Secret: "secret-test-1", BaseURL: "http://localhost:1"}
		c.change(&config)
		auth, err := stytchhttp.New(config)
		if err == nil {
			auth.Close()
			t.Errorf("%s: accepted", c.field)
		} else if !strings.Contains(err.Error(), "Config."+c.field) && !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: the error does not name it: %v", c.field, err)
		}
	}
}

func TestNothingPrintsACredential(t *testing.T) {
	tokens := stytchhttp.Tokens{SessionToken: "THE-SECRET-1", SessionJWT: "THE-SECRET-2"}
	config := stytchhttp.Config{ProjectID: "project-test-1", Secret: "THE-SECRET-3"}
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("x", "tokens", tokens, "config", config, "pointers", []any{&tokens, &config})
	encoded, _ := json.Marshal(map[string]any{"tokens": tokens, "p": &tokens})
	printed := fmt.Sprintf("%v %+v %#v %s %q | %v %+v %#v %s | %v %+v", tokens, tokens, tokens, tokens, tokens, config, config, config, config, &tokens, &config)
	for _, text := range []string{log.String(), string(encoded), printed} {
		if strings.Contains(text, "THE-SECRET") {
			t.Errorf("a credential is printed: %s", text)
		}
	}
	if !strings.Contains(printed, "[redacted]") || !strings.Contains(string(encoded), "session_token") {
		t.Errorf("printed: %s; encoded: %s", printed, encoded)
	}
}

func TestSources(t *testing.T) {
	query := stytchhttp.SourceFunc(func(r *http.Request) (stytchhttp.Tokens, error) {
		if r.URL.Query().Get("bad") != "" {
			return stytchhttp.Tokens{}, errors.New("quotes the credential")
		}
		return stytchhttp.Tokens{SessionToken: r.URL.Query().Get("token")}, nil
	})
	g := newRig(t, func(c *stytchhttp.Config) { c.Sources = []stytchhttp.Source{stytchhttp.SessionCookies(), query} })
	h := g.auth.Authenticate(whoami)
	ada, bob := g.srv.Login("user-test-ada"), g.srv.Login("user-test-bob")
	withQuery := func(q string) func(*http.Request) { return func(r *http.Request) { r.URL.RawQuery = q } }

	send(t, h, get(bearer(ada.SessionJWT))).want(t, 401, "no_session") // not listed
	if a := send(t, h, get(withQuery("token="+ada.SessionToken))); a.User != "user-test-ada" || a.Header.Get("Vary") != "*" {
		t.Errorf("query: %s, Vary %q", a.Body, a.Header.Get("Vary"))
	}
	if a := send(t, h, get(cookies(bob), withQuery("token="+ada.SessionToken))); a.User != "user-test-bob" {
		t.Errorf("the first source counts: %s", a.Body)
	}
	send(t, h, get(withQuery("bad=1"))).want(t, 401, "invalid_session")
	send(t, h, get(withQuery("token=%0d%0a"))).want(t, 401, "invalid_session")
	send(t, h, post(withQuery("token="+ada.SessionToken), header("Sec-Fetch-Site", "cross-site"))).want(t, 403, "cross_origin")

	// By default nothing is read from the query string.
	d := newRig(t)
	send(t, d.auth.Authenticate(whoami), get(withQuery("token="+d.srv.Login("user-test-ada").SessionToken))).want(t, 401, "no_session")
}

// One person's token must not speak for another's.
func TestTokensAreNotMixedAcrossSources(t *testing.T) {
	g := newRig(t)
	h := g.auth.Hydrate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens, _ := stytchhttp.TokensFrom(r.Context())
		fmt.Fprint(w, tokens.SessionToken != "", tokens.SessionJWT != "")
	}))
	ada, bob := g.srv.Login("user-test-ada"), g.srv.Login("user-test-bob")
	if a := send(t, h, get(bearer(ada.SessionJWT), cookies(tokenOnly(bob)))); a.Body != "false true" {
		t.Errorf("token, JWT: %s", a.Body)
	}
	g.srv.Advance(6 * time.Minute)
	a := send(t, g.auth.Authenticate(whoami), get(bearer(ada.SessionJWT), cookies(tokenOnly(bob))))
	if a.User != "user-test-ada" {
		t.Errorf("got %s", a.Body)
	}
}

func TestCustomClaims(t *testing.T) {
	type plan struct {
		Plan  string
		Seats int
	}
	ctx := stytchtest.Context(t.Context(), "user-test-ada", stytchtest.Claims(map[string]any{"plan": "gold", "seats": 3}))
	if got, err := stytchhttp.ClaimsFrom[plan](ctx); err != nil || got != (plan{"gold", 3}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := stytchhttp.ClaimsFrom[struct{ Plan int }](ctx); err == nil || got.Plan != 0 {
		t.Errorf("of a wrong shape: %+v, %v", got, err)
	}
	if got, err := stytchhttp.ClaimsFrom[plan](stytchtest.Context(t.Context(), "user-test-ada")); err != nil || got != (plan{}) {
		t.Errorf("without claims: %+v, %v", got, err)
	}
	if _, err := stytchhttp.ClaimsFrom[plan](t.Context()); !errors.Is(err, stytchhttp.ErrNoSession) {
		t.Errorf("without a session: %v", err)
	}
}

// A custom claim that differs from a registered one by its case alone must not take its place, as encoding/json would have
// it.
func TestACustomClaimCannotPassForARegisteredOne(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-eve", stytchtest.Claims(map[string]any{
		"SUB": "user-test-ada", "Https://stytch.com/session": map[string]any{"id": "x", "roles": []string{"admin"}}, "EXP": 9999999999,
	}))
	a := send(t, g.auth.Authenticate(whoami), get(bearer(tokens.SessionJWT))).want(t, 200, "local")
	if a.User != "user-test-eve" || a.Session != g.srv.SessionID(tokens) {
		t.Errorf("got %s", a.Body)
	}
	send(t, g.auth.Protect(stytchhttp.Role("admin"))(whoami), get(bearer(tokens.SessionJWT))).want(t, 403, "forbidden")
}

func TestASessionIsTheSameByEveryRung(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada", stytchtest.Roles("editor"), stytchtest.Claims(map[string]any{"plan": "gold"}),
		stytchtest.Factor("password", "knowledge"), stytchtest.Factor("totp", "authenticator_app"))
	encoded := map[string]string{}
	h := g.auth.Authenticate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := stytchhttp.SessionFrom(r.Context())
		body, err := json.Marshal(s)
		if err != nil {
			t.Error(err)
		}
		again, err := stytchhttp.ParseSession(body)
		if err != nil || again.UserID() != s.UserID() || len(again.Factors()) != 2 {
			t.Errorf("it does not survive JSON: %v", err)
		}
		s.Roles()[0], s.Factors()[0].Type = "admin", "changed" // the caller's own copies
		encoded[string(stytchhttp.ViaFrom(r.Context()))] = string(body)
	}))
	for _, credential := range []string{tokens.SessionJWT, tokens.SessionJWT, tokens.SessionToken, tokens.SessionToken} {
		send(t, h, get(bearer(credential)))
	}
	for _, via := range []string{"local", "cache", "remote", "exchanged"} {
		if encoded[via] != encoded["local"] || encoded[via] == "" {
			t.Errorf("%s: %s\nlocal: %s", via, encoded[via], encoded["local"])
		}
	}
}

func TestRules(t *testing.T) {
	g := newRig(t)
	editor := stytchtest.Context(t.Context(), "user-test-ada", stytchtest.Roles("editor"))
	own := errors.New("a detail that stays on the server")
	cases := []struct {
		name  string
		rules []stytchhttp.Rule
		code  int
		rule  string
	}{
		{"none", nil, 200, ""},
		{"a role", []stytchhttp.Rule{stytchhttp.Role("editor")}, 200, ""},
		{"a role that is missing", []stytchhttp.Rule{stytchhttp.Role("admin")}, 403, "role"},
		{"any of two", []stytchhttp.Rule{stytchhttp.AnyRole("admin", "editor")}, 200, ""},
		{"any of none", []stytchhttp.Rule{stytchhttp.AnyRole()}, 403, "role"},
		{"all of several", []stytchhttp.Rule{stytchhttp.Role("editor"), stytchhttp.Role("admin")}, 403, "role"},
		{"one of one's own", []stytchhttp.Rule{func(*http.Request, *stytchhttp.Session) error { return own }}, 403, ""},
		{"one of one's own that names itself", []stytchhttp.Rule{func(*http.Request, *stytchhttp.Session) error {
			return &stytchhttp.RuleError{Rule: "plan", Detail: "Upgrade first."}
		}}, 403, "plan"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := send(t, g.auth.Require(c.rules...)(whoami), get().WithContext(editor))
			if a.StatusCode != c.code || a.Rule != c.rule {
				t.Errorf("got %d %s", a.StatusCode, a.Body)
			}
			if strings.Contains(a.Body, own.Error()) {
				t.Error("the caller sees an error's text")
			}
		})
	}
}

func TestErrorHandlerReplacesTheAnswers(t *testing.T) {
	var got error
	g := newRig(t, func(c *stytchhttp.Config) {
		c.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
			got = err
			w.WriteHeader(http.StatusTeapot)
		}
	})
	for want, r := range map[error]*http.Request{
		stytchhttp.ErrNoSession:      get(),
		stytchhttp.ErrInvalidSession: get(bearer("x.y.z")),
		stytchhttp.ErrForbidden:      get(bearer(g.srv.Login("user-test-ada").SessionJWT)),
		stytchhttp.ErrCrossOrigin:    post(cookies(g.srv.Login("user-test-ada")), header("Sec-Fetch-Site", "cross-site")),
	} {
		if a := send(t, g.auth.Protect(stytchhttp.Role("admin"))(whoami), r); a.StatusCode != http.StatusTeapot || !errors.Is(got, want) {
			t.Errorf("want %v, got %v with %d", want, got, a.StatusCode)
		}
	}
}

func TestWriteProblemOfAnErrorThatIsNotOurs(t *testing.T) {
	w := httptest.NewRecorder()
	stytchhttp.WriteProblem(w, get(), errors.New("pq: password authentication failed"))
	if w.Code != 500 || strings.Contains(w.Body.String(), "password") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// Streams and websockets need the writer as it is.
func TestTheResponseWriterIsNotWrapped(t *testing.T) {
	g := newRig(t)
	var same bool
	var given http.ResponseWriter
	h := g.auth.Protect()(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { same = w == given }))
	given = httptest.NewRecorder()
	h.ServeHTTP(given, get(bearer(g.srv.Login("user-test-ada").SessionJWT)))
	if !same {
		t.Error("the handler got another writer")
	}
}

func TestAllocationsOfAKnownJWT(t *testing.T) {
	g := newRig(t, func(c *stytchhttp.Config) { c.Observe = nil })
	tokens := g.srv.Login("user-test-ada")
	h := g.auth.Hydrate(g.auth.Authenticate(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	for name, r := range map[string]*http.Request{"header": get(bearer(tokens.SessionJWT)), "cookies": get(cookies(tokens))} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		allocs := testing.AllocsPerRun(200, func() {
			clear(w.Header())
			h.ServeHTTP(w, r)
		})
		if allocs > 4 {
			t.Errorf("%s: %v allocations, want at most 4", name, allocs)
		}
	}
}
