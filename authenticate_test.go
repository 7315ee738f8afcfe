package stytchhttp_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

func TestLadderServesByTheCheapestRung(t *testing.T) {
	g := newRig(t)
	h := g.auth.Hydrate(g.auth.Authenticate(whoami))
	tokens := g.srv.Login("user-test-ada", stytchtest.Claims(map[string]any{"plan": "gold"}))

	steps := []struct {
		name    string
		before  func()
		request *http.Request
		via     string
		calls   int // sessions/authenticate so far
	}{
		{"a JWT never seen is verified", nil, get(bearer(tokens.SessionJWT)), "local", 0},
		{"the same JWT again is known", nil, get(bearer(tokens.SessionJWT)), "cache", 0},
		{"so it is in a cookie", nil, get(cookies(tokens)), "cache", 0},
		{"an opaque token is asked about", nil, get(bearer(tokens.SessionToken)), "remote", 1},
		{"and then served by the JWT it was exchanged for", nil, get(bearer(tokens.SessionToken)), "exchanged", 1},
		{"so it is in a cookie", nil, get(cookies(tokenOnly(tokens))), "exchanged", 1},
		{"the exchanged JWT expires, the token is asked about again", func() { g.srv.Advance(6 * time.Minute) },
			get(bearer(tokens.SessionToken)), "remote", 2},
		{"an expired JWT leaves it to the token beside it", nil, get(cookies(tokens)), "exchanged", 2},
		{"an expired JWT alone is asked about", nil, get(bearer(tokens.SessionJWT)), "remote", 3},
		{"and then served by the JWT it was exchanged for", nil, get(bearer(tokens.SessionJWT)), "exchanged", 3},
	}
	for _, step := range steps {
		if step.before != nil {
			step.before()
		}
		a := send(t, h, step.request)
		if a.StatusCode != 200 || string(a.Via) != step.via || a.User != "user-test-ada" || a.Session != g.srv.SessionID(tokens) {
			t.Fatalf("%s: got %d %s", step.name, a.StatusCode, a.Body)
		}
		if string(a.Claims) != `{"plan":"gold"}` {
			t.Errorf("%s: claims %s", step.name, a.Claims)
		}
		if n := g.srv.Calls().Authenticate; n != step.calls {
			t.Fatalf("%s: %d remote calls, want %d", step.name, n, step.calls)
		}
		if len(a.Header["Set-Cookie"]) > 0 {
			t.Errorf("%s: an ordinary request writes cookies: %q", step.name, a.Header["Set-Cookie"])
		}
	}
	if n := g.srv.Calls().JWKS; n != 1 {
		t.Errorf("%d key fetches, want 1", n)
	}
}

func TestOneRemoteCallPerJWTLifetimeForATokenOnlyClient(t *testing.T) {
	g := newRig(t)
	h := g.auth.Authenticate(whoami)
	tokens := g.srv.Login("user-test-ada", stytchtest.Duration(24*time.Hour))
	for lifetime := 1; lifetime <= 3; lifetime++ {
		for range 50 {
			if a := send(t, h, get(bearer(tokens.SessionToken))); a.StatusCode != 200 {
				t.Fatal(a.Body)
			}
		}
		if n := g.srv.Calls().Authenticate; n != lifetime {
			t.Fatalf("%d remote calls in %d JWT lifetimes", n, lifetime)
		}
		g.srv.Advance(stytchtest.JWTLifetime)
	}
}

func TestManyRequestsWithOneExpiredJWTMakeOneCall(t *testing.T) {
	const requests = 2000
	g := newRig(t)
	h := g.auth.Hydrate(g.auth.Authenticate(whoami))
	tokens := g.srv.Login("user-test-ada")
	g.srv.Advance(6 * time.Minute)

	release := make(chan struct{})
	g.srv.Break(stytchtest.Hold(release), stytchtest.Authenticate)
	var arrived, done sync.WaitGroup
	arrived.Add(requests)
	codes := make([]int, requests)
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Done()
		h.ServeHTTP(w, r)
	})
	for i := range requests {
		done.Go(func() {
			w := httptest.NewRecorder()
			counted.ServeHTTP(w, get(bearer(tokens.SessionJWT)))
			codes[i] = w.Code
		})
	}
	arrived.Wait()
	close(release)
	done.Wait()
	for i, code := range codes {
		if code != 200 {
			t.Fatalf("request %d got %d", i, code)
		}
	}
	if n := g.srv.Calls().Authenticate; n != 1 {
		t.Errorf("%d remote calls, want 1", n)
	}
}

