package stytchhttp_test

import (
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

// update runs UpdateSession in a hydrated request and returns the answer, which tells what the accessors say afterwards.
func update(t *testing.T, g *rig, tokens stytchhttp.Tokens, r *http.Request) (answer, error) {
	t.Helper()
	var err error
	h := g.auth.Hydrate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err = g.auth.UpdateSession(w, r, tokens)
		whoami.ServeHTTP(w, r)
	}))
	return send(t, h, r), err
}

// stored are the cookies that a browser holds after this answer, by name.
func stored(t *testing.T, a answer, address string) map[string]*http.Cookie {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	jar, _ := cookiejar.New(nil)
	jar.SetCookies(u, a.Cookies())
	found := map[string]*http.Cookie{}
	for _, c := range jar.Cookies(u) {
		for _, set := range a.Cookies() {
			if set.Name == c.Name && set.Value == c.Value {
				found[c.Name] = set
			}
		}
	}
	return found
}

func TestUpdateSessionSetsTheBrowserSDKsCookies(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada", stytchtest.Duration(2*time.Hour))
	expires := g.srv.Now().Add(2 * time.Hour).Truncate(time.Second)
	a, err := update(t, g, tokens, post())
	if err != nil {
		t.Fatal(err)
	}
	if a.User != "user-test-ada" || a.Via != stytchhttp.ViaLocal {
		t.Errorf("this request: %s", a.Body)
	}
	if cc := a.Header.Get("Cache-Control"); cc != "private, no-store" {
		t.Errorf("Cache-Control: %q", cc)
	}
	held := stored(t, a, "https://app.example.com/")
	for name, value := range map[string]string{"stytch_session": tokens.SessionToken, "stytch_session_jwt": tokens.SessionJWT} {
		c := held[name]
		if c == nil || c.Value != value {
			t.Fatalf("%s is not stored", name)
		}
		if c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode || !c.Secure || c.HttpOnly {
			t.Errorf("%s: %s", name, strings.Replace(c.String(), value, "…", 1))
		}
		if d := c.Expires.Sub(expires).Abs(); d > time.Second {
			t.Errorf("%s expires %v off the session's end", name, d)
		}
	}
	if g.srv.Calls().Authenticate != 0 {
		t.Error("a JWT that holds needs no call")
	}
}

func TestUpdateSessionWithoutAJWTFetchesOne(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada")
	for _, jwt := range []string{"", "undefined"} {
		a, err := update(t, g, stytchhttp.Tokens{SessionToken: tokens.SessionToken, SessionJWT: jwt}, post())
		if err != nil {
			t.Fatal(err)
		}
		held := stored(t, a, "https://app.example.com/")
		if held["stytch_session"] == nil || held["stytch_session_jwt"] == nil || a.Via != stytchhttp.ViaRemote {
			t.Errorf("JWT %q: %v, via %s", jwt, held, a.Via)
		}
	}
}

func TestUpdateSessionRefuses(t *testing.T) {
	g := newRig(t)
	other := stytchtest.NewServer(t).Login("user-test-eve")
	tokens := g.srv.Login("user-test-ada")
	dead := g.srv.Login("user-test-bob")
	g.srv.Revoke(g.srv.SessionID(dead))
	cases := []struct {
		name   string
		tokens stytchhttp.Tokens
		change func(*http.Request)
		want   error
	}{
		{"nothing", stytchhttp.Tokens{}, nil, stytchhttp.ErrNoSession},
		{"a JWT alone", jwtOnly(tokens), nil, stytchhttp.ErrNoSession},
		{"a token that is none", stytchhttp.Tokens{SessionToken: "a\r\nSet-Cookie: x=y"}, nil, stytchhttp.ErrInvalidSession},
		{"a JWT that is none", stytchhttp.Tokens{SessionToken: tokens.SessionToken, SessionJWT: "x"}, nil, stytchhttp.ErrInvalidSession},
		{"another project's JWT", stytchhttp.Tokens{SessionToken: tokens.SessionToken, SessionJWT: other.SessionJWT}, nil, stytchhttp.ErrInvalidSession},
		{"a token that Stytch does not know", tokenOnly(other), nil, stytchhttp.ErrInvalidSession},
		{"a dead session", tokenOnly(dead), nil, stytchhttp.ErrInvalidSession},
		{"a form on another site", tokens, header("Sec-Fetch-Site", "cross-site"), stytchhttp.ErrCrossOrigin},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := post()
			if c.change != nil {
				c.change(r)
			}
			a, err := update(t, g, c.tokens, r)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if len(a.Header["Set-Cookie"]) > 0 || a.User != "" {
				t.Errorf("it wrote %q, user %q", a.Header["Set-Cookie"], a.User)
			}
		})
	}
	g.srv.Break(stytchtest.Outage())
	if a, err := update(t, g, tokenOnly(tokens), post()); !errors.Is(err, stytchhttp.ErrUnavailable) || len(a.Header["Set-Cookie"]) > 0 {
		t.Errorf("in an outage: %v, %q", err, a.Header["Set-Cookie"])
	}
}

