package stytchhttp_test

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

// Stytch throttles a project that passes on too many tokens that don't authenticate: whoever sends random ones must not lock
// the real users out.
func TestAFloodOfUnknownTokensIsNotPassedOn(t *testing.T) {
	for name, latency := range map[string]time.Duration{"a quick Stytch": 0, "a slow one": 80 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newBubbleRig(t)
				h := g.auth.Authenticate(whoami)
				known, both := g.srv.Login("user-test-ada"), g.srv.Login("user-test-bob")
				send(t, h, get(bearer(known.SessionToken))).want(t, 200, "remote")
				g.srv.Advance(6 * time.Minute)
				valid := g.srv.Login("user-test-joe")
				g.srv.ResetCalls()
				g.srv.Break(stytchtest.Latency(latency), stytchtest.Authenticate)

				var group sync.WaitGroup
				for i := range 5000 {
					group.Go(func() {
						a := send(t, h, get(bearer(fmt.Sprintf("random-token-of-nobody-%021d", i))))
						if a.StatusCode != 401 && (a.StatusCode != 503 || a.Header.Get("Retry-After") == "") {
							t.Errorf("%d %s", a.StatusCode, a.Body)
						}
					})
				}
				group.Wait()
				if n := g.srv.Calls().Authenticate; n < 50 || n > 110 {
					t.Errorf("%d of 5000 were passed on", n)
				}
				// Meanwhile whoever Stytch has vouched for is served.
				send(t, h, get(bearer(valid.SessionJWT))).want(t, 200, "local")
				send(t, h, get(bearer(known.SessionToken))).want(t, 200, "remote")
				send(t, h, get(cookies(both))).want(t, 200, "remote")
				if _, err := update(t, g, tokenOnly(g.srv.Login("user-test-eve")), post()); err != nil {
					t.Errorf("a login: %v", err)
				}
				// And a little later everybody is.
				time.Sleep(time.Second)
				send(t, h, get(bearer(g.srv.Login("user-test-mia").SessionToken))).want(t, 200, "remote")
			})
		})
	}
}

// Real users pay nothing: only what Stytch refuses counts.
func TestManyRealTokensAreAllPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleRig(t)
		h := g.auth.Authenticate(whoami)
		for range 1000 {
			send(t, h, get(bearer(g.srv.Login("user-test-ada").SessionToken))).want(t, 200, "remote")
		}
	})
}

// What clients send must not fill the memory.
func TestMemoryIsBoundedWhateverClientsSend(t *testing.T) {
	g := newRig(t, func(c *stytchhttp.Config) { c.CacheSize, c.Observe = 100, nil })
	h := g.auth.Authenticate(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	genuine := g.srv.Login("user-test-ada").SessionJWT
	claims := claimsOf(t, genuine, nil)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	flood := func(n int) {
		for i := range n {
			garbage := fmt.Sprintf("%s%06d", strings.Repeat("A", 4000), i)
			send(t, h, get(bearer(garbage)))
			send(t, h, get(bearer(garbage+"."+garbage+"."+garbage)))
			send(t, h, get(bearer(g.srv.Sign(object{"kid": garbage}, object{"sub": "x"}))))
			send(t, h, get(bearer(fmt.Sprintf("unknown-token-%060d", i))))
		}
	}
	for i := range 300 { // more sessions than the cache holds
		claims["jti"] = fmt.Sprint(i)
		send(t, h, get(bearer(g.srv.Sign(nil, claims))))
	}
	flood(100)
	before := heap()
	flood(300)
	if after := heap(); after > before+4<<20 {
		t.Errorf("the heap grew from %d to %d KiB", before>>10, after>>10)
	}
}
