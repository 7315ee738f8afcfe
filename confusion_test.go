package stytchhttp_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

// Of several cookies of one name the browser SDK reads the first that the browser lists: page and backend must agree on who
// the user is.
func TestOfTwoCookiesOfOneNameTheFirstCounts(t *testing.T) {
	g := newRig(t)
	ada, eve := g.srv.Login("user-test-ada"), g.srv.Login("user-test-eve")
	for name, r := range map[string]*http.Request{
		"in one header":                    get(header("Cookie", "stytch_session_jwt="+ada.SessionJWT+"; stytch_session_jwt="+eve.SessionJWT)),
		"in two headers":                   get(header("Cookie", "stytch_session_jwt="+ada.SessionJWT), header("Cookie", "stytch_session_jwt="+eve.SessionJWT)),
		"a name that ends alike":           get(header("Cookie", "xstytch_session_jwt="+eve.SessionJWT+"; stytch_session_jwt="+ada.SessionJWT)),
		"a value that looks like a cookie": get(header("Cookie", `x="stytch_session_jwt=`+eve.SessionJWT+`"; stytch_session_jwt=`+ada.SessionJWT)),
	} {
		if a := send(t, g.auth.Authenticate(whoami), r); a.User != "user-test-ada" {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.Body)
		}
	}
}

// Each token speaks for its own session only: the JWT while it holds, then the session token.
func TestATokenOfOneSessionWithTheJWTOfAnother(t *testing.T) {
	g := newRig(t)
	ada, bob := g.srv.Login("user-test-ada"), g.srv.Login("user-test-bob")
	mixed := cookies(stytchhttp.Tokens{SessionToken: ada.SessionToken, SessionJWT: bob.SessionJWT})
	h := g.auth.Authenticate(whoami)
	if a := send(t, h, get(mixed)).want(t, 200, "local"); a.Session != g.srv.SessionID(bob) || a.User != "user-test-bob" {
		t.Error(a.Body)
	}
	g.srv.Advance(6 * time.Minute)
	if a := send(t, h, get(mixed)).want(t, 200, "remote"); a.Session != g.srv.SessionID(ada) || a.User != "user-test-ada" {
		t.Error(a.Body)
	}
	// Neither has become the other's.
	if a := send(t, h, get(cookies(bob))); a.User != "user-test-bob" {
		t.Error(a.Body)
	}
}

func TestCrossOriginRequestsInEveryForm(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada")
	h := g.auth.Authenticate(whoami)
	forms := []struct {
		name    string
		header  [2]string
		refused bool
	}{
		{"cross-site", [2]string{"Sec-Fetch-Site", "cross-site"}, true},
		{"same-site: a sibling's page", [2]string{"Sec-Fetch-Site", "same-site"}, true},
		{"a value nobody knows", [2]string{"Sec-Fetch-Site", "moon"}, true},
		{"an older browser", [2]string{"Origin", "https://evil.example"}, true},
		{"an older browser, another port", [2]string{"Origin", "https://app.example.com:8443"}, true},
		{"an older browser, a sandboxed frame", [2]string{"Origin", "null"}, true},
		{"an origin that begins like ours", [2]string{"Origin", "https://app.example.com.evil.example"}, true},
		{"same-origin", [2]string{"Sec-Fetch-Site", "same-origin"}, false},
		{"typed by the user", [2]string{"Sec-Fetch-Site", "none"}, false},
		{"an older browser, our origin", [2]string{"Origin", "https://app.example.com"}, false},
		{"no browser", [2]string{"User-Agent", "curl"}, false},
	}
	for _, form := range forms {
		for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "TRACE", "PROPFIND"} {
			safe := method == "GET" || method == "HEAD" || method == "OPTIONS"
			r := httptest.NewRequest(http.MethodPost, "https://app.example.com/", nil)
			r.Method = method
			cookies(tokens)(r)
			r.Header.Set(form.header[0], form.header[1])
			a := send(t, h, r)
			if refused := a.StatusCode == 403; refused != (form.refused && !safe) {
				t.Errorf("%s %s: %d", method, form.name, a.StatusCode)
			}
			if r := g.auth.UpdateSession(httptest.NewRecorder(), r, tokens); (r != nil) != (form.refused && !safe) {
				t.Errorf("UpdateSession by %s %s: %v", method, form.name, r)
			}
		}
	}
}

func TestHostHeaderGames(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada")
	for host, secure := range map[string]bool{
		"localhost": false, "LOCALHOST:80": false, "localhost.": false, "[::1]:3000": false, "127.8.8.8": false,
		"localhost.evil.example": true, "evil.example/localhost": true, "127.0.0.1.evil.example": true, "notlocalhost": true,
		"[::1].evil.example": true, "": true, "127.1": true, "0.0.0.0": true, "evil.example\r\nSet-Cookie: x=y": true,
	} {
		r := httptest.NewRequest("POST", "http://placeholder/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		if err := g.auth.UpdateSession(w, r, tokens); err != nil {
			t.Errorf("%q: %v", host, err)
		}
		for _, c := range w.Result().Cookies() {
			if c.Secure != secure {
				t.Errorf("host %q: Secure %v", host, c.Secure)
			}
		}
		for _, line := range w.Header()["Set-Cookie"] {
			if strings.ContainsAny(line, "\r\n") {
				t.Errorf("host %q: a header of two lines", host)
			}
		}
	}
	// A proxy that took TLS off and names its upstream as the host.
	r := httptest.NewRequest("POST", "http://127.0.0.1:3000/", nil)
	r.Header.Set("X-Forwarded-Proto", "https")
	w := httptest.NewRecorder()
	if err := g.auth.UpdateSession(w, r, tokens); err != nil {
		t.Fatal(err)
	}
	for _, c := range w.Result().Cookies() {
		if !c.Secure {
			t.Error("behind TLS a cookie is not Secure")
		}
	}
}