func TestASharedCallSurvivesTheRequestThatBeganIt(t *testing.T) {
	g := newRig(t)
	h := g.auth.Authenticate(whoami)
	tokens := g.srv.Login("user-test-ada")
	release := make(chan struct{})
	g.srv.Break(stytchtest.Hold(release), stytchtest.Authenticate)

	ctx, leave := context.WithCancel(context.Background())
	first := make(chan answer, 1)
	go func() { first <- send(t, h, get(bearer(tokens.SessionToken)).WithContext(ctx)) }()
	eventually(t, func() bool { return g.srv.Calls().Authenticate == 1 })
	second := make(chan answer, 1)
	go func() { second <- send(t, h, get(bearer(tokens.SessionToken))) }()
	leave()
	(<-first).want(t, 503, "unavailable")
	close(release)
	if a := <-second; a.StatusCode != 200 || (a.Via != stytchhttp.ViaRemote && a.Via != stytchhttp.ViaExchanged) {
		t.Fatal(a.Body)
	}
	if n := g.srv.Calls().Authenticate; n != 1 {
		t.Errorf("%d remote calls, want 1", n)
	}
}

func TestAnswers(t *testing.T) {
	g := newRig(t)
	other := stytchtest.NewServer(t)
	tokens := g.srv.Login("user-test-ada", stytchtest.Roles("editor"))
	dead := g.srv.Login("user-test-bob")
	g.srv.Revoke(g.srv.SessionID(dead))
	h := g.auth.Hydrate(g.auth.Authenticate(whoami))

	cases := []struct {
		name    string
		handler http.Handler
		request *http.Request
		status  int
		code    string
		header  map[string]string
	}{
		{"no credential", h, get(), 401, "no_session", map[string]string{"Www-Authenticate": "Bearer"}},
		{"another scheme is no credential", h, get(header("Authorization", "Basic YTpi")), 401, "no_session", nil},
		{"the SDK's undefined is no credential", h, get(cookies(stytchhttp.Tokens{SessionJWT: "undefined"})), 401, "no_session", nil},
		{"a Bearer scheme without a credential", h, get(header("Authorization", "Bearer ")), 401, "invalid_session",
			map[string]string{"Www-Authenticate": `Bearer error="invalid_token"`}},
		{"two Bearer credentials", h, get(bearer(tokens.SessionJWT), bearer(tokens.SessionJWT)), 401, "invalid_session", nil},
		{"a malformed Bearer credential does not fall back to cookies", h, get(bearer("a b"), cookies(tokens)), 401, "invalid_session", nil},
		{"another project's JWT", h, get(bearer(other.Login("user-test-eve").SessionJWT)), 401, "invalid_session", nil},
		{"a session that Stytch does not know", h, get(bearer(dead.SessionToken)), 401, "invalid_session", nil},
		{"a role that is missing", g.auth.Protect(stytchhttp.Role("admin"))(whoami), get(bearer(tokens.SessionJWT)), 403, "forbidden",
			map[string]string{"Www-Authenticate": `Bearer error="insufficient_scope"`}},
		{"Require without a session", g.auth.Require()(whoami), get(), 401, "no_session", nil},
		{"cookies from another origin", h, post(cookies(tokens), header("Sec-Fetch-Site", "cross-site")), 403, "cross_origin", nil},
		{"cookies from another origin behind AuthenticateOptional", g.auth.AuthenticateOptional(whoami),
			post(cookies(tokens), header("Sec-Fetch-Site", "cross-site")), 403, "cross_origin", nil},
		{"a websocket with cookies from another origin", h,
			get(cookies(tokens), header("Upgrade", "websocket"), header("Origin", "https://evil.example")), 403, "cross_origin", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := send(t, c.handler, c.request).want(t, c.status, c.code)
			for name, value := range c.header {
				if a.Header.Get(name) != value {
					t.Errorf("%s: %q, want %q", name, a.Header.Get(name), value)
				}
			}
			if a.Header.Get("Content-Type") != "application/problem+json" || a.Header.Get("Cache-Control") != "private, no-store" {
				t.Errorf("header %v", a.Header)
			}
			if c.status == 401 && a.Header.Get("Www-Authenticate") == "" {
				t.Error("a 401 without WWW-Authenticate")
			}
			if len(a.Header["Set-Cookie"]) > 0 {
				t.Errorf("a refusal writes cookies: %q", a.Header["Set-Cookie"])
			}
			if a.Header.Get("Vary") != "Authorization, Cookie" && c.name != "Require without a session" {
				t.Errorf("Vary: %q", a.Header.Get("Vary"))
			}
		})
	}
	allowed := []struct {
		name    string
		request *http.Request
	}{
		{"Bearer from another origin", post(bearer(tokens.SessionJWT), header("Sec-Fetch-Site", "cross-site"))},
		{"a safe request from another origin", get(cookies(tokens), header("Sec-Fetch-Site", "cross-site"))},
		{"an unsafe one from our own", post(cookies(tokens), header("Sec-Fetch-Site", "same-origin"))},
		{"a websocket from our own", get(cookies(tokens), header("Upgrade", "websocket"), header("Origin", "https://app.example.com"))},
		{"a malformed JWT cookie beside a good token", get(cookies(stytchhttp.Tokens{SessionToken: tokens.SessionToken, SessionJWT: "x"}))},
		{"undefined beside a good token", get(cookies(stytchhttp.Tokens{SessionToken: tokens.SessionToken, SessionJWT: "undefined"}))},
		{"the scheme in lower case", get(header("Authorization", "bearer "+tokens.SessionJWT))},
	}
	for _, c := range allowed {
		t.Run(c.name, func(t *testing.T) {
			if a := send(t, h, c.request); a.StatusCode != 200 || a.User != "user-test-ada" {
				t.Errorf("got %d %s", a.StatusCode, a.Body)
			}
		})
	}
}

