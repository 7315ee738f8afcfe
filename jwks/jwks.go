// Package jwks keeps the public keys of one JWK set URL (RFC 7517) in memory: it loads them in the background, refreshes
// them, and always holds the last good set. It is made for the RS256 keys of a Stytch project, knows nothing of sessions,
// and can be used on its own with github.com/golang-jwt/jwt/v5 through [Set.Keyfunc].
//
// It parses with github.com/MicahParks/jwkset and answers golang-jwt with github.com/MicahParks/keyfunc, and adds what a
// request path needs: [New] never blocks, no request waits for a rate limiter or longer than [MaxWait], a response body is
// bounded, and an empty, broken or unacceptable answer never replaces a good set.
package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"crypto/rsa"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

const (
	// MaxWait is the longest that [Set.Key] makes a caller wait for a fetch: 1 second.
	MaxWait = time.Second

	// RefreshWindow is the time within which unknown key ids cause at most one fetch, however many they are: 30 seconds.
	RefreshWindow = 30 * time.Second

	// MaxBodyBytes is the size over which an answer is refused: 1 MiB.
	MaxBodyBytes = 1 << 20

	defaultRefreshInterval = time.Hour
	minMaxAge              = time.Minute
	maxMaxAge              = 24 * time.Hour
	fetchTimeout           = 5 * time.Second
	minBackoff             = time.Second
	maxBackoff             = 30 * time.Second
	maxWanted              = 256
)

var (
	// ErrKeyNotFound means that the key set is loaded, was fetched after the question came up, and has no such key.
	ErrKeyNotFound = errors.New("jwks: the key set has no key with this kid")

	// ErrUnavailable means that nobody can say now whether there is such a key: the set was never loaded, the fetch
	// failed or takes too long, or a fetch for another unknown key was made within the [RefreshWindow].
	ErrUnavailable = errors.New("jwks: the key can't be looked up now")

	// ErrUnacceptable means that an answer was not a JWK set with at least one usable key.
	ErrUnacceptable = errors.New("jwks: unacceptable key set")
)

// Config says where a key set is and how it is kept. The zero value of each field but URL is its default.
type Config struct {
	// URL of the key set, http or https. Required.
	URL string

	// HTTPClient makes the fetches, each bounded by 5 seconds. Default: a client of its own that follows no redirect.
	HTTPClient *http.Client

	// RefreshInterval is the time from one background refresh to the next, shortened at random by up to a tenth so that
	// instances don't march in step. Default: 1 hour. A Cache-Control max-age in the answer (RFC 9111 section 5.2.2.1)
	// takes its place, within 1 minute and 24 hours.
	RefreshInterval time.Duration

	// Now is the clock by which the [RefreshWindow] is kept. Default: time.Now.
	Now func() time.Time

	// Logger hears of failed fetches (warning) and of changed keys (info). Default: discards.
	Logger *slog.Logger

	// OnRefresh, if set, is called after each fetch, by the goroutine that makes them: it delays the next.
	OnRefresh func(Refresh)
}

// Refresh is one fetch of the key set.
type Refresh struct {
	// Err is nil when the set was taken over.
	Err error
	// Duration of the fetch.
	Duration time.Duration
	// Keys is the number of usable keys held after the fetch.
	Keys int
}

// Key is one public key. It is immutable but for its removal, and safe for concurrent use.
type Key struct {
	id      string
	public  *rsa.PublicKey
	removed atomic.Bool
}

// ID returns the key's kid.
func (k *Key) ID() string { return k.id }

// Public returns the key itself; callers must not modify it.
func (k *Key) Public() *rsa.PublicKey { return k.public }

// Removed reports whether the key has left the set since it was handed out. What was verified with it and kept must not be
// used any more.
func (k *Key) Removed() bool { return k.removed.Load() }

// Set is a key set that keeps itself up to date until it is closed. All methods are safe for concurrent use.
type Set struct {
	cfg     Config
	storage jwkset.Storage
	keyfunc keyfunc.Keyfunc
	keys    atomic.Pointer[map[string]*Key] // nil until the first good answer

	mu         sync.Mutex
	current    *fetch              // under way or asked for; nil otherwise
	lastForKid time.Time           // when an unknown kid last caused a fetch
	lastErr    error               // of the last fetch
	absent     map[string]struct{} // kids that the last good fetch was made for and did not find

	kick   chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
}

// fetch is one fetch that callers can wait for.
type fetch struct {
	done   chan struct{}
	wanted map[string]struct{} // kids asked for before it began
	begun  bool
	err    error
}