func TestHostileKids(t *testing.T) {
	g := newRig(t)
	h := g.auth.Authenticate(whoami)
	claims := claimsOf(t, g.srv.Login("user-test-ada").SessionJWT, nil)
	for _, kid := range []any{"../../../etc/passwd", "' OR 1=1 --", "https://evil.example/jwks", "\x00", "a\r\nSet-Cookie: x=y", strings.Repeat("k", 9000),
		"<script>", "${jndi:ldap://evil}", "\u202e", []string{"a"}, object{"a": 1}, true, 1e308} {
		a := send(t, h, get(bearer(g.srv.Sign(object{"kid": kid}, claims))))
		if a.StatusCode != 401 && a.StatusCode != 503 {
			t.Errorf("%v: %d", kid, a.StatusCode)
		}
	}
	if calls := g.srv.Calls(); calls.Authenticate != 0 || calls.JWKS > 2 {
		t.Errorf("calls: %+v", calls)
	}
}

// Everything that can be written down, in every situation, at every level: no credential is in it.
func TestNoCredentialLeaksIntoLogsErrorsOrAnswers(t *testing.T) {
	var mu sync.Mutex
	var said bytes.Buffer
	note := func(v ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(&said, v...)
		for _, x := range v {
			fmt.Fprintf(&said, "%+v %#v\n", x, x)
		}
	}
	srv := stytchtest.NewServer(t)
	locked := &lockedWriter{mu: &mu, w: &said}
	g := newColdRig(t, srv, func(c *stytchhttp.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(locked, &slog.HandlerOptions{Level: slog.LevelDebug - 10, AddSource: true}))
		c.Observe = func(_ context.Context, e stytchhttp.Event) { note(e, e.Err) }
		c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
			note(err)
			stytchhttp.WriteProblem(w, r, err)
		}
	})
	tokens := srv.Login("user-test-ada")
	forged := tokens.SessionJWT[:len(tokens.SessionJWT)-20] + strings.Repeat("A", 20)
	requests := func() {
		for _, r := range []*http.Request{
			get(bearer(tokens.SessionJWT)), get(bearer(tokens.SessionToken)), get(cookies(tokens)), get(bearer(forged)),
			get(bearer(tokens.SessionToken + "x")), get(bearer(tokens.SessionJWT + ".x")), get(header("Authorization", "Bearer "+tokens.SessionToken+" x")),
			post(cookies(tokens), header("Sec-Fetch-Site", "cross-site")),
		} {
			a := send(t, g.auth.Protect(stytchhttp.Role("admin"))(whoami), r)
			note(a.Body, a.Header)
		}
		_, err := update(t, g, stytchhttp.Tokens{SessionToken: tokens.SessionToken, SessionJWT: forged}, post())
		note(err, g.auth.Ready(t.Context()))
	}
	requests()
	for _, fault := range []stytchtest.Fault{stytchtest.Outage(), stytchtest.Drop(), stytchtest.Garbage(200), stytchtest.Status(401, "unauthorized_credentials")} {
		srv.Advance(6 * time.Minute)
		srv.Break(fault)
		requests()
		srv.Heal()
	}
	_, err := logout(t, g, post(cookies(tokens)))
	note(err)
	g.auth.Close()
	text := said.String()
	for name, secret := range map[string]string{
		"session token": tokens.SessionToken, "its beginning": tokens.SessionToken[:12], "JWT": tokens.SessionJWT, "payload": strings.Split(tokens.SessionJWT, ".")[1][:60],
		"signature": strings.Split(tokens.SessionJWT, ".")[2][:30], "secret": srv.Secret, "its beginning too": srv.Secret[:24],
	} {
		if strings.Contains(text, secret) {
			i := strings.Index(text, secret)
			t.Errorf("the %s is written down: …%s", name, text[max(0, i-200):i])
		}
	}
	if len(text) < 5000 {
		t.Errorf("only %d bytes were written down: this test looks at too little", len(text))
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// What an attacker's request costs. Run with: go test -run '^$' -bench Refus
func BenchmarkRefusal(b *testing.B) {
	g := newRig(b, func(c *stytchhttp.Config) { c.Observe = nil })
	h := g.auth.Hydrate(g.auth.AuthenticateOptional(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	genuine := g.srv.Login("user-test-ada").SessionJWT
	other := stytchtest.NewServer(b).Login("user-test-eve").SessionJWT
	for _, c := range []struct{ name, credential string }{
		{"garbage", "not a token"},
		{"another project's JWT", other},
		{"a forged signature", genuine[:len(genuine)-20] + strings.Repeat("A", 20)},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := get(bearer(c.credential))
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				clear(w.Header())
				h.ServeHTTP(w, r)
			}
		})
	}
}