// An old session's JWT that stayed beside a new session's token would speak for the old user.
func TestUpdateSessionLeavesNothingOfTheSessionBefore(t *testing.T) {
	g := newRig(t)
	big := g.srv.Login("user-test-bob", stytchtest.Claims(map[string]any{"padding": strings.Repeat("x", 4000)}))
	before := []*http.Cookie{
		{Name: "stytch_session", Value: "old", Path: "/"},
		{Name: "stytch_session_jwt", Value: "old", Path: "/"},
		{Name: "stytch_session", Value: "old", Path: "/", Domain: "app.example.com"},
		{Name: "stytch_session_jwt", Value: "old", Path: "/", Domain: "app.example.com"},
	}
	u, _ := url.Parse("https://app.example.com/")
	jar, _ := cookiejar.New(nil)
	jar.SetCookies(u, before)
	a, err := update(t, g, big, post())
	if err != nil {
		t.Fatal(err)
	}
	jar.SetCookies(u, a.Cookies())
	held := jar.Cookies(u)
	if len(held) != 1 || held[0].Name != "stytch_session" || held[0].Value != big.SessionToken {
		t.Errorf("the browser holds %d cookies, want the session token alone, since the JWT fits no cookie", len(held))
	}
}

func TestCookieConfig(t *testing.T) {
	cases := []struct {
		name    string
		config  stytchhttp.CookieConfig
		address string
		want    string // the session token's cookie, less its value and expiry
	}{
		{"the SDK's", stytchhttp.CookieConfig{}, "https://app.example.com/", "stytch_session=…; Path=/; Secure; SameSite=Lax"},
		{"on localhost", stytchhttp.CookieConfig{}, "http://localhost:3000/", "stytch_session=…; Path=/; SameSite=Lax"},
		{"below localhost", stytchhttp.CookieConfig{}, "http://app.localhost/", "stytch_session=…; Path=/; SameSite=Lax"},
		{"on a loopback address", stytchhttp.CookieConfig{}, "http://127.0.0.1:3000/", "stytch_session=…; Path=/; SameSite=Lax"},
		{"on ::1", stytchhttp.CookieConfig{}, "http://[::1]:3000/", "stytch_session=…; Path=/; SameSite=Lax"},
		{"by plain http elsewhere", stytchhttp.CookieConfig{}, "http://app.example.com/", "stytch_session=…; Path=/; Secure; SameSite=Lax"},
		{"a host that looks like loopback", stytchhttp.CookieConfig{}, "http://127.0.0.1.example.com/", "stytch_session=…; Path=/; Secure; SameSite=Lax"},
		{"names, domain and path", stytchhttp.CookieConfig{SessionTokenName: "st", SessionJWTName: "sj", Domain: ".example.com", Path: "/api"},
			"https://app.example.com/", "st=…; Path=/api; Domain=example.com; Secure; SameSite=Lax"},
		{"http-only", stytchhttp.CookieConfig{Mode: stytchhttp.CookiesHTTPOnly}, "https://app.example.com/",
			"stytchhttp_session=…; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{"http-only with __Host-", stytchhttp.CookieConfig{Mode: stytchhttp.CookiesHTTPOnly, SessionTokenName: "__Host-s", SessionJWTName: "__Host-j"},
			"http://localhost/", "__Host-s=…; Path=/; HttpOnly; Secure; SameSite=Lax"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t, func(config *stytchhttp.Config) { config.Cookies = c.config })
			tokens := g.srv.Login("user-test-ada")
			a, err := update(t, g, tokens, httptest.NewRequest("POST", c.address, nil))
			if err != nil {
				t.Fatal(err)
			}
			var got string
			for _, set := range a.Cookies() {
				if set.Value == tokens.SessionToken {
					set.Value, set.Expires = "", time.Time{}
					got = strings.Replace(set.String(), "=;", "=…;", 1)
				}
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			seen := map[[3]string]bool{}
			for _, set := range a.Cookies() {
				id := [3]string{set.Name, set.Domain, set.Path}
				if seen[id] {
					t.Errorf("the cookie %v is set twice", id)
				}
				seen[id] = true
			}
		})
	}
}

