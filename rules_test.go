package stytchhttp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

func TestStepUpRules(t *testing.T) {
	g := newRig(t)
	totp := stytchtest.Factor("totp", "authenticator_app")
	password := stytchtest.Factor("password", "knowledge")
	broken := func(*http.Request, *stytchhttp.Session) error { return errors.New("the database is down") }
	cases := []struct {
		name    string
		session []stytchtest.Option
		rule    stytchhttp.Rule
		status  int
		reason  string
	}{
		{"a factor", []stytchtest.Option{totp}, stytchhttp.Factor("totp"), 200, ""},
		{"a missing factor is named", nil, stytchhttp.Factor("totp"), 403, `"rule":"factor","factor":"totp"`},
		{"a recent factor", []stytchtest.Option{totp}, stytchhttp.FactorWithin("totp", time.Minute), 200, ""},
		{"a missing factor with its age", nil, stytchhttp.FactorWithin("totp", time.Minute), 403, `"factor":"totp","max_age":60`},
		{"no age is never met", []stytchtest.Option{totp}, stytchhttp.FactorWithin("totp", 0), 403, "factor"},
		{"two kinds", []stytchtest.Option{password, totp}, stytchhttp.MFA(), 200, ""},
		{"one factor", []stytchtest.Option{password}, stytchhttp.MFA(), 403, "mfa"},
		{"two factors of one mailbox", []stytchtest.Option{stytchtest.Factor("magic_link", "email"), stytchtest.Factor("otp", "email")}, stytchhttp.MFA(), 403, "mfa"},
		{"an impersonation is no factor", []stytchtest.Option{password, stytchtest.Factor("impersonated", "impersonation")}, stytchhttp.MFA(), 403, "mfa"},
		{"impersonated", []stytchtest.Option{stytchtest.Factor("impersonated", "impersonation")}, stytchhttp.NotImpersonated(), 403, "not_impersonated"},
		{"not impersonated", nil, stytchhttp.NotImpersonated(), 200, ""},
		{"a young session", nil, stytchhttp.SessionYoungerThan(time.Hour), 200, ""},
		{"a claim", []stytchtest.Option{stytchtest.Claims(map[string]any{"plan": "pro"})}, stytchhttp.Claim("plan", isPro), 200, ""},
		{"another value", []stytchtest.Option{stytchtest.Claims(map[string]any{"plan": "free"})}, stytchhttp.Claim("plan", isPro), 403, "claim"},
		{"another shape", []stytchtest.Option{stytchtest.Claims(map[string]any{"plan": 1})}, stytchhttp.Claim("plan", isPro), 403, "claim"},
		{"another case", []stytchtest.Option{stytchtest.Claims(map[string]any{"PLAN": "pro"})}, stytchhttp.Claim("plan", isPro), 403, "claim"},
		{"a missing claim is no zero value", nil, stytchhttp.Claim("plan", func(string) bool { return true }), 403, "claim"},
		{"any", []stytchtest.Option{totp}, stytchhttp.Any(stytchhttp.Factor("webauthn"), stytchhttp.Factor("totp")), 200, ""},
		{"any of none that is met", nil, stytchhttp.Any(stytchhttp.Factor("webauthn"), stytchhttp.Factor("totp")), 403, `"unmet":[{"rule":"factor","factor":"webauthn"},{"rule":"factor","factor":"totp"}]`},
		{"any of nothing", nil, stytchhttp.Any(), 403, "any"},
		{"all", []stytchtest.Option{totp}, stytchhttp.All(stytchhttp.Factor("totp"), stytchhttp.Role("admin")), 403, "role"},
		{"not", nil, stytchhttp.Not(stytchhttp.Role("admin")), 200, ""},
		{"not, met", []stytchtest.Option{stytchtest.Roles("admin")}, stytchhttp.Not(stytchhttp.Role("admin")), 403, "not"},
		{"a rule that fails is refused by not too", nil, stytchhttp.Not(broken), 403, "forbidden"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := send(t, g.auth.Protect(c.rule)(whoami), get(bearer(g.srv.Login("user-test-ada", c.session...).SessionJWT)))
			if a.StatusCode != c.status || !strings.Contains(a.Body, c.reason) {
				t.Errorf("got %d %s", a.StatusCode, a.Body)
			}
			if strings.Contains(a.Body, "database") {
				t.Error("the caller sees an error's text")
			}
		})
	}
}

func isPro(plan string) bool { return plan == "pro" }

