package stytchhttp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// watchInterval is how often a connection that stays open has its session proven again. Nearly always that is a look into
// the memory: Stytch is asked when the JWT is out of its time.
const watchInterval = 30 * time.Second

var errExpired = fmt.Errorf("%w: the session has expired", ErrInvalidSession)

// SessionContext returns a context for a handler that outlives a request's usual length, with server-sent events or a
// websocket: it is done when ctx is, and when the session ends that ctx carries.
//
//	ctx := stytchhttp.SessionContext(r.Context())
//	for {
//		select {
//		case e := <-events:
//			…
//		case <-ctx.Done():
//			return
//		}
//	}
//
// A session revoked through this Middleware ends it at once. One that was revoked elsewhere, or has expired without being
// extended, ends it as it would end for requests, within 30 seconds: the session is proven again all the time, as Authenticate
// does it, and Stytch is asked about it once in a JWT's lifetime of five minutes, however many connections it has. That never
// extends it. While Stytch can't be asked the connection goes on, until the session's end.
//
// context.Cause is an [ErrInvalidSession] then, or an [ErrUnavailable] if Stytch can't say whether the session lives on beyond
// the end that was known, or the Middleware is closed; without a session the context is done at once, and its cause is what
// [ErrFrom] returns. What it needs is freed when ctx is done.
func SessionContext(ctx context.Context) context.Context {
	session, ok := SessionFrom(ctx)
	watched, end := context.WithCancelCause(ctx)
	if !ok {
		end(ErrFrom(ctx))
		return watched
	}
	s := stateFrom(ctx)
	if s.owner == nil { // of WithSession: there is nobody to ask
		timer := time.AfterFunc(time.Until(session.expiresAt), func() { end(errExpired) })
		context.AfterFunc(watched, func() { timer.Stop() })
		return watched
	}
	if !s.owner.tasks.run(func() { end(s.owner.watch(watched, s, session)) }) {
		end(&UnavailableError{Cause: errClosed})
	}
	return watched
}

// watch returns when the session ends, or ctx does, and why.
func (m *Middleware) watch(ctx context.Context, s *state, session *Session) error {
	s.mu.Lock()
	tokens := s.tokens
	s.mu.Unlock()
	revoked, stop := m.revoked.watch(m.config.Now(), session.id, tokens.SessionToken)
	defer stop()
	for {
		left := session.expiresAt.Sub(m.config.Now())
		timer := time.NewTimer(min(max(left, time.Second), watchInterval))
		select {
		case <-timer.C:
		case <-revoked:
			timer.Stop()
			return errRevoked
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-m.ctx.Done():
			timer.Stop()
			return &UnavailableError{Cause: errClosed}
		}
		v, err := m.climb(ctx, tokens, byLifetime, 0)
		switch {
		case err == nil && v.session.id != session.id:
			return errMixed
		case err == nil:
			session = v.session
		case !errors.Is(err, ErrUnavailable) || !m.config.Now().Before(session.expiresAt):
			return err
		}
	}
}

// tasks are the goroutines that Close waits for. They end when the Middleware's context does.
type tasks struct {
	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

// run starts a task; false after close.
func (t *tasks) run(task func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.running.Go(task)
	return true
}

func (t *tasks) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.running.Wait()
}