// A page that hydrates the SDK makes it write cookies of its own beside ours.
func TestInHTTPOnlyModeTheSDKsCookiesAreNoCredential(t *testing.T) {
	g := newRig(t, func(c *stytchhttp.Config) { c.Cookies.Mode = stytchhttp.CookiesHTTPOnly })
	tokens := g.srv.Login("user-test-ada")
	h := g.auth.Authenticate(whoami)
	send(t, h, get(cookies(tokens))).want(t, 401, "no_session")
	ours := func(r *http.Request) {
		r.AddCookie(&http.Cookie{Name: "stytchhttp_session", Value: tokens.SessionToken})
		r.AddCookie(&http.Cookie{Name: "stytchhttp_session_jwt", Value: tokens.SessionJWT})
	}
	send(t, h, get(cookies(g.srv.Login("user-test-eve")), ours)).want(t, 200, "local")
}

// logout runs Revoke and returns the answer and its error.
func logout(t *testing.T, g *rig, r *http.Request) (answer, error) {
	t.Helper()
	var err error
	a := send(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { err = g.auth.Revoke(w, r) }), r)
	return a, err
}

func TestAStolenCopyOfTheCookiesDoesNotOutliveTheLogout(t *testing.T) {
	for name, carry := range map[string]func(stytchhttp.Tokens) stytchhttp.Tokens{
		"both tokens":   func(t stytchhttp.Tokens) stytchhttp.Tokens { return t },
		"session token": tokenOnly,
		"JWT":           jwtOnly,
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			h := g.auth.Authenticate(whoami)
			tokens := g.srv.Login("user-test-ada")
			thiefs := []*http.Request{get(cookies(tokens)), get(bearer(tokens.SessionJWT)), get(bearer(tokens.SessionToken))}
			for _, r := range thiefs {
				if a := send(t, h, r); a.StatusCode != 200 {
					t.Fatal(a.Body)
				}
			}
			a, err := logout(t, g, post(cookies(carry(tokens))))
			if err != nil {
				t.Fatal(err)
			}
			if held := stored(t, a, "https://app.example.com/"); len(held) > 0 {
				t.Errorf("the browser keeps %v", held)
			}
			for _, r := range thiefs {
				send(t, h, r).want(t, 401, "invalid_session")
			}
			if n := g.srv.Calls().Revoke; n != 1 {
				t.Errorf("%d revoke calls", n)
			}
		})
	}
}

func TestRevokeRemovesTheCookiesInEveryVariant(t *testing.T) {
	g := newRig(t, func(c *stytchhttp.Config) {
		c.Cookies = stytchhttp.CookieConfig{Mode: stytchhttp.CookiesHTTPOnly, Domain: "example.com", Path: "/app"}
	})
	u, _ := url.Parse("https://app.example.com/app/")
	jar, _ := cookiejar.New(nil)
	var before []*http.Cookie
	for _, name := range []string{"stytch_session", "stytch_session_jwt", "stytchhttp_session", "stytchhttp_session_jwt"} {
		for _, domain := range []string{"", "app.example.com", "example.com"} {
			for _, path := range []string{"/", "/app"} {
				before = append(before, &http.Cookie{Name: name, Value: "v", Domain: domain, Path: path})
			}
		}
	}
	jar.SetCookies(u, before)
	// Go's jar, unlike Chromium, takes this host and Domain=this host for the same cookie.
	if n := len(jar.Cookies(u)); n != len(before)*2/3 {
		t.Fatalf("the jar holds %d cookies, want %d", n, len(before)*2/3)
	}
	a, err := logout(t, g, httptest.NewRequest("POST", "https://app.example.com/app/logout", nil))
	if err != nil {
		t.Fatal(err)
	}
	jar.SetCookies(u, a.Cookies())
	if left := jar.Cookies(u); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if a.Header.Get("Cache-Control") != "private, no-store" {
		t.Errorf("Cache-Control: %q", a.Header.Get("Cache-Control"))
	}
}

func TestALogoutDuringAnOutageHoldsHere(t *testing.T) {
	g := newRig(t)
	h := g.auth.Authenticate(whoami)
	known, unknown := g.srv.Login("user-test-ada"), g.srv.Login("user-test-bob")
	g.srv.Break(stytchtest.Outage(), stytchtest.Authenticate, stytchtest.Revoke)

	for _, tokens := range []stytchhttp.Tokens{known, tokenOnly(unknown)} {
		a, err := logout(t, g, post(cookies(tokens)))
		if !errors.Is(err, stytchhttp.ErrUnavailable) {
			t.Errorf("the caller hears %v", err)
		}
		if len(a.Cookies()) == 0 || len(stored(t, a, "https://app.example.com/")) > 0 {
			t.Error("the browser is not logged out")
		}
	}
	g.srv.Heal()
	eventually(t, func() bool { // the breaker lets calls through again
		return send(t, h, get(bearer(g.srv.Login("user-test-eve").SessionToken))).StatusCode == 200
	})
	// Stytch does not know that they are gone.
	send(t, h, get(cookies(known))).want(t, 401, "invalid_session")
	send(t, h, get(cookies(tokenOnly(unknown)))).want(t, 401, "invalid_session")
	g.srv.Advance(30 * time.Minute)
	send(t, h, get(cookies(known))).want(t, 401, "invalid_session")
}

