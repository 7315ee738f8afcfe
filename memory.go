package stytchhttp

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

const (
	// refusalMemory is how long a refusal by Stytch is remembered, so that hammering with a dead credential costs no calls.
	refusalMemory = 10 * time.Second
	refusalsKept  = 10_000

	// revocationMemory is how long a revoked session's JWTs are refused here: longer than any of them lives.
	revocationMemory = 2 * jwtLifetime
	// unrevokedMemory is how long that holds at least if Stytch could not be told.
	unrevokedMemory = 24 * time.Hour
)

// memory is what this process knows of tokens, all of it bounded. The expiry of entries frees memory; whether one may be
// used is asked anew each time.
type memory struct {
	verified  *otter.Cache[string, *verified] // by the whole JWT
	exchanged *otter.Cache[string, string]    // the fresh JWT that Stytch gave for a credential
	refused   *otter.Cache[string, error]     // credentials that Stytch refused
}

func newMemory(size int, now func() time.Time) memory {
	m := memory{
		refused: otter.Must(&otter.Options[string, error]{
			MaximumSize:      refusalsKept,
			ExpiryCalculator: otter.ExpiryWriting[string, error](refusalMemory),
		}),
	}
	if size > 0 {
		m.verified = otter.Must(&otter.Options[string, *verified]{
			MaximumSize: size,
			ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, *verified]) time.Duration {
				// An expired JWT that comes again is known to be genuine for one more lifetime.
				return max(e.Value.expiresAt.Sub(now())+jwtLifetime, time.Second)
			}),
		})
		m.exchanged = otter.Must(&otter.Options[string, string]{
			MaximumSize: size,
			// Twice as long as its JWT holds: that Stytch knew the credential is worth remembering.
			ExpiryCalculator: otter.ExpiryWriting[string, string](2 * jwtLifetime),
		})
	}
	return m
}

func (m *memory) close() {
	m.refused.StopAllGoroutines()
	if m.verified != nil {
		m.verified.StopAllGoroutines()
		m.exchanged.StopAllGoroutines()
	}
}

// proof returns what is known of this very JWT, unless its key has left the key set since.
func (m *memory) proof(jwt string) (*verified, bool) {
	if m.verified == nil {
		return nil, false
	}
	v, ok := m.verified.GetIfPresent(jwt)
	if !ok || v.key.Removed() {
		return nil, false
	}
	return v, true
}

// Keys are cloned: a token is cut out of a request's header and would keep all of it alive.

func (m *memory) keepProof(jwt string, v *verified) {
	if m.verified != nil {
		m.verified.Set(strings.Clone(jwt), v)
	}
}

func (m *memory) exchange(credential string) (jwt string, ok bool) {
	if m.exchanged == nil {
		return "", false
	}
	return m.exchanged.GetIfPresent(credential)
}

func (m *memory) keepExchange(credential, jwt string) {
	if m.exchanged != nil && isJWT(jwt) {
		m.exchanged.Set(strings.Clone(credential), jwt)
	}
}

func (m *memory) forgetExchange(credential string) {
	if m.exchanged != nil {
		m.exchanged.Invalidate(credential)
	}
}

func (m *memory) isRefused(credential string) bool {
	_, ok := m.refused.GetIfPresent(credential)
	return ok
}

func (m *memory) keepRefusal(credential string, err error) {
	m.refused.Set(strings.Clone(credential), err)
	if m.exchanged != nil {
		m.exchanged.Invalidate(credential)
	}
}

// revocations are the sessions (by id), and the credentials of unknown sessions, that were revoked here. They are never
// evicted before their time: only logging somebody out adds one.
type revocations struct {
	count atomic.Int64 // so that the common case costs no lock
	mu    sync.RWMutex
	until map[string]time.Time
	sweep int // the size at which the outdated are next swept

	watchers map[string]map[chan struct{}]struct{} // by what they watch
}

func (r *revocations) add(key string, until, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil {
		r.until = make(map[string]time.Time)
	}
	if until.After(r.until[key]) {
		r.until[strings.Clone(key)] = until
	}
	if len(r.until) >= r.sweep {
		for k, t := range r.until {
			if now.After(t) {
				delete(r.until, k)
			}
		}
		r.sweep = max(2*len(r.until), 1024)
	}
	r.count.Store(int64(len(r.until)))
	for watcher := range r.watchers[key] {
		select {
		case watcher <- struct{}{}:
		default: // it has been told
		}
	}
}

// watch returns a channel that gets a value when one of the keys is revoked, or was before. Call stop in the end.
func (r *revocations) watch(now time.Time, keys ...string) (revoked <-chan struct{}, stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	watcher := make(chan struct{}, 1)
	if r.watchers == nil {
		r.watchers = make(map[string]map[chan struct{}]struct{})
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return key == "" })
	for _, key := range keys {
		if r.watchers[key] == nil {
			r.watchers[key] = make(map[chan struct{}]struct{})
		}
		r.watchers[key][watcher] = struct{}{}
		if until, ok := r.until[key]; ok && now.Before(until) && len(watcher) == 0 {
			watcher <- struct{}{}
		}
	}
	return watcher, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, key := range keys {
			delete(r.watchers[key], watcher)
			if len(r.watchers[key]) == 0 {
				delete(r.watchers, key)
			}
		}
	}
}

func (r *revocations) has(key string, now time.Time) bool {
	if r.count.Load() == 0 || key == "" {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	until, ok := r.until[key]
	return ok && now.Before(until)
}
