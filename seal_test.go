package stytchhttp_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

func sealed(keys ...stytchhttp.CookieKey) func(*stytchhttp.Config) {
	return func(c *stytchhttp.Config) {
		c.Cookies = stytchhttp.CookieConfig{Mode: stytchhttp.CookiesSealed, Keys: keys}
	}
}

// sealedCookie is what UpdateSession sets.
func sealedCookie(t *testing.T, g *rig, tokens stytchhttp.Tokens) *http.Cookie {
	t.Helper()
	a, err := update(t, g, tokens, post())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range a.Cookies() {
		if strings.HasSuffix(c.Name, "stytchhttp") && c.MaxAge >= 0 {
			return c
		}
	}
	t.Fatalf("no sealed cookie among %v", a.Cookies())
	return nil
}

func withCookie(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: name, Value: value}) }
}

func TestSealedCookieCarriesTheSession(t *testing.T) {
	g := newRig(t, sealed(stytchhttp.GenerateCookieKey()))
	tokens := g.srv.Login("user-test-ada")
	c := sealedCookie(t, g, tokens)
	if c.Name != "__Host-stytchhttp" || !c.HttpOnly || !c.Secure || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("the cookie: %s", strings.Replace(c.String(), c.Value, "…", 1))
	}
	if strings.Contains(c.Value, tokens.SessionToken) || strings.Contains(c.Value, tokens.SessionJWT[:50]) {
		t.Error("it is not encrypted")
	}
	raw, err := base64.URLEncoding.DecodeString(c.Value)
	if err != nil || strings.Contains(string(raw), tokens.SessionToken) {
		t.Errorf("it is not encrypted: %v", err)
	}
	h := g.auth.Authenticate(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if got, _ := stytchhttp.TokensFrom(r.Context()); got != tokens {
			t.Error("the tokens come out changed")
		}
	}))
	if a := send(t, h, get(withCookie(c.Name, c.Value))); a.StatusCode != 200 {
		t.Error(a.Body)
	}
	if g.srv.Calls().Authenticate != 0 {
		t.Error("it cost a call")
	}
	// The SDK's cookies, which a page that hydrates it makes it write, are no credential.
	send(t, g.auth.Authenticate(whoami), get(cookies(tokens))).want(t, 401, "no_session")
}

func TestASealedCookieThatIsNotOursIsNone(t *testing.T) {
	key := stytchhttp.GenerateCookieKey()
	g := newRig(t, sealed(key))
	tokens := g.srv.Login("user-test-ada")
	c := sealedCookie(t, g, tokens)
	other := newRig(t, sealed(stytchhttp.GenerateCookieKey()))
	foreign := sealedCookie(t, other, other.srv.Login("user-test-eve"))
	flip := func(i int) string {
		b := []byte(c.Value)
		b[i] ^= 1
		return string(b)
	}
	for name, carry := range map[string]func(*http.Request){
		"cut":                             withCookie(c.Name, c.Value[:len(c.Value)/2]),
		"a bit flipped":                   withCookie(c.Name, flip(len(c.Value)/2)),
		"sealed by another key":           withCookie(c.Name, foreign.Value),
		"under the name without a prefix": withCookie("stytchhttp", c.Value),
		"empty":                           withCookie(c.Name, ""),
		"a plain token":                   withCookie(c.Name, tokens.SessionToken),
		"huge":                            withCookie(c.Name, strings.Repeat("A", 1<<20)),
	} {
		t.Run(name, func(t *testing.T) {
			send(t, g.auth.Authenticate(whoami), get(carry)).want(t, 401, "no_session")
		})
	}
	// On a loopback host the name has no prefix; a value sealed for the one does not open under the other.
	local := httptest.NewRequest("GET", "http://localhost/", nil)
	local.AddCookie(&http.Cookie{Name: "stytchhttp", Value: c.Value})
	send(t, g.auth.Authenticate(whoami), local).want(t, 401, "no_session")
}

func TestCookieKeysRotate(t *testing.T) {
	old, new := stytchhttp.GenerateCookieKey(), stytchhttp.GenerateCookieKey()
	srv := stytchtest.NewServer(t)
	tokens := srv.Login("user-test-ada")
	before := newColdRig(t, srv, sealed(old))
	during := newColdRig(t, srv, sealed(new, old))
	after := newColdRig(t, srv, sealed(new))
	byOld, byNew := sealedCookie(t, before, tokens), sealedCookie(t, during, tokens)
	serves := func(g *rig, c *http.Cookie) bool {
		return send(t, g.auth.Authenticate(whoami), get(withCookie(c.Name, c.Value))).StatusCode == 200
	}
	if !serves(during, byOld) || !serves(during, byNew) || !serves(after, byNew) {
		t.Error("a key that is listed does not open")
	}
	if serves(after, byOld) || serves(before, byNew) {
		t.Error("a key that is not listed opens")
	}
}

func TestASealedCookieHasAnAgeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleRig(t, sealed(stytchhttp.GenerateCookieKey()), func(c *stytchhttp.Config) { c.Cookies.MaxAge = time.Hour })
		c := sealedCookie(t, g, g.srv.Login("user-test-ada", stytchtest.Duration(24*time.Hour)))
		h := g.auth.Authenticate(whoami)
		time.Sleep(59 * time.Minute)
		if a := send(t, h, get(withCookie(c.Name, c.Value))); a.StatusCode != 200 {
			t.Errorf("within the hour: %s", a.Body)
		}
		time.Sleep(2 * time.Minute)
		send(t, h, get(withCookie(c.Name, c.Value))).want(t, 401, "no_session")
	})
}

func TestAJWTThatDoesNotFitASealedCookieIsLeftOut(t *testing.T) {
	g := newRig(t, sealed(stytchhttp.GenerateCookieKey()))
	for size, fits := range map[int]bool{0: true, 500: true, 2000: false, 4000: false} {
		tokens := g.srv.Login("user-test-ada", stytchtest.Claims(map[string]any{"padding": strings.Repeat("x", size)}))
		c := sealedCookie(t, g, tokens)
		if n := len(c.Name) + 1 + len(c.Value); n > 4096 {
			t.Errorf("%d bytes of claims: a cookie of %d bytes", size, n)
		}
		var got stytchhttp.Tokens
		h := g.auth.Authenticate(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got, _ = stytchhttp.TokensFrom(r.Context())
		}))
		if a := send(t, h, get(withCookie(c.Name, c.Value))); a.StatusCode != 200 {
			t.Fatal(a.Body)
		}
		if got.SessionToken != tokens.SessionToken || (got.SessionJWT != "") != fits {
			t.Errorf("%d bytes of claims make a JWT of %d: is it there? %v", size, len(tokens.SessionJWT), got.SessionJWT != "")
		}
	}
}

func TestWrongSealingIsAnErrorOfNew(t *testing.T) {
	key := stytchhttp.GenerateCookieKey()
	for field, change := range map[string]func(*stytchhttp.CookieConfig){
		"Cookies.Keys":           func(c *stytchhttp.CookieConfig) { c.Keys = nil },
		"Cookies.Keys[0]":        func(c *stytchhttp.CookieConfig) { c.Keys[0] = key[:40] },
		"Cookies.Keys[1]":        func(c *stytchhttp.CookieConfig) { c.Keys = append(c.Keys, "not base64url!") },
		"Cookies.MaxAge":         func(c *stytchhttp.CookieConfig) { c.MaxAge = -time.Second },
		"Cookies.SessionJWTName": func(c *stytchhttp.CookieConfig) { c.SessionJWTName = "x" },
		"Keys and MaxAge":        func(c *stytchhttp.CookieConfig) { c.Mode = stytchhttp.CookiesShared },
	} {
		config := stytchhttp.Config{ProjectID: "project-test-1", Secret: "secret-test-1"}
		sealed(key)(&config)
		change(&config.Cookies)
		auth, err := stytchhttp.New(config)
		if err == nil {
			auth.Close()
			t.Errorf("%s: accepted", field)
		} else if !strings.Contains(err.Error(), field) || strings.Contains(err.Error(), string(key[:20])) {
			t.Errorf("%s: %v", field, err)
		}
	}
	config := stytchhttp.CookieConfig{Keys: []stytchhttp.CookieKey{key}}
	encoded, _ := json.Marshal(config)
	if text := fmt.Sprintf("%v %+v %#v %s", config, config, config, encoded); strings.Contains(text, string(key)) {
		t.Errorf("a key is printed: %s", text)
	}
}

func TestUpdatingAndRevokingInSealedMode(t *testing.T) {
	g := newRig(t, sealed(stytchhttp.GenerateCookieKey()))
	tokens := g.srv.Login("user-test-ada")
	c := sealedCookie(t, g, tokens)
	a, err := logout(t, g, post(withCookie(c.Name, c.Value)))
	if err != nil {
		t.Fatal(err)
	}
	removed := map[string]bool{}
	for _, set := range a.Cookies() {
		removed[set.Name] = removed[set.Name] || set.MaxAge < 0
		if strings.HasPrefix(set.Name, "__Host-") && (set.Domain != "" || set.Path != "/" || !set.Secure) {
			t.Errorf("browsers drop %s", set)
		}
	}
	if !removed["__Host-stytchhttp"] || !removed["stytch_session"] || !removed["stytch_session_jwt"] {
		t.Errorf("removed: %v", removed)
	}
	send(t, g.auth.Authenticate(whoami), get(withCookie(c.Name, c.Value))).want(t, 401, "invalid_session")
}

func FuzzSealedCookie(f *testing.F) {
	auth, err := stytchhttp.New(stytchhttp.Config{
		ProjectID: "project-test-1", Secret: "secret-test-1", BaseURL: "http://127.0.0.1:1",
		Cookies: stytchhttp.CookieConfig{Mode: stytchhttp.CookiesSealed, Keys: []stytchhttp.CookieKey{stytchhttp.GenerateCookieKey()}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { auth.Close() })
	f.Add("x")
	f.Fuzz(func(t *testing.T, value string) {
		r := get()
		r.Header.Set("Cookie", "__Host-stytchhttp="+value)
		send(t, auth.Authenticate(whoami), r).want(t, 401, "no_session")
	})
}