func TestAnOldFactorIsChallengedByRFC9470(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada", stytchtest.Factor("totp", "authenticator_app"))
	h := g.auth.Protect(stytchhttp.FactorWithin("totp", time.Minute))(whoami)
	send(t, h, get(bearer(tokens.SessionJWT))).want(t, 200, "local")
	g.srv.Advance(2 * time.Minute)
	a := send(t, h, get(bearer(tokens.SessionJWT))).want(t, 403, "forbidden")
	challenge := a.Header.Get("WWW-Authenticate")
	if !strings.Contains(challenge, `error="insufficient_user_authentication"`) || !strings.Contains(challenge, `max_age="60"`) {
		t.Error(challenge)
	}
}

func TestPermissionsByTheProjectsPolicy(t *testing.T) {
	g := newRig(t)
	write := g.auth.Protect(g.auth.Permission("documents", "write"))(whoami)
	send(t, write, get(bearer(g.srv.Login("user-test-ada", stytchtest.Roles("admin")).SessionJWT))).want(t, 200, "local")
	a := send(t, write, get(bearer(g.srv.Login("user-test-bob").SessionJWT))).want(t, 403, "forbidden")
	if a.Rule != "permission" {
		t.Error(a.Body)
	}
}

func TestNobodyIsAllowedByAPolicyThatWasNeverLoaded(t *testing.T) {
	g := newRig(t)
	g.srv.Break(stytchtest.Outage(), stytchtest.Policy)
	admin := bearer(g.srv.Login("user-test-ada", stytchtest.Roles("admin")).SessionJWT)
	rule := g.auth.Permission("documents", "write")
	send(t, g.auth.Protect(rule)(whoami), get(admin)).want(t, 503, "unavailable")
	send(t, g.auth.Protect(stytchhttp.Not(rule))(whoami), get(admin)).want(t, 503, "unavailable")
}

func TestPagesGoToTheLoginPage(t *testing.T) {
	g := newRig(t, func(c *stytchhttp.Config) { c.LoginURL = "/login?lang=en" })
	h := g.auth.Protect()(whoami)
	page := header("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
	cases := []struct {
		name, path string
		change     []func(*http.Request)
		status     int
		next       string
	}{
		{"a page", "/a?b=c&d=e", []func(*http.Request){page}, 303, "/a?b=c&d=e"},
		{"a navigation", "/a", []func(*http.Request){page, header("Sec-Fetch-Mode", "navigate")}, 303, "/a"},
		{"fetch", "/a", []func(*http.Request){page, header("Sec-Fetch-Mode", "cors")}, 401, ""},
		{"HTMX", "/a", []func(*http.Request){page, header("HX-Request", "true")}, 401, ""},
		{"an API call", "/a", []func(*http.Request){header("Accept", "*/*")}, 401, ""},
		{"html refused", "/a", []func(*http.Request){header("Accept", "text/html;q=0")}, 401, ""},
		{"a Bearer client", "/a", []func(*http.Request){page, bearer("nonsense.")}, 401, ""},
		{"the login page itself", "/login", []func(*http.Request){page}, 401, ""},
		{"another host as a path", "//evil.example/", []func(*http.Request){page}, 303, ""},
		{"a backslash", `/%5Cevil.example`, []func(*http.Request){page}, 303, "/%5Cevil.example"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := get(c.change...)
			r.RequestURI = c.path
			a := send(t, h, r)
			to, err := url.Parse(a.Header.Get("Location"))
			if err != nil || a.StatusCode != c.status || to.Query().Get("next") != c.next {
				t.Errorf("got %d, Location %q", a.StatusCode, a.Header.Get("Location"))
			}
			if c.status == 303 && (to.Host != "" || to.Path != "/login" || to.Query().Get("lang") != "en") {
				t.Errorf("Location %q", to)
			}
		})
	}
}

func TestNextNeverLeavesTheSite(t *testing.T) {
	for next, want := range map[string]string{
		"/a?b=c": "/a?b=c", "": "/", "a": "/", "//evil.example": "/", `/\evil.example`: "/", "/\t/evil.example": "/",
		"https://evil.example/": "/", "javascript:alert(1)": "/", " //evil.example": "/", "/a\r\nSet-Cookie: a=b": "/",
	} {
		r := get()
		r.URL.RawQuery = url.Values{"next": {next}}.Encode()
		if got := stytchhttp.NextFrom(r); got != want {
			t.Errorf("%q: got %q, want %q", next, got, want)
		}
	}
}

