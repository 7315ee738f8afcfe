package browser

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

var modes = map[stytchhttp.CookieMode]string{
	stytchhttp.CookiesShared: "shared", stytchhttp.CookiesHTTPOnly: "http-only", stytchhttp.CookiesSealed: "sealed",
}

// loggedIn is a visitor whose backend has logged Ada in, on a page whose SDK knows it.
func loggedIn(t *testing.T, s *site) (*visitor, *tab) {
	t.Helper()
	v, b := newVisitor(t)
	b.open(s.url + "/page")
	if got := b.fetch("POST", "/login?as=user-test-ada"); got.Status != 200 {
		t.Fatalf("login: %+v", got)
	}
	b.open(s.url + "/page")
	b.waitFor(`stytch.session.getSync() && stytch.user.getSync()`)
	return v, b
}

func TestSharedModeNeedsNoCallByThePage(t *testing.T) {
	s := newSite(t, stytchhttp.CookiesShared)
	_, b := loggedIn(t, s) // the page calls nothing
	if user := b.sdkUser(); user != "user-test-ada" {
		t.Errorf("the SDK says %q", user)
	}
	if got := b.want("user-test-ada"); got.Via != "local" && got.Via != "cache" {
		t.Errorf("/api/me is served via %s", got.Via)
	}
	if n := s.stytch.Calls().Authenticate; n != 0 {
		t.Errorf("the backend made %d remote calls", n)
	}
	b.screenshot("logged-in")
}

// The flow of Stytch's documentation: updateSession with the backend's tokens, then authenticate.
func TestThePageHydratesTheSDK(t *testing.T) {
	const tokensEndpoint = `const r = await fetch('/session/tokens', {method: 'POST'}); const t = await r.json();
		stytch.session.updateSession({session_token: t.session_token, session_jwt: t.session_jwt});
		const a = await stytch.session.authenticate({session_duration_minutes: 60}); return a.status_code`
	const script = `window.stytchHydrate(stytch);
		const a = await stytch.session.authenticate({session_duration_minutes: 60}); return a.status_code`
	for mode, name := range map[stytchhttp.CookieMode]string{stytchhttp.CookiesHTTPOnly: "http-only", stytchhttp.CookiesSealed: "sealed"} {
		for page, js := range map[string]string{"/page": tokensEndpoint, "/hydrated": script} {
			t.Run(name+page, func(t *testing.T) {
				s := newSite(t, mode)
				_, b := newVisitor(t)
				b.open(s.url + page)
				b.fetch("POST", "/login?as=user-test-ada")
				if cookies := eval[string](b, `document.cookie`); cookies != "" {
					t.Errorf("scripts can read %q", cookies)
				}
				b.open(s.url + page)
				b.waitFor(`window.stytch`)
				if user := b.sdkUser(); user != "" {
					t.Errorf("the SDK says %q before it is hydrated", user)
				}
				if status := eval[int](b, js); status != 200 {
					t.Fatalf("authenticate: %d", status)
				}
				b.waitFor(`stytch.session.getSync() && stytch.user.getSync()`)
				if user := b.sdkUser(); user != "user-test-ada" {
					t.Errorf("the SDK says %q", user)
				}
				b.want("user-test-ada")
				if !eval[bool](b, `document.cookie.includes('stytch_session=')`) {
					t.Error("the SDK keeps no cookies of its own")
				}
				if left := eval[bool](b, `'stytchHydrate' in window`); left {
					t.Error("the tokens are left within reach")
				}
				b.screenshot("hydrated")
			})
		}
	}
}

func TestUpdateSessionWithoutAJWTLeavesUndefinedInTheCookie(t *testing.T) {
	s := newSite(t, stytchhttp.CookiesShared)
	_, b := newVisitor(t)
	b.open(s.url + "/page")
	b.waitFor(`window.stytch`)
	tokens := s.login("user-test-ada")
	eval[any](b, fmt.Sprintf(`stytch.session.updateSession({session_token: %q})`, tokens.SessionToken))
	if cookies := eval[string](b, `document.cookie`); !strings.Contains(cookies, "stytch_session_jwt=undefined") {
		t.Fatalf("the SDK no longer writes undefined: %q", cookies)
	}
	if got := b.want("user-test-ada"); got.Via != "remote" {
		t.Errorf("via %s", got.Via)
	}
	b.want("user-test-ada")
}