func TestTrustedOriginsMaySendUnsafeRequests(t *testing.T) {
	g := newRig(t, func(c *stytchhttp.Config) { c.TrustedOrigins = []string{"https://spa.example.com"} })
	tokens := g.srv.Login("user-test-ada")
	h := g.auth.Authenticate(whoami)
	crossSite := header("Sec-Fetch-Site", "cross-site")
	send(t, h, post(cookies(tokens), crossSite, header("Origin", "https://spa.example.com"))).want(t, 200, "local")
	send(t, h, post(cookies(tokens), crossSite, header("Origin", "https://evil.example.com"))).want(t, 403, "cross_origin")
}

func TestADefinitiveRefusalIsRemembered(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada")
	g.srv.Revoke(g.srv.SessionID(tokens))
	h := g.auth.Authenticate(whoami)
	for range 100 {
		send(t, h, get(bearer(tokens.SessionToken))).want(t, 401, "invalid_session")
	}
	if n := g.srv.Calls().Authenticate; n != 1 {
		t.Errorf("%d remote calls, want 1", n)
	}
}

func TestAuthenticateOptional(t *testing.T) {
	g := newRig(t)
	h := g.auth.Hydrate(g.auth.AuthenticateOptional(whoami))
	tokens := g.srv.Login("user-test-ada")
	send(t, h, get(bearer(tokens.SessionJWT))).want(t, 200, "local")

	if a := send(t, h, get()).want(t, 200, ""); a.Err != stytchhttp.ErrNoSession.Error() {
		t.Errorf("anonymous: %q", a.Err)
	}
	if a := send(t, h, get(bearer("x.y.z"))).want(t, 200, ""); a.User != "" || a.Err == "" {
		t.Errorf("refused: %s", a.Body)
	}
	g.srv.Break(stytchtest.Outage())
	var reason error
	spy := g.auth.AuthenticateOptional(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		reason = stytchhttp.ErrFrom(r.Context())
	}))
	send(t, spy, get(bearer(tokens.SessionToken)))
	if !errors.Is(reason, stytchhttp.ErrUnavailable) {
		t.Errorf("in an outage: %v", reason)
	}
}