// New returns a set that starts to load at once in the background; it does not wait and does not fail because the URL can't
// be reached. An error means that cfg is wrong. Close must be called to end the background work.
func New(cfg Config) (*Set, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, fmt.Errorf("jwks: Config.URL %q is not an http or https URL", cfg.URL)
	}
	if cfg.RefreshInterval < 0 {
		return nil, errors.New("jwks: Config.RefreshInterval is negative")
	}
	if cfg.RefreshInterval == 0 {
		cfg.RefreshInterval = defaultRefreshInterval
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = &http.Client{
			Timeout:       fetchTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	storage := jwkset.NewMemoryStorage()
	kf, err := keyfunc.New(keyfunc.Options{Storage: storage})
	if err != nil {
		return nil, fmt.Errorf("jwks: %w", err)
	}
	s := &Set{
		cfg:     cfg,
		storage: storage,
		keyfunc: kf,
		current: newFetch(),
		kick:    make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	go s.run()
	return s, nil
}

func newFetch() *fetch {
	return &fetch{done: make(chan struct{}), wanted: make(map[string]struct{})}
}

// Close ends the background work and returns when it has ended. Keys stay readable. It may be called more than once.
func (s *Set) Close() error {
	s.cancel()
	<-s.done
	return nil
}

// Key returns the key with this kid. A known key costs one map look-up. An unknown one causes a fetch, unless one was made
// for an unknown key within the [RefreshWindow], and waits for it until ctx ends, at most [MaxWait].
//
// The error is [ErrKeyNotFound], which is definitive, or [ErrUnavailable].
func (s *Set) Key(ctx context.Context, kid string) (*Key, error) {
	if key := s.lookup(kid); key != nil {
		return key, nil
	}
	f, err := s.fetchFor(kid)
	if err != nil {
		return nil, err
	}
	timeout := time.NewTimer(MaxWait)
	defer timeout.Stop()
	select {
	case <-f.done:
	case <-timeout.C:
		return nil, fmt.Errorf("%w: the fetch takes longer than %v", ErrUnavailable, MaxWait)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	case <-s.ctx.Done():
		return nil, fmt.Errorf("%w: the set is closed", ErrUnavailable)
	}
	if key := s.lookup(kid); key != nil {
		return key, nil
	}
	if f.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, f.err)
	}
	if _, ok := f.wanted[kid]; ok {
		return nil, ErrKeyNotFound
	}
	return nil, fmt.Errorf("%w: the last fetch had begun before", ErrUnavailable)
}

func (s *Set) lookup(kid string) *Key {
	if keys := s.keys.Load(); keys != nil {
		return (*keys)[kid]
	}
	return nil
}

// fetchFor returns the fetch that a caller in want of kid may wait for: the one under way, or a new one if an unknown kid
// may cause one now.
func (s *Set) fetchFor(kid string) (*fetch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		now := s.cfg.Now()
		if sinceLast := now.Sub(s.lastForKid); sinceLast >= 0 && sinceLast < RefreshWindow {
			if _, ok := s.absent[kid]; ok {
				return nil, ErrKeyNotFound
			}
			return nil, fmt.Errorf("%w: the keys were asked for %v ago", ErrUnavailable, sinceLast.Round(time.Second))
		}
		s.lastForKid = now
		s.current = newFetch()
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
	// Only a fetch that begins after the question came up can answer it with no.
	if !s.current.begun && len(s.current.wanted) < maxWanted {
		s.current.wanted[strings.Clone(kid)] = struct{}{}
	}
	return s.current, nil
}

// Keyfunc is a [jwt.Keyfunc]: it hands golang-jwt the key that the token's header names. A token without a kid, or of
// another algorithm than RS256, is refused. The errors are those of [Set.Key].
func (s *Set) Keyfunc(token *jwt.Token) (any, error) {
	kid, ok := token.Header["kid"].(string)
	if !ok || kid == "" {
		return nil, fmt.Errorf("%w: the token's header has no kid", ErrKeyNotFound)
	}
	if token.Method != jwt.SigningMethodRS256 {
		return nil, fmt.Errorf("%w: the token's algorithm is not RS256", ErrKeyNotFound)
	}
	if _, err := s.Key(s.ctx, kid); err != nil {
		return nil, err
	}
	return s.keyfunc.Keyfunc(token)
}