func TestLogoutInTheBrowserSDK(t *testing.T) {
	s := newSite(t, stytchhttp.CookiesShared)
	v, b := loggedIn(t, s)
	other := v.tab()
	other.open(s.url + "/page")
	other.want("user-test-ada")
	eval[any](b, `await stytch.session.revoke(); return 1`)
	b.want("no_session")
	other.want("no_session")
}

func TestLogoutAtTheBackendIsSeenByTheSDKInEveryTab(t *testing.T) {
	s := newSite(t, stytchhttp.CookiesShared)
	v, b := loggedIn(t, s)
	other := v.tab()
	other.open(s.url + "/page")
	other.waitFor(`stytch.session.getSync()`)
	if got := b.fetch("POST", "/logout"); got.Status != 200 {
		t.Fatalf("logout: %+v", got)
	}
	for name, page := range map[string]*tab{"this tab": b, "the other": other} {
		// An authenticate of the SDK that was under way may have put the cookies back: they are worth nothing.
		if got := page.fetch("GET", "/api/me"); got.Status != 401 {
			t.Errorf("%s: the backend says %+v", name, got)
		}
		refused := eval[string](page, `try { await stytch.session.authenticate(); return 'passed' } catch (e) { return e.error_type ?? e.name }`)
		if refused == "passed" {
			t.Errorf("%s: the SDK is still let in", name)
		}
		if user := page.sdkUser(); user != "" {
			t.Errorf("%s: the SDK says %q", name, user)
		}
	}
}

// It does so every three minutes.
func TestTheSDKRewritesTheCookiesWhileRequestsAreInFlight(t *testing.T) {
	s := newSite(t, stytchhttp.CookiesShared)
	_, b := loggedIn(t, s)
	type result struct{ Refused, Renewed, Served int }
	got := eval[result](b, `let renewed = 0, served = 0, refused = 0, going = true
		const renew = (async () => { while (going) { await stytch.session.authenticate(); renewed++ } })()
		const call = async () => { for (let i = 0; i < 60; i++) { const r = await fetch('/api/me'); r.ok ? served++ : refused++ } }
		await Promise.all([call(), call(), call()]); going = false; await renew
		return {refused, renewed, served}`)
	if got.Refused != 0 || got.Served != 180 || got.Renewed < 5 {
		t.Errorf("%+v", got)
	}
	if user := b.sdkUser(); user != "user-test-ada" {
		t.Errorf("the SDK says %q", user)
	}
}

func TestASlowRequestOfTheUserBeforeChangesNothing(t *testing.T) {
	for mode, name := range modes {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, mode)
			_, b := newVisitor(t)
			b.open(s.url + "/page")
			b.fetch("POST", "/login?as=user-test-ada")
			b.want("user-test-ada")
			s.stytch.Advance(6 * time.Minute) // so that the slow request needs a remote call
			eval[any](b, `window.slow = fetch('/api/slow').then(r => r.json()); return 1`)
			<-s.entered
			if got := b.fetch("POST", "/logout"); got.Status != 200 {
				t.Fatalf("logout: %+v", got)
			}
			b.fetch("POST", "/login?as=user-test-bob")
			close(s.slow)
			if got := eval[answer](b, `await window.slow; return window.slow`); got.User != "user-test-ada" {
				t.Errorf("the slow request was %+v", got)
			}
			b.want("user-test-bob")
		})
	}
}

func TestAJWTOver4KB(t *testing.T) {
	for mode, name := range modes {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, mode)
			_, b := newVisitor(t)
			b.open(s.url + "/page")
			b.fetch("POST", "/login?as=user-test-bob")
			b.fetch("POST", "/login?as=user-test-ada&big")
			b.want("user-test-ada") // and not Bob by the JWT that the big one could not replace
			if mode == stytchhttp.CookiesShared {
				b.open(s.url + "/page")
				b.waitFor(`stytch.session.getSync() && stytch.user.getSync()`)
				b.want("user-test-ada")
			}
		})
	}
}

func TestKeysRotateWhileThePageIsOpen(t *testing.T) {
	s := newSite(t, stytchhttp.CookiesShared)
	_, b := loggedIn(t, s)
	b.want("user-test-ada")
	s.stytch.RotateKeys()
	s.stytch.Advance(time.Minute)
	eval[any](b, `await stytch.session.authenticate(); return 1`)
	if got := b.want("user-test-ada"); got.Via != "local" {
		t.Errorf("by a JWT of the new key: via %s", got.Via)
	}
	s.stytch.RetireKeys()
	b.want("user-test-ada")
}

