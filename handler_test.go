package stytchhttp_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

// ask sends JSON to a session endpoint as a script of the same origin would.
func ask(method, path, body string, change ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(method, "https://app.example.com"+path, strings.NewReader(body))
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Sec-Fetch-Mode", "cors")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, c := range change {
		c(r)
	}
	return r
}

// sessionAnswer decodes {"session": …, "expires_in": …}.
func sessionAnswer(t *testing.T, a answer) (id string, expiresIn int) {
	t.Helper()
	var body struct {
		Session struct {
			ID string `json:"session_id"`
		}
		ExpiresIn int `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(a.Body), &body); err != nil || a.StatusCode != 200 {
		t.Fatalf("%d %s", a.StatusCode, a.Body)
	}
	return body.Session.ID, body.ExpiresIn
}

func plainJSON(t stytchhttp.Tokens) string {
	encoded, _ := json.Marshal(map[string]string{"session_token": t.SessionToken, "session_jwt": t.SessionJWT})
	return string(encoded)
}

func TestSessionEndpoints(t *testing.T) {
	g := newRig(t)
	h := http.NewServeMux()
	h.Handle("/session/", g.auth.SessionHandler("/session"))
	tokens := g.srv.Login("user-test-ada")
	id := g.srv.SessionID(tokens)

	got, left := sessionAnswer(t, send(t, h, ask("GET", "/session/", "", cookies(tokens))))
	if got != id || left < 3590 || left > 3600 {
		t.Errorf("get: %s, %d s", got, left)
	}

	a := send(t, h, ask("POST", "/session/authenticate", `{"session_duration_minutes": 600}`, cookies(tokens)))
	if got, left := sessionAnswer(t, a); got != id || left < 35990 || left > 36000 {
		t.Errorf("authenticate: %s, %d s", got, left)
	}
	if held := stored(t, a, "https://app.example.com/"); held["stytch_session"] == nil || time.Until(held["stytch_session"].Expires) < 9*time.Hour {
		t.Errorf("authenticate does not renew the cookies: %v", held)
	}
	if a := send(t, h, ask("POST", "/session/authenticate", "", bearer(tokens.SessionToken))); a.StatusCode != 200 || len(a.Cookies()) > 0 {
		t.Errorf("authenticate with a Bearer credential: %d, cookies %v", a.StatusCode, a.Cookies())
	}

	a = send(t, h, ask("POST", "/session/tokens", "", cookies(tokenOnly(tokens))))
	var pair struct {
		SessionToken string `json:"session_token"`
		SessionJWT   string `json:"session_jwt"`
	}
	if err := json.Unmarshal([]byte(a.Body), &pair); err != nil || pair.SessionToken != tokens.SessionToken || pair.SessionJWT == "" {
		t.Errorf("tokens: %d %v", a.StatusCode, err)
	}

	next := g.srv.Login("user-test-bob")
	a = send(t, h, ask("PUT", "/session/", plainJSON(tokenOnly(next)), cookies(tokens)))
	if got, _ := sessionAnswer(t, a); got != g.srv.SessionID(next) {
		t.Errorf("update: %s", got)
	}
	if held := stored(t, a, "https://app.example.com/"); held["stytch_session"] == nil || held["stytch_session"].Value != next.SessionToken || held["stytch_session_jwt"] == nil {
		t.Error("update does not set the cookies")
	}

	a = send(t, h, ask("POST", "/session/revoke", "", cookies(next)))
	if a.StatusCode != 204 || len(a.Cookies()) == 0 || len(stored(t, a, "https://app.example.com/")) > 0 {
		t.Errorf("revoke: %d", a.StatusCode)
	}
	send(t, h, ask("GET", "/session/", "", cookies(next))).want(t, 401, "invalid_session")
}

func TestSessionEndpointsRefuse(t *testing.T) {
	g := newRig(t)
	h := g.auth.SessionHandler("/session/")
	tokens := g.srv.Login("user-test-ada")
	eve := g.srv.Login("user-test-eve")
	mine := cookies(tokens)
	crossSite := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }
	sameSite := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }
	form := func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }
	navigate := func(r *http.Request) { r.Header.Set("Sec-Fetch-Mode", "navigate") }
	silent := func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Del("Sec-Fetch-Mode") }
	mixed := stytchhttp.Tokens{SessionToken: tokens.SessionToken, SessionJWT: eve.SessionJWT}

	cases := []struct {
		name    string
		request *http.Request
		status  int
		code    string
	}{
		{"get without a session", ask("GET", "/session/", ""), 401, "no_session"},
		{"another path", ask("GET", "/session/other", ""), 404, "not_found"},
		{"no slash after the prefix", ask("POST", "/sessionrevoke", "", mine), 404, "not_found"},
		{"another prefix", ask("GET", "/other/", ""), 404, "not_found"},
		{"a wrong method", ask("DELETE", "/session/", "", mine), 405, "method_not_allowed"},
		{"tokens by GET", ask("GET", "/session/tokens", "", mine), 405, "method_not_allowed"},
		{"revoke by GET", ask("GET", "/session/revoke", "", mine), 405, "method_not_allowed"},
		{"update without a token", ask("PUT", "/session/", `{}`), 400, "invalid_request"},
		{"update with a JWT alone", ask("PUT", "/session/", plainJSON(jwtOnly(tokens))), 400, "invalid_request"},
		{"update with an unknown member", ask("PUT", "/session/", `{"session_token":"x","role":"admin"}`), 400, "invalid_request"},
		{"update with a wrong type", ask("PUT", "/session/", `{"session_token":1}`), 400, "invalid_request"},
		{"update with more than one object", ask("PUT", "/session/", plainJSON(tokens)+`{}`), 400, "invalid_request"},
		{"update with a list", ask("PUT", "/session/", `[]`), 400, "invalid_request"},
		{"update by a form", ask("PUT", "/session/", "session_token="+tokens.SessionToken, form), 415, "unsupported_media_type"},
		{"a body over 64 KiB", ask("PUT", "/session/", `{"session_token":"`+strings.Repeat("x", 65<<10)+`"}`), 413, "too_large"},
		{"update with a dead token", ask("PUT", "/session/", `{"session_token":"dead"}`), 401, "invalid_session"},
		{"update with a malformed token", ask("PUT", "/session/", `{"session_token":"a\r\nb"}`), 401, "invalid_session"},
		{"update with another session's JWT", ask("PUT", "/session/", plainJSON(mixed)), 401, "invalid_session"},
		{"update by another site: login CSRF", ask("PUT", "/session/", plainJSON(eve), crossSite), 403, "cross_origin"},
		{"authenticate for too short", ask("POST", "/session/authenticate", `{"session_duration_minutes":4}`, mine), 400, "invalid_request"},
		{"authenticate for too long", ask("POST", "/session/authenticate", `{"session_duration_minutes":527041}`, mine), 400, "invalid_request"},
		{"authenticate for ages", ask("POST", "/session/authenticate", `{"session_duration_minutes":9007199254740993}`, mine), 400, "invalid_request"},
		{"authenticate for a fraction", ask("POST", "/session/authenticate", `{"session_duration_minutes":5.5}`, mine), 400, "invalid_request"},
		{"authenticate without a session", ask("POST", "/session/authenticate", ""), 401, "no_session"},
		{"authenticate by another site", ask("POST", "/session/authenticate", "", mine, crossSite), 403, "cross_origin"},
		{"revoke by another site", ask("POST", "/session/revoke", "", mine, crossSite), 403, "cross_origin"},
		{"tokens for another site", ask("POST", "/session/tokens", "", mine, crossSite), 403, "cross_origin"},
		{"tokens for another origin of this site", ask("POST", "/session/tokens", "", mine, sameSite), 403, "cross_origin"},
		{"tokens for a form", ask("POST", "/session/tokens", "", mine, navigate), 403, "cross_origin"},
		{"tokens for who says nothing", ask("POST", "/session/tokens", "", mine, silent), 403, "cross_origin"},
		{"tokens without a session", ask("POST", "/session/tokens", ""), 401, "no_session"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := send(t, h, c.request).want(t, c.status, c.code)
			if len(a.Cookies()) > 0 {
				t.Errorf("it sets cookies: %v", a.Cookies())
			}
			if a.Header.Get("Cache-Control") != "private, no-store" {
				t.Errorf("Cache-Control: %q", a.Header.Get("Cache-Control"))
			}
			if c.status == 405 && a.Header.Get("Allow") == "" {
				t.Error("no Allow")
			}
		})
	}
	old := ask("POST", "/session/tokens", "", mine, silent, header("Origin", "https://app.example.com"))
	if a := send(t, h, old); a.StatusCode != 200 {
		t.Errorf("tokens for an older browser's script: %d %s", a.StatusCode, a.Body)
	}
	// An origin that may send unsafe requests may still not read the tokens.
	trusting := newRig(t, func(c *stytchhttp.Config) { c.TrustedOrigins = []string{"https://spa.example.com"} })
	theirs := ask("POST", "/session/tokens", "", cookies(trusting.srv.Login("user-test-ada")), crossSite, header("Origin", "https://spa.example.com"))
	send(t, trusting.auth.SessionHandler("/session"), theirs).want(t, 403, "cross_origin")

	off := newRig(t, func(c *stytchhttp.Config) { c.NoTokensEndpoint = true })
	send(t, off.auth.SessionHandler("/session"), ask("POST", "/session/tokens", "", cookies(off.srv.Login("user-test-ada")))).want(t, 404, "not_found")
}

func TestSessionEndpointsInAnOutage(t *testing.T) {
	g := newRig(t)
	h := g.auth.SessionHandler("/session")
	tokens := g.srv.Login("user-test-ada")
	g.srv.Break(stytchtest.Outage(), stytchtest.Authenticate, stytchtest.Revoke)
	if a := send(t, h, ask("GET", "/session/", "", cookies(tokens))); a.StatusCode != 200 {
		t.Errorf("get: %d", a.StatusCode)
	}
	send(t, h, ask("POST", "/session/authenticate", "", cookies(tokens))).want(t, 503, "unavailable")
	send(t, h, ask("PUT", "/session/", plainJSON(tokens))).want(t, 503, "unavailable")
	a := send(t, h, ask("POST", "/session/revoke", "", cookies(tokens))).want(t, 503, "unavailable")
	if len(a.Cookies()) == 0 || a.Header.Get("Cache-Control") != "private, no-store" {
		t.Error("revoke does not log the browser out")
	}
}

func TestHydrationScript(t *testing.T) {
	g := newRig(t, func(c *stytchhttp.Config) { c.Cookies.Mode = stytchhttp.CookiesHTTPOnly })
	tokens := g.srv.Login("user-test-ada")
	carry := func(r *http.Request) {
		r.AddCookie(&http.Cookie{Name: "stytchhttp_session", Value: tokens.SessionToken})
		r.AddCookie(&http.Cookie{Name: "stytchhttp_session_jwt", Value: tokens.SessionJWT})
	}
	page := func(nonce string) http.Handler {
		return g.auth.Hydrate(g.auth.AuthenticateOptional(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			script, err := stytchhttp.HydrationScript(r.Context(), nonce)
			if err != nil {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			_, _ = w.Write([]byte(script))
		})))
	}
	a := send(t, page("bm9uY2U="), get(carry))
	if !strings.HasPrefix(a.Body, `<script nonce="bm9uY2U=">`) || !strings.Contains(a.Body, `stytch.session.updateSession({"session_token":"`+tokens.SessionToken+`"`) {
		t.Error(a.Body)
	}
	if a.Header.Get("Cache-Control") != "private, no-store" {
		t.Errorf("Cache-Control: %q", a.Header.Get("Cache-Control"))
	}
	if a := send(t, page(""), get()); a.Body != "" || a.Header.Get("Cache-Control") != "" {
		t.Errorf("anonymous: %q", a.Body)
	}
	if a := send(t, page(`"><script>alert(1)</script>`), get(carry)); a.StatusCode != http.StatusTeapot {
		t.Errorf("a nonce that breaks out: %s", a.Body)
	}
	if script, err := stytchhttp.HydrationScript(t.Context(), ""); script != "" || err != nil {
		t.Errorf("without a request: %q %v", script, err)
	}
}

func TestExtendBySlidesTheSession(t *testing.T) {
	g := newRig(t, func(c *stytchhttp.Config) { c.ExtendBy = time.Hour })
	h := g.auth.Hydrate(g.auth.Authenticate(whoami))
	tokens := g.srv.Login("user-test-ada")
	// Somebody who is there every four minutes for a day is never logged out.
	renewed := 0
	for range 24 * 15 {
		a := send(t, h, get(cookies(tokens)))
		if a.StatusCode != 200 {
			t.Fatal(a.Body)
		}
		if held := stored(t, a, "https://app.example.com/"); len(held) > 0 {
			if a.Via != stytchhttp.ViaRemote || a.Header.Get("Cache-Control") != "private, no-store" {
				t.Fatalf("cookies via %s with Cache-Control %q", a.Via, a.Header.Get("Cache-Control"))
			}
			tokens = stytchhttp.Tokens{SessionToken: held["stytch_session"].Value, SessionJWT: held["stytch_session_jwt"].Value}
			renewed++
		} else if a.Via == stytchhttp.ViaRemote {
			t.Fatal("a session was extended without its cookies")
		}
		g.srv.Advance(4 * time.Minute)
	}
	if renewed < 100 || g.srv.Calls().Authenticate != renewed {
		t.Errorf("renewed %d times by %d calls", renewed, g.srv.Calls().Authenticate)
	}
	// A Bearer client has no cookies to renew.
	g.srv.Advance(6 * time.Minute)
	if a := send(t, h, get(bearer(tokens.SessionToken))).want(t, 200, "remote"); len(a.Cookies()) > 0 {
		t.Errorf("a Bearer client gets cookies: %v", a.Cookies())
	}
	g.srv.Advance(2 * time.Hour)
	send(t, h, get(cookies(tokens))).want(t, 401, "invalid_session")
}

func TestOnlyTheRequestThatExtendedTheSessionRenewsItsCookies(t *testing.T) {
	g := newRig(t, func(c *stytchhttp.Config) { c.ExtendBy = time.Hour })
	h := g.auth.Authenticate(whoami)
	tokens := g.srv.Login("user-test-ada")
	g.srv.Advance(6 * time.Minute)
	release := make(chan struct{})
	g.srv.Break(stytchtest.Hold(release), stytchtest.Authenticate)
	answers := make(chan answer, 20)
	for range cap(answers) {
		go func() { answers <- send(t, h, get(cookies(tokens))) }()
	}
	eventually(t, func() bool { return g.srv.Calls().Authenticate == 1 })
	close(release)
	renewed := 0
	for range cap(answers) {
		if a := <-answers; a.StatusCode != 200 {
			t.Error(a.Body)
		} else if len(a.Cookies()) > 0 {
			renewed++
		}
	}
	if renewed != 1 || g.srv.Calls().Authenticate != 1 {
		t.Errorf("%d answers renew cookies, after %d calls", renewed, g.srv.Calls().Authenticate)
	}
}

func TestExtendByIsWholeMinutesWithinStytchsBounds(t *testing.T) {
	for _, d := range []time.Duration{-time.Hour, time.Minute, 90 * time.Second, 527041 * time.Minute, 10*time.Minute + time.Second} {
		_, err := stytchhttp.New(stytchhttp.Config{ProjectID: "project-test-1", Secret: "s", ExtendBy: d})
		if err == nil || !strings.Contains(err.Error(), "Config.ExtendBy") {
			t.Errorf("%v: %v", d, err)
		}
	}
}

func TestRequestErrorsAreTestable(t *testing.T) {
	var got error
	g := newRig(t, func(c *stytchhttp.Config) {
		c.ErrorHandler = func(_ http.ResponseWriter, _ *http.Request, err error) { got = err }
	})
	send(t, g.auth.SessionHandler("/session"), ask("DELETE", "/session/", ""))
	var request *stytchhttp.RequestError
	if !errors.Is(got, stytchhttp.ErrInvalidRequest) || !errors.As(got, &request) || request.StatusCode != 405 {
		t.Errorf("got %v", got)
	}
}

func FuzzSessionEndpoints(f *testing.F) {
	auth, err := stytchhttp.New(stytchhttp.Config{ProjectID: "project-test-1", Secret: "s", BaseURL: "http://127.0.0.1:1"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { auth.Close() })
	h := auth.SessionHandler("/session")
	f.Add("PUT", "/", "application/json", `{"session_token":"a b"}`)
	f.Add("POST", "/authenticate", "application/json", `{"session_duration_minutes":5}`)
	f.Fuzz(func(t *testing.T, method, path, kind, body string) {
		if strings.Contains(body, "session_token") && !strings.Contains(body, " ") {
			return // would ask Stytch
		}
		r := httptest.NewRequest("PUT", "https://app.example.com/session/", strings.NewReader(body))
		r.Method, r.URL.Path = method, "/session"+path
		r.Header.Set("Content-Type", kind)
		if a := send(t, h, r); a.StatusCode >= 500 || len(a.Cookies()) > 0 && method != "POST" {
			t.Errorf("%d %s", a.StatusCode, a.Body)
		}
	})
}
