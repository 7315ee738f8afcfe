package stytchhttp

import (
	"errors"
	"sync"
	"time"
)

const (
	breakerThreshold = 5
	breakerMinOpen   = 500 * time.Millisecond
	breakerMaxOpen   = 15 * time.Second
)

var errBreakerOpen = errors.New("calls to Stytch failed several times in a row: it is left alone for a moment")

// breaker stops calls after several failures in a row, and lets a single one through now and then to see whether Stytch is
// back: an outage then costs a request microseconds, not timeouts. The zero value is ready to use. It keeps real time, since
// it measures the other side's patience, not the age of tokens.
type breaker struct {
	mu       sync.Mutex
	failures int
	open     time.Duration // how long it last opened; 0: closed
	until    time.Time     // when the next probe may go
	probing  bool
}

// allow returns 0 if a call may be made now, and otherwise how long to wait. A call that was allowed must be
// recorded by answered or failed.
func (b *breaker) allow() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open == 0 {
		return 0
	}
	if wait := time.Until(b.until); wait > 0 {
		return wait
	}
	if b.probing {
		return b.open
	}
	b.probing = true
	return 0
}

// answered records a call that Stytch answered.
func (b *breaker) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.open, b.probing = 0, 0, false
}

// failed records a call that it did not. retryAfter is how long the other side asked to be left alone, if it did.
func (b *breaker) failed(retryAfter time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	if b.failures < breakerThreshold || (b.open != 0 && !b.probing) {
		return // too few, or a call from before it opened
	}
	b.open = min(max(b.open*2, breakerMinOpen), breakerMaxOpen)
	b.until = time.Now().Add(max(b.open, retryAfter))
	b.probing = false
}