func TestAuthenticateWithin(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada")
	lax := g.auth.Authenticate(whoami)
	strict := g.auth.Hydrate(g.auth.AuthenticateWithin(30 * time.Second)(whoami))
	now := g.auth.Hydrate(g.auth.AuthenticateWithin(0)(whoami))

	send(t, strict, get(bearer(tokens.SessionJWT))).want(t, 200, "local")
	send(t, now, get(bearer(tokens.SessionJWT))).want(t, 200, "remote")
	g.srv.Advance(time.Minute)
	send(t, lax, get(bearer(tokens.SessionJWT))).want(t, 200, "cache")
	send(t, strict, get(bearer(tokens.SessionJWT))).want(t, 200, "remote")
	send(t, strict, get(bearer(tokens.SessionJWT))).want(t, 200, "exchanged")
	send(t, now, get(bearer(tokens.SessionJWT))).want(t, 200, "remote")

	g.srv.Revoke(g.srv.SessionID(tokens))
	send(t, lax, get(bearer(tokens.SessionJWT))).want(t, 200, "cache")
	send(t, now, get(bearer(tokens.SessionJWT))).want(t, 401, "invalid_session")
}

// A request that asks for an answer of now must not be given that of a call which began before, when the session still
// lived; and a crowd of them must not make a crowd of calls.
func TestAuthenticateWithinZeroJoinsNoCallThatBeganBefore(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada")
	h := g.auth.AuthenticateWithin(0)(whoami)

	answered := make(chan struct{})
	var once sync.Once
	seen := make(chan struct{}, 100)
	// The first call is answered before the revocation but arrives after it.
	g.srv.Break(func(w http.ResponseWriter, r *http.Request, quit <-chan struct{}) bool {
		first := false
		once.Do(func() { first = true })
		if !first {
			return false
		}
		rec := httptest.NewRecorder()
		g.srv.Heal()
		g.srv.ServeHTTP(rec, r)
		seen <- struct{}{}
		<-answered
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
		return true
	}, stytchtest.Authenticate)

	before := make(chan answer, 1)
	go func() { before <- send(t, h, get(bearer(tokens.SessionToken))) }()
	<-seen
	g.srv.Revoke(g.srv.SessionID(tokens))
	const crowd = 50
	after := make(chan answer, crowd)
	for range crowd {
		go func() { after <- send(t, h, get(bearer(tokens.SessionToken))) }()
	}
	close(answered)
	(<-before).want(t, 200, "remote")
	for range crowd {
		(<-after).want(t, 401, "invalid_session")
	}
	if n := g.srv.Calls().Authenticate; n > 5 {
		t.Errorf("%d remote calls for %d requests", n, crowd+1)
	}
}

func TestMaxTokenAge(t *testing.T) {
	g := newRig(t, func(c *stytchhttp.Config) { c.MaxTokenAge = time.Minute })
	h := g.auth.Authenticate(whoami)
	tokens := g.srv.Login("user-test-ada")
	send(t, h, get(bearer(tokens.SessionJWT))).want(t, 200, "local")
	g.srv.Advance(61 * time.Second)
	send(t, h, get(bearer(tokens.SessionJWT))).want(t, 200, "remote")
}

func TestLeeway(t *testing.T) {
	g := newRig(t, func(c *stytchhttp.Config) { c.Leeway = 30 * time.Second })
	h := g.auth.Authenticate(whoami)
	tokens := g.srv.Login("user-test-ada")
	g.srv.Advance(stytchtest.JWTLifetime + 10*time.Second)
	send(t, h, get(bearer(tokens.SessionJWT))).want(t, 200, "local")
	g.srv.Advance(30 * time.Second)
	send(t, h, get(bearer(tokens.SessionJWT))).want(t, 200, "remote")
}

// A clock that is behind must not log anybody out.
func TestAJWTFromTheFutureIsAskedAbout(t *testing.T) {
	g := newRig(t)
	g.srv.Advance(time.Minute)
	tokens := g.srv.Login("user-test-ada")
	g.srv.Advance(-time.Minute)
	send(t, g.auth.Authenticate(whoami), get(bearer(tokens.SessionJWT))).want(t, 200, "remote")
}