// The end that a verdict knows is not the session's if it was extended since, by the browser SDK, say.
func TestALogoutDuringAnOutageOutlivesTheEndThatWasKnown(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada", stytchtest.Duration(10*time.Minute))
	h := g.auth.Authenticate(whoami)
	send(t, h, get(cookies(tokens))).want(t, 200, "local")
	elsewhere := newColdRig(t, g.srv).auth.SessionHandler("/session")
	if a := send(t, elsewhere, ask("POST", "/session/authenticate", `{"session_duration_minutes": 600}`, cookies(tokens))); a.StatusCode != 200 {
		t.Fatal(a.Body)
	}
	g.srv.Break(stytchtest.Outage(), stytchtest.Revoke)
	if _, err := logout(t, g, post(cookies(tokens))); !errors.Is(err, stytchhttp.ErrUnavailable) {
		t.Fatal(err)
	}
	g.srv.Heal()
	g.srv.Advance(time.Hour)
	send(t, h, get(bearer(tokens.SessionToken))).want(t, 401, "invalid_session")
}

func TestRevokeOfWhatIsNotThere(t *testing.T) {
	g := newRig(t)
	gone := g.srv.Login("user-test-ada")
	g.srv.Revoke(g.srv.SessionID(gone))
	for name, r := range map[string]*http.Request{
		"anonymous":      post(),
		"garbage":        post(cookies(stytchhttp.Tokens{SessionToken: "x", SessionJWT: "y"})),
		"a gone session": post(cookies(gone)),
	} {
		a, err := logout(t, g, r)
		if err != nil || len(a.Cookies()) == 0 {
			t.Errorf("%s: %v, %d cookies", name, err, len(a.Cookies()))
		}
	}
}

func TestAnotherSiteCannotLogOut(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada")
	// A form on another site comes without the SameSite=Lax cookies, but a browser would heed the answer's Set-Cookie.
	for name, carry := range map[string]func(*http.Request){"with cookies": cookies(tokens), "without": func(*http.Request) {}} {
		a, err := logout(t, g, post(carry, header("Sec-Fetch-Site", "cross-site")))
		if !errors.Is(err, stytchhttp.ErrCrossOrigin) || len(a.Cookies()) > 0 || g.srv.Calls().Revoke > 0 {
			t.Errorf("%s: %v, %d cookies, %d calls", name, err, len(a.Cookies()), g.srv.Calls().Revoke)
		}
	}
}

func TestRevokeSession(t *testing.T) {
	g := newRig(t)
	h := g.auth.Authenticate(whoami)
	tokens := g.srv.Login("user-test-ada")
	send(t, h, get(bearer(tokens.SessionJWT))).want(t, 200, "local")
	if err := g.auth.RevokeSession(t.Context(), g.srv.SessionID(tokens)); err != nil {
		t.Fatal(err)
	}
	send(t, h, get(bearer(tokens.SessionJWT))).want(t, 401, "invalid_session")
	if err := g.auth.RevokeSession(t.Context(), g.srv.SessionID(tokens)); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := g.auth.RevokeSession(t.Context(), ""); !errors.Is(err, stytchhttp.ErrNoSession) {
		t.Errorf("of none: %v", err)
	}
}

// Whoever logs in anew in the request in which he logged out gets the new cookies.
func TestLoginAfterLogoutInOneRequest(t *testing.T) {
	g := newRig(t)
	old, new := g.srv.Login("user-test-ada"), g.srv.Login("user-test-ada")
	h := g.auth.Hydrate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := errors.Join(g.auth.Revoke(w, r), g.auth.UpdateSession(w, r, new)); err != nil {
			t.Error(err)
		}
		whoami.ServeHTTP(w, r)
	}))
	a := send(t, h, post(cookies(old)))
	if a.Session != g.srv.SessionID(new) {
		t.Errorf("this request: %s", a.Body)
	}
	if held := stored(t, a, "https://app.example.com/"); held["stytch_session"] == nil || held["stytch_session"].Value != new.SessionToken {
		t.Errorf("the browser holds %v", held)
	}
}
