package stytchhttp_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

func TestAConnectionEndsWithItsSession(t *testing.T) {
	const length = 20 * time.Minute
	cases := []struct {
		name     string
		happens  func(g *rig, sessionID string)
		min, max time.Duration // until the connection ends
		cause    error
		calls    int // to authenticate, at most
	}{
		{"at its expiry", func(*rig, string) {}, length, length + 30*time.Second, stytchhttp.ErrInvalidSession, 5},
		{"at once when it is revoked here", func(g *rig, id string) { _ = g.auth.RevokeSession(context.Background(), id) },
			0, 0, stytchhttp.ErrInvalidSession, 0},
		{"with its JWT when it is revoked elsewhere", func(g *rig, id string) { g.srv.Revoke(id) },
			0, 6 * time.Minute, stytchhttp.ErrInvalidSession, 1},
		{"not in an outage, before the end that is known", func(g *rig, _ string) { g.srv.Break(stytchtest.Outage()) },
			length, length + time.Minute, stytchhttp.ErrUnavailable, 200},
		{"when the middleware is closed", func(g *rig, _ string) { go g.auth.Close() }, 0, 0, stytchhttp.ErrUnavailable, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newBubbleRig(t)
				tokens := g.srv.Login("user-test-ada", stytchtest.Duration(length))
				stream := g.auth.Protect()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					ctx := stytchhttp.SessionContext(r.Context())
					synctest.Wait()
					if ctx.Err() != nil {
						t.Fatal("it ends before the session")
					}
					g.srv.ResetCalls()
					began := time.Now()
					c.happens(g, g.srv.SessionID(tokens))
					<-ctx.Done()
					if d := time.Since(began); d < c.min || d > c.max {
						t.Errorf("it ends after %v, want %v to %v", d, c.min, c.max)
					}
					if err := context.Cause(ctx); !errors.Is(err, c.cause) {
						t.Errorf("the cause is %v, want %v", err, c.cause)
					}
					if n := g.srv.Calls().Authenticate; n > c.calls {
						t.Errorf("%d calls, want at most %d", n, c.calls)
					}
				}))
				send(t, stream, get(bearer(tokens.SessionJWT)))
			})
		})
	}
}

func TestAnAnonymousConnectionIsOverAtOnce(t *testing.T) {
	ctx := stytchhttp.SessionContext(t.Context())
	if ctx.Err() == nil || !errors.Is(context.Cause(ctx), stytchhttp.ErrNoSession) {
		t.Error(context.Cause(ctx))
	}
}
