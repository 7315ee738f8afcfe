package stytchhttp

import (
	"context"
	"sync"
	"time"
)

// flights shares remote calls: requests in want of the same answer wait for one call, which goes on when the request that
// began it is gone. Unlike singleflight it knows when each call began, for those who can't use an older answer.
type flights struct {
	mu      sync.Mutex
	flying  map[flightKey]*flight
	running sync.WaitGroup
	closed  bool
}

// flightKey is what a call asks: requests that ask the same can share it.
type flightKey struct {
	credential string
	minutes    int
}

// flight is one call.
type flight struct {
	began    time.Time // zero as long as it waits for the one before it
	done     chan struct{}
	next     *flight // begins when this one is done
	run      func()
	response AuthenticateResponse
	err      error
}

// join returns a flight for key that has begun, by the clock now, at or after notBefore: one under way, else a new one. The
// new one begins at once, or, if an older one is under way, after it: so a key has at most one call in the air however many
// ask for fresh answers, and nobody waits for more than two. began says that the flight is this caller's own. After close it
// returns nil.
func (g *flights) join(key flightKey, notBefore time.Time, now func() time.Time, call func() (AuthenticateResponse, error)) (f *flight, began bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, false
	}
	current := g.flying[key]
	if current != nil && !current.began.Before(notBefore) {
		return current, false
	}
	if current != nil && current.next != nil {
		return current.next, false
	}
	f = &flight{done: make(chan struct{})}
	f.run = func() {
		f.response, f.err = call()
		g.land(key, f, now)
	}
	g.running.Add(1)
	if current != nil {
		current.next = f
		return f, true
	}
	if g.flying == nil {
		g.flying = make(map[flightKey]*flight)
	}
	f.began = now()
	g.flying[key] = f
	go f.run()
	return f, true
}

// land hands the result to all who wait, and starts those who could not use it.
func (g *flights) land(key flightKey, f *flight, now func() time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if next := f.next; next != nil {
		next.began = now()
		g.flying[key] = next
		go next.run()
	} else {
		delete(g.flying, key)
	}
	close(f.done)
	g.running.Done()
}

// wait returns the flight's result, or the context's error if that ends first.
func (f *flight) wait(ctx context.Context) (AuthenticateResponse, error) {
	select {
	case <-f.done:
		return f.response, f.err
	case <-ctx.Done():
		return AuthenticateResponse{}, &UnavailableError{Cause: context.Cause(ctx)}
	}
}

// close refuses new flights and waits for those in the air, whose contexts the caller has ended.
func (g *flights) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.running.Wait()
}