// Ready returns nil when keys are loaded. Otherwise it waits for the fetch under way, if there is one, at most until ctx
// ends, and returns what went wrong, as [ErrUnavailable].
func (s *Set) Ready(ctx context.Context) error {
	if s.keys.Load() != nil {
		return nil
	}
	s.mu.Lock()
	f, err := s.current, s.lastErr
	s.mu.Unlock()
	if f != nil {
		select {
		case <-f.done:
			err = f.err
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-s.ctx.Done():
			err = errors.New("the set is closed")
		}
	}
	if s.keys.Load() != nil {
		return nil
	}
	return fmt.Errorf("%w: no key was loaded yet: %w", ErrUnavailable, err)
}

// run makes all fetches, one at a time, so that any number of callers in want of a key share one.
func (s *Set) run() {
	defer close(s.done)
	failures := 0
	for {
		began := time.Now()
		f := s.begin()
		keys, refused, maxAge, err := s.fetch()
		if err == nil {
			s.replace(keys)
		}
		s.end(f, err)
		if s.ctx.Err() != nil {
			return
		}

		wait := s.cfg.RefreshInterval
		if maxAge > 0 {
			wait = min(max(maxAge, minMaxAge), maxMaxAge)
		}
		wait -= rand.N(wait/10 + 1)
		if err != nil {
			backoff := min(minBackoff<<min(failures, 10), maxBackoff)
			wait = min(wait, backoff/2+rand.N(backoff/2))
			failures++
			s.cfg.Logger.Warn("stytchhttp: the key set can't be fetched", "error", err, "retry_in", wait, "keys_held", s.count())
		} else {
			failures = 0
			for _, reason := range refused {
				s.cfg.Logger.Info("stytchhttp: the key set has a key that is not used", "reason", reason)
			}
		}
		if s.cfg.OnRefresh != nil {
			s.cfg.OnRefresh(Refresh{Err: err, Duration: time.Since(began), Keys: s.count()})
		}

		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.kick:
			timer.Stop()
		case <-s.ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (s *Set) begin() *fetch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		s.current = newFetch()
	}
	s.current.begun = true
	select {
	case <-s.kick: // this fetch is the answer to it
	default:
	}
	return s.current
}

func (s *Set) end(f *fetch, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.err = err
	s.lastErr = err
	if err == nil {
		s.absent = f.wanted // those found are no longer asked for
	}
	s.current = nil
	close(f.done)
}

func (s *Set) count() int {
	if keys := s.keys.Load(); keys != nil {
		return len(*keys)
	}
	return 0
}

// replace takes the new keys over. A key that is there again stays the same *Key, so that what was verified with it stays
// good; one that is gone is marked.
func (s *Set) replace(jwks []jwkset.JWK) {
	var old map[string]*Key
	if p := s.keys.Load(); p != nil {
		old = *p
	}
	next := make(map[string]*Key, len(jwks))
	for _, jwk := range jwks {
		kid, public := jwk.Marshal().KID, jwk.Key().(*rsa.PublicKey)
		if k := old[kid]; k != nil && k.public.Equal(public) {
			next[kid] = k
		} else {
			next[kid] = &Key{id: kid, public: public}
			s.cfg.Logger.Info("stytchhttp: new key", "kid", kid)
		}
	}
	_ = s.storage.KeyReplaceAll(s.ctx, jwks) // in memory: it can't fail
	s.keys.Store(&next)
	for kid, k := range old {
		if next[kid] != k {
			k.removed.Store(true)
			s.cfg.Logger.Info("stytchhttp: key removed", "kid", kid)
		}
	}
}

func (s *Set) fetch() (keys []jwkset.JWK, refused []error, maxAge time.Duration, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.URL, nil)
	if err != nil {
		return nil, nil, 0, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.cfg.HTTPClient.Do(req)
	if err != nil {
		return nil, nil, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, 0, fmt.Errorf("jwks: %s answered %s", s.cfg.URL, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxBodyBytes+1))
	if err != nil {
		return nil, nil, 0, fmt.Errorf("jwks: reading the answer of %s: %w", s.cfg.URL, err)
	}
	if len(body) > MaxBodyBytes {
		return nil, nil, 0, fmt.Errorf("%w: over %d bytes", ErrUnacceptable, MaxBodyBytes)
	}
	keys, refused, err = parse(body)
	return keys, refused, parseMaxAge(resp.Header.Get("Cache-Control")), err
}

// parseMaxAge returns the max-age of a Cache-Control header, or 0 if it has none.
func parseMaxAge(header string) time.Duration {
	for directive := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		if seconds, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32); err == nil && seconds > 0 {
			return time.Duration(seconds) * time.Second
		}
	}
	return 0
}