func TestStytchGoesDownAndComesBackWhileThePageIsOpen(t *testing.T) {
	s := newSite(t, stytchhttp.CookiesShared)
	_, b := loggedIn(t, s)
	b.want("user-test-ada")
	s.stytch.Break(stytchtest.Outage())
	if passed := eval[bool](b, `try { await stytch.session.authenticate(); return true } catch { return false }`); passed {
		t.Fatal("Stytch is not down")
	}
	b.want("user-test-ada") // the JWT holds
	s.stytch.Advance(6 * time.Minute)
	if got := b.want("unavailable"); got.Status != 503 {
		t.Errorf("an expired JWT in an outage: %+v", got)
	}
	s.stytch.Heal()
	b.waitFor(`(window.polls = (window.polls ?? 0) + 1, fetch('/api/me').then(r => { window.back = r.ok }), window.back)`)
	b.want("user-test-ada")
	eval[any](b, `await stytch.session.authenticate(); return 1`)
	if user := b.sdkUser(); user != "user-test-ada" {
		t.Errorf("the SDK says %q", user)
	}
}

func TestAnotherOriginCanNeitherActNorRead(t *testing.T) {
	for mode, name := range modes {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, mode)
			v, b := newVisitor(t)
			b.open(s.url + "/page")
			b.fetch("POST", "/login?as=user-test-ada")
			b.want("user-test-ada")

			// The same server by its other name is another site.
			evil := v.tab()
			evil.open(strings.Replace(s.url, "localhost", "127.0.0.1", 1) + "/page")
			for _, path := range []string{"/logout", "/session/revoke", "/api/me", "/login?as=user-test-eve"} {
				evil.open(strings.Replace(s.url, "localhost", "127.0.0.1", 1) + "/page")
				eval[any](evil, fmt.Sprintf(`const f = document.createElement('form'); f.method = 'post'; f.action = %q;
					document.body.append(f); f.submit(); return 1`, s.url+path))
				evil.arrive(s.url + path)
				if text := eval[string](evil, `document.body.innerText`); !strings.Contains(text, "cross_origin") && !strings.Contains(text, "no_session") {
					t.Errorf("a form post to %s is answered with %q", path, text)
				}
				b.want("user-test-ada")
			}
			evil.open(strings.Replace(s.url, "localhost", "127.0.0.1", 1) + "/page")
			for _, mode := range []string{"cors", "no-cors"} {
				read := eval[string](evil, fmt.Sprintf(`try { const r = await fetch(%q, {method: 'POST', credentials: 'include', mode: %q});
					return r.type + await r.text() } catch { return 'refused' }`, s.url+"/session/tokens", mode))
				if read != "refused" && read != "opaque" {
					t.Errorf("fetch in mode %s reads %q", mode, read)
				}
			}
			b.want("user-test-ada")
		})
	}
}

func TestReactSPA(t *testing.T) {
	const web = "../../examples/spa/web"
	if err := npm(web); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"shared", "http-only", "sealed"} {
		t.Run(mode, func(t *testing.T) {
			url := startSPA(t, mode, web)
			_, b := newVisitor(t)
			b.open(url)
			b.waitFor(`document.querySelector('#backend')?.innerText === '401 no_session'`)
			eval[any](b, `document.querySelector('#login').click(); return 1`)
			b.waitFor(`document.querySelector('#backend').innerText.startsWith('user-test-ada')`)
			b.waitFor(`document.querySelector('#sdk').innerText === 'user-test-ada, a session'`)
			b.screenshot("logged-in")
			b.open(url) // anew
			b.waitFor(`document.querySelector('#sdk')?.innerText === 'user-test-ada, a session'`)
			eval[any](b, `document.querySelector('#logout').click(); return 1`)
			b.waitFor(`document.querySelector('#sdk').innerText === 'nobody'`)
			b.waitFor(`document.querySelector('#backend').innerText.startsWith('401')`)
		})
	}
}

func TestTheWholeUserIsThere(t *testing.T) {
	s := newSite(t, stytchhttp.CookiesShared)
	_, b := loggedIn(t, s)
	user := eval[json.RawMessage](b, `return await stytch.user.get()`)
	if !strings.Contains(string(user), `"user_id":"user-test-ada"`) || !strings.Contains(string(user), "ada@example.com") {
		t.Errorf("users/me: %s", user)
	}
	if http.StatusOK != b.fetch("GET", "/api/me").Status {
		t.Error("the backend refuses")
	}
}
