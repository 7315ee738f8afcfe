package stytchhttp_test

import (
	"context"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

// A real server under mixed clients while keys rotate, Stytch flaps, sessions are revoked and the clock jumps. SOAK is its
// length, 5 seconds without it; make soak runs it for minutes.
func TestSoak(t *testing.T) {
	length := 5 * time.Second
	if s := os.Getenv("SOAK"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	func() {
		stytch, err := stytchtest.Start()
		if err != nil {
			t.Fatal(err)
		}
		defer stytch.Close()
		config := stytch.Config()
		config.CacheSize = 200
		auth, err := stytchhttp.New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer auth.Close()
		mux := http.NewServeMux()
		mux.Handle("/me", auth.Hydrate(auth.Authenticate(whoami)))
		mux.Handle("/now", auth.Hydrate(auth.AuthenticateWithin(0)(whoami)))
		server := httptest.NewUnstartedServer(mux)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.Start()
		defer server.Close()
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
		defer client.CloseIdleConnections()
		soak(t, length, stytch, auth, func(path string, carry ...func(*http.Request)) int {
			r, err := http.NewRequest("GET", server.URL+path, nil)
			if err != nil {
				t.Error(err)
				return 0
			}
			for _, c := range carry {
				c(r)
			}
			resp, err := client.Do(r)
			if err != nil {
				t.Error(err)
				return 0
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return resp.StatusCode
		})
	}()
	http.DefaultClient.CloseIdleConnections()
	eventually(t, func() bool { runtime.GC(); return runtime.NumGoroutine() <= goroutines && openFiles(t) <= files })
}

func soak(t *testing.T, length time.Duration, stytch *stytchtest.Server, auth *stytchhttp.Middleware, call func(string, ...func(*http.Request)) int) {
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var counts [6]atomic.Int64 // by client
	var unavailable atomic.Int64
	var group sync.WaitGroup
	clients := func(kind, n int, once func(worker int)) {
		for worker := range n {
			group.Go(func() {
				for ctx.Err() == nil {
					once(worker)
					counts[kind].Add(1)
				}
			})
		}
	}

	// 0: a page whose SDK renews the JWT. While that is valid, nothing may refuse it.
	clients(0, 3, func(int) {
		tokens := stytch.Login("user-test-ada", stytchtest.Duration(1000*time.Hour))
		for range 20 {
			tokens = stytch.Renew(tokens)
			issued := stytch.Now()
			for range 5 {
				status := call("/me", cookies(tokens))
				if valid := stytch.Now().Sub(issued) < 4*time.Minute && !stytch.Now().Before(issued); valid && status != 200 {
					t.Errorf("a valid JWT gets %d", status)
				}
			}
		}
	})
	// 1: an opaque token. It may be unavailable, but never invalid.
	clients(1, 2, func(int) {
		tokens := stytch.Login("user-test-bob", stytchtest.Duration(1000*time.Hour))
		for range 20 {
			switch status := call("/me", bearer(tokens.SessionToken)); status {
			case 200:
			case 503:
				unavailable.Add(1)
			default:
				t.Errorf("a living session's token gets %d", status)
			}
		}
	})
	// 2: forgeries.
	forged := stytchtest.New()
	defer forged.Close()
	clients(2, 1, func(int) {
		tokens := forged.Login("user-test-mallory")
		bad := []func(*http.Request){
			bearer(tokens.SessionJWT), bearer(tokens.SessionToken), bearer(strings.Repeat("a.b", rand.IntN(4))), cookies(tokens),
		}
		if status := call("/me", bad[rand.IntN(len(bad))]); status != 401 && status != 503 {
			t.Errorf("a forgery gets %d", status)
		}
	})
	// 3: revoked through this process: dead from the moment it is answered, whatever Stytch's state.
	clients(3, 1, func(int) {
		tokens := stytch.Login("user-test-joe")
		call("/me", cookies(tokens))
		_ = auth.RevokeSession(ctx, stytch.SessionID(tokens)) // Stytch may be down: it holds here
		for _, carry := range []func(*http.Request){cookies(tokens), bearer(tokens.SessionJWT), bearer(tokens.SessionToken)} {
			if status := call("/me", carry); status == 200 {
				t.Error("a session is served after its revocation")
			}
		}
	})
	// 4: revoked elsewhere: dead on a route that asks now.
	clients(4, 1, func(int) {
		tokens := stytch.Login("user-test-mia")
		call("/now", cookies(tokens))
		stytch.Revoke(stytch.SessionID(tokens))
		if status := call("/now", cookies(tokens)); status == 200 {
			t.Error("a route that asks now serves a revoked session")
		}
	})
	// 5: what happens meanwhile, one thing after the other.
	clients(5, 1, func(int) {
		// A new key signs; Stytch is up, so that it can be fetched.
		stytch.RotateKeys()
		settle(ctx, func() bool {
			stytch.Advance(10 * time.Second)
			return call("/me", bearer(stytch.Login("user-test-eve").SessionJWT)) == 200
		})
		// Stytch fails for a while, in one way or another.
		faults := []stytchtest.Fault{stytchtest.Outage(), stytchtest.Drop(), stytchtest.Garbage(200), stytchtest.RateLimited(time.Second)}
		stytch.Break(faults[rand.IntN(len(faults))])
		pause(ctx, 300*time.Millisecond)
		stytch.Advance(time.Minute)
		pause(ctx, 200*time.Millisecond)
		stytch.Heal()
		settle(ctx, func() bool { return call("/now", bearer(stytch.Login("user-test-eve").SessionToken)) == 200 })
		// The clock jumps, back and forth.
		stytch.Advance(-20 * time.Second)
		pause(ctx, 100*time.Millisecond)
		stytch.Advance(2 * time.Minute)
		pause(ctx, 100*time.Millisecond)
	})
	group.Wait()
	var rounds []int64
	for kind := range counts {
		n := counts[kind].Load()
		if n == 0 {
			t.Errorf("client %d did nothing", kind)
		}
		rounds = append(rounds, n)
	}
	t.Logf("in %v: %v rounds by client, the last of chaos; %d times 503 for an opaque token", length, rounds, unavailable.Load())
}

// settle waits for a condition, or for the soak's end.
func settle(ctx context.Context, condition func() bool) {
	for ctx.Err() == nil && !condition() {
		pause(ctx, 20*time.Millisecond)
	}
}

// pause lets the others go on.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// openFiles counts this process's file descriptors, where the system tells.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