func TestAStepUpAtStytchCountsAtOnce(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada")
	h := g.auth.Protect(stytchhttp.Factor("totp"))(whoami)
	g.srv.Advance(time.Minute) // the JWT is of before
	for range 50 {             // hammering: Stytch is asked at most once in two seconds
		send(t, h, get(bearer(tokens.SessionJWT))).want(t, 403, "forbidden")
	}
	if calls := g.srv.Calls().Authenticate; calls < 1 || calls > 3 {
		t.Errorf("hammering made %d calls", calls)
	}
	g.srv.StepUp(g.srv.SessionID(tokens), "totp", "authenticator_app")
	g.srv.Advance(3 * time.Second)
	send(t, h, get(bearer(tokens.SessionToken))).want(t, 200, "remote")
	send(t, h, get(bearer(tokens.SessionToken))).want(t, 200, "exchanged")
	send(t, h, get(bearer(tokens.SessionJWT))).want(t, 200, "remote")
}

func TestAPolicyOnceLoadedIsKeptInAnOutage(t *testing.T) {
	g := newRig(t)
	admin := bearer(g.srv.Login("user-test-ada", stytchtest.Roles("admin")).SessionJWT)
	h := g.auth.Protect(g.auth.Permission("documents", "read"))(whoami)
	if err := g.auth.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.srv.Break(stytchtest.Outage())
	send(t, h, get(admin)).want(t, 200, "local")
	if calls := g.srv.Calls().Policy; calls != 1 {
		t.Errorf("%d calls for the policy, want 1", calls)
	}
}

// counted counts how often it is decoded.
type counted struct{ Plan string }

var decodings atomic.Int64

func (c *counted) UnmarshalJSON(raw []byte) error {
	decodings.Add(1)
	return json.Unmarshal(raw, &struct{ Plan *string }{&c.Plan})
}

func TestClaimsAreDecodedOnceAndRefuseWrongShapes(t *testing.T) {
	ctx := stytchtest.Context(t.Context(), "user-test-ada", stytchtest.Claims(map[string]any{"plan": "pro", "tags": []string{"a"}}))
	decodings.Store(0)
	for range 3 {
		if c, err := stytchhttp.ClaimsFrom[counted](ctx); err != nil || c.Plan != "pro" {
			t.Error(c, err)
		}
	}
	if n := decodings.Load(); n != 1 {
		t.Errorf("decoded %d times", n)
	}
	type wrong struct {
		Plan int `json:"plan"`
	}
	if c, err := stytchhttp.ClaimsFrom[wrong](ctx); err == nil {
		t.Error("a wrong shape is", c)
	}
	// What can be changed through stays within its request.
	session, _ := stytchhttp.SessionFrom(ctx)
	for range 2 {
		tags, err := stytchhttp.ClaimsFrom[map[string]any](stytchhttp.WithSession(t.Context(), session))
		if err != nil || len(tags) != 2 {
			t.Error(tags, err)
		}
		tags["admin"] = true
	}
}

func TestAPageOfOnesOwn(t *testing.T) {
	g := newRig(t, func(c *stytchhttp.Config) {
		c.LoginURL = "https://login.example.com/start"
		c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
			p := stytchhttp.ProblemFrom(r, err)
			maps.Copy(w.Header(), p.Header)
			w.WriteHeader(p.Status)
			fmt.Fprintf(w, "%s %v %s", p.Code, p.Page, p.Location)
		}
	})
	h := g.auth.Protect(stytchhttp.Role("admin"))(whoami)
	page := header("Accept", "text/html")
	if a := send(t, h, get(page)); a.StatusCode != 303 || a.Body != "no_session true https://login.example.com/start" {
		t.Error(a.StatusCode, a.Body)
	}
	if a := send(t, h, get(page, cookies(g.srv.Login("user-test-ada")))); a.StatusCode != 403 || a.Body != "forbidden true " {
		t.Error(a.StatusCode, a.Body)
	}
}

func TestUpdateSessionForgetsWhatTheTokenWasExchangedFor(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada")
	h := g.auth.Protect()(whoami)
	send(t, h, get(bearer(tokens.SessionToken))).want(t, 200, "remote")
	send(t, h, get(bearer(tokens.SessionToken))).want(t, 200, "exchanged")
	g.srv.StepUp(g.srv.SessionID(tokens), "totp", "authenticator_app")
	send(t, g.auth.Hydrate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.auth.UpdateSession(w, r, g.srv.Renew(tokens)); err != nil {
			t.Error(err)
		}
	})), post())
	send(t, h, get(bearer(tokens.SessionToken))).want(t, 200, "remote")
}