func TestStaleGrace(t *testing.T) {
	g := newRig(t, func(c *stytchhttp.Config) { c.StaleGrace = 10 * time.Minute })
	h := g.auth.Authenticate(whoami)
	tokens := g.srv.Login("user-test-ada")
	g.srv.Break(stytchtest.Outage(), stytchtest.Authenticate)
	g.srv.Advance(6 * time.Minute)
	send(t, h, get(bearer(tokens.SessionJWT))).want(t, 200, "stale")
	send(t, g.auth.AuthenticateWithin(time.Hour)(whoami), get(bearer(tokens.SessionJWT))).want(t, 503, "unavailable")
	send(t, h, get(bearer(tokens.SessionToken))).want(t, 503, "unavailable")
	g.srv.Advance(10 * time.Minute)
	send(t, h, get(bearer(tokens.SessionJWT))).want(t, 503, "unavailable")
}

func TestASessionEndsWithItsOwnExpiryNotWithItsJWT(t *testing.T) {
	g := newRig(t)
	h := g.auth.Authenticate(whoami)
	tokens := g.srv.Login("user-test-ada", stytchtest.Duration(time.Minute))
	send(t, h, get(bearer(tokens.SessionJWT))).want(t, 200, "local")
	g.srv.Advance(2 * time.Minute)
	send(t, h, get(bearer(tokens.SessionJWT))).want(t, 401, "invalid_session")
}

func TestWithoutACacheEveryRequestIsProvenAnew(t *testing.T) {
	g := newRig(t, func(c *stytchhttp.Config) { c.CacheSize = -1 })
	h := g.auth.Authenticate(whoami)
	tokens := g.srv.Login("user-test-ada")
	for range 3 {
		send(t, h, get(bearer(tokens.SessionJWT))).want(t, 200, "local")
		send(t, h, get(bearer(tokens.SessionToken))).want(t, 200, "remote")
	}
}

func TestALoggerBetweenTheWrappersLearnsWhoItWas(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada")
	var user string
	logger := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r)
			if s, ok := stytchhttp.SessionFrom(r.Context()); ok {
				user = s.UserID()
			}
		})
	}
	send(t, g.auth.Hydrate(logger(g.auth.Authenticate(whoami))), get(bearer(tokens.SessionJWT))).want(t, 200, "local")
	if user != "user-test-ada" {
		t.Errorf("the logger saw %q", user)
	}
}

func TestTwoProjectsOnOneRequestStayApart(t *testing.T) {
	a, b := newRig(t), newRig(t)
	tokens := a.srv.Login("user-test-ada", stytchtest.Roles("admin"))
	send(t, a.auth.Authenticate(b.auth.Authenticate(whoami)), get(bearer(tokens.SessionJWT))).want(t, 401, "invalid_session")
	send(t, a.auth.Authenticate(b.auth.Require(stytchhttp.Role("admin"))(whoami)), get(bearer(tokens.SessionJWT))).want(t, 401, "no_session")
}

func TestObserveHearsOfEveryDecisionAndCall(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada")
	h := g.auth.Protect(stytchhttp.Role("admin"))(whoami)
	send(t, h, get(bearer(tokens.SessionToken))).want(t, 403, "forbidden")
	send(t, h, get()).want(t, 401, "no_session")

	decisions := g.eventsOf(stytchhttp.EventDecision)
	if len(decisions) != 3 {
		t.Fatalf("decisions: %+v", decisions)
	}
	if d := decisions[0]; d.Err != nil || d.Via != stytchhttp.ViaRemote || d.SessionID != g.srv.SessionID(tokens) || d.Duration <= 0 {
		t.Errorf("authenticated: %+v", d)
	}
	if d := decisions[1]; !errors.Is(d.Err, stytchhttp.ErrForbidden) {
		t.Errorf("forbidden: %+v", d)
	}
	if d := decisions[2]; !errors.Is(d.Err, stytchhttp.ErrNoSession) || d.SessionID != "" {
		t.Errorf("anonymous: %+v", d)
	}
	if calls := g.eventsOf(stytchhttp.EventAuthenticateCall); len(calls) != 1 || calls[0].Err != nil || calls[0].Attempt != 1 {
		t.Errorf("calls: %+v", calls)
	}
	eventually(t, func() bool {
		refreshes := g.eventsOf(stytchhttp.EventKeyRefresh)
		return len(refreshes) == 1 && refreshes[0].Keys == 1
	})
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t testing.TB, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 10 s")
		}
		time.Sleep(time.Millisecond)
	}
}
