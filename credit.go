package stytchhttp

import (
	"errors"
	"sync"
	"time"
)

const (
	creditMax       = 100
	creditPerSecond = 10
)

var errNoCredit = errors.New("too many unknown session tokens were refused: this one is not passed on now")

// credit bounds how many credentials of which nothing is known are passed on to Stytch while it refuses them. An opaque token
// can't be told from a random string here, and Stytch throttles a project that asks about too many that don't authenticate
// (429 too_few_tokens_authenticated): without a bound anybody could lock out the real users. The zero value is full. It keeps
// real time.
type credit struct {
	mu    sync.Mutex
	spent float64
	at    time.Time
}

// spend takes one, if there is one. What Stytch accepts is given back.
func (c *credit) spend() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.spent = max(c.spent-now.Sub(c.at).Seconds()*creditPerSecond, 0)
	c.at = now
	if c.spent > creditMax-1 {
		return false
	}
	c.spent++
	return true
}

// giveBack returns what was spent on a call that Stytch did not refuse; for one that it accepted, one more.
func (c *credit) giveBack(n float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spent = max(c.spent-n, 0)
}
