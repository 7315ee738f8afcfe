package stytchhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stytchhttp/stytchhttp/jwks"
)

// jwtLifetime is how long every session JWT of Stytch lives, whatever its session's length.
const jwtLifetime = 5 * time.Minute

// A session's length, as Stytch accepts it (session_duration_minutes).
const (
	minDuration = 5 * time.Minute
	maxDuration = 527040 * time.Minute
)

const (
	testURL = "https://test.stytch.com"
	liveURL = "https://api.stytch.com"
)

// Config configures a [Middleware]. The zero value of each field but ProjectID and Secret is its documented default. It
// prints and logs without the secret.
type Config struct {
	// ProjectID is the project's id, "project-test-…" or "project-live-…". Required.
	ProjectID string

	// Secret is the project's secret, "secret-test-…" or "secret-live-…". Required.
	Secret string `json:"-"`

	// BaseURL is where Stytch is: the project's custom domain, or a test server. It must be https; http is accepted for
	// loopback hosts only. Default: https://test.stytch.com or https://api.stytch.com, by the project's id.
	BaseURL string

	// HTTPClient makes all calls to Stytch. Each call has a deadline and a limit of 1 MiB for its answer, whatever the
	// client. Redirects are followed only if it has a CheckRedirect of its own. Default: a client of its own.
	HTTPClient *http.Client

	// MaxTokenAge is the age, since its iat, over which a JWT is not taken for an answer any more and Stytch is asked.
	// Default: the JWT's own lifetime, five minutes.
	MaxTokenAge time.Duration

	// Leeway is the clock skew allowed for exp, nbf and iat; under five minutes. Default: 0.
	Leeway time.Duration

	// CacheSize is the number of verified JWTs, and that of exchanged ones, kept in memory; about 4 KB each. Default:
	// 10,000. Negative: none is kept, and each request costs a signature check or a remote call.
	CacheSize int

	// ExtendBy makes sessions slide: each call to Stytch extends the session to this from now, whole minutes from 5 minutes to
	// 527040 minutes (366 days). Calls are made when a JWT is out of its time, so at most once per JWT lifetime and session. The
	// request that extended its session renews the cookies it came with, and its answer becomes Cache-Control: private,
	// no-store. Default: 0, sessions are not extended, and no ordinary request writes a cookie.
	ExtendBy time.Duration

	// StaleGrace lets a JWT that expired less than this ago pass while Stytch can't be reached, marked [ViaStale], except
	// behind AuthenticateWithin. Default: 0, it doesn't pass.
	StaleGrace time.Duration

	// NoTokensEndpoint switches off that endpoint of SessionHandler which tells a page its own tokens.
	NoTokensEndpoint bool

	// Sources is where tokens are read from, in order. Default: Bearer(), SessionCookies().
	Sources []Source

	// Cookies says how the session's cookies look. Default: as Stytch's browser SDK writes them.
	Cookies CookieConfig

	// LoginURL is where a page request without a valid session is redirected (303), a path on this site ("/login") or an http or
	// https URL. A path gets a parameter next, the path and query that were asked for; read it with [NextFrom]. Page requests
	// are told from others by Sec-Fetch-Mode and Accept; calls by scripts, HTMX among them, get a status. Default: none, 401.
	LoginURL string

	// TrustedOrigins are other origins ("https://app.example.com") whose pages may send unsafe requests with cookies; see
	// http.CrossOriginProtection. Default: none.
	TrustedOrigins []string

	// ErrorHandler answers a request that is refused. err is one of this package's errors by errors.Is; [ProblemFrom] says what
	// the default answer would be, for a page of one's own. It must not leak err's text to the caller. Default: [WriteProblem].
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error)

	// Logger hears of what an operator should know; never of a token. Default: discards.
	Logger *slog.Logger

	// Observe, if set, is called for each decision, remote call, key and policy refresh, by the goroutine that made it, at once by
	// many of them: it must be quick.
	Observe func(ctx context.Context, e Event)

	// Authenticator makes the remote calls. Default: a small client of its own.
	Authenticator Authenticator

	// Now is the clock that tokens are judged by; package stytchtest moves it. Default: time.Now.
	Now func() time.Time
}

// String returns the configuration without the secret.
func (c Config) String() string {
	return fmt.Sprintf("stytchhttp.Config{ProjectID:%s Secret:%s BaseURL:%s}", c.ProjectID, redact(c.Secret), c.BaseURL)
}

// GoString is String, for %#v.
func (c Config) GoString() string { return c.String() }

// LogValue implements [slog.LogValuer].
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Middleware carries Stytch sessions through a server's handlers. Make it with [New]; all methods are safe for concurrent
// use. Several, for several projects, live side by side in one process and on one request.
type Middleware struct {
	config        Config
	extendMinutes int
	issuer        string
	loginURL      *url.URL // nil if there is none
	customIssuer  string
	sources       []Source
	vary          string
	cookies       cookies
	crossOrigin   http.CrossOriginProtection

	keys    *jwks.Set
	client  *client
	remote  remote
	policy  policy
	tasks   tasks
	flights flights
	credit  credit
	memory  memory
	revoked revocations

	warnedFuture, warnedConfig atomic.Int64 // unix seconds of the last warning

	ctx        context.Context
	cancel     context.CancelFunc
	ownClients []*http.Client
}

// EventKind says what an [Event] tells of.
type EventKind string

const (
	// EventDecision: a request was let pass or refused by Authenticate or Require. Via, SessionID, Err and Duration are set.
	EventDecision EventKind = "decision"
	// EventAuthenticateCall: one attempt at sessions/authenticate. Err, Duration and Attempt are set.
	EventAuthenticateCall EventKind = "authenticate_call"
	// EventRevokeCall: one attempt at sessions/revoke. Err, Duration and Attempt are set.
	EventRevokeCall EventKind = "revoke_call"
	// EventPolicyRefresh: one fetch of the RBAC policy, for Permission. Err and Duration are set.
	EventPolicyRefresh EventKind = "policy_refresh"
	// EventKeyRefresh: one fetch of the key set. Err, Duration and Keys are set.
	EventKeyRefresh EventKind = "key_refresh"
)

// Event is what Config.Observe is told. It carries no credential.
type Event struct {
	Kind EventKind
	// Via is the rung that proved the session; empty if none did.
	Via Via
	// SessionID of the session that was found; empty if none was.
	SessionID string
	// Err is nil if all went well, and one of this package's errors otherwise; for a key refresh one of package jwks.
	Err error
	// Duration is how long it took.
	Duration time.Duration
	// Attempt counts the attempts of one call, from 1.
	Attempt int
	// Keys is the number of usable keys held.
	Keys int
}

// New checks the configuration and returns a Middleware that loads the project's keys in the background. It makes no network
// call itself, returns at once and does not fail because Stytch is down. An error names the field that is wrong. Close
// ends the background work.
func New(config Config) (*Middleware, error) {
	m := &Middleware{config: config}
	c := &m.config
	live := strings.HasPrefix(c.ProjectID, "project-live-")
	switch {
	case c.ProjectID == "":
		return nil, errors.New("stytchhttp: Config.ProjectID is missing: it is in Stytch's dashboard under API keys")
	case !live && !strings.HasPrefix(c.ProjectID, "project-test-"), strings.ContainsAny(c.ProjectID, "/?#% :"):
		return nil, fmt.Errorf("stytchhttp: Config.ProjectID %q is not of the form project-test-… or project-live-…", c.ProjectID)
	case c.Secret == "":
		return nil, errors.New("stytchhttp: Config.Secret is missing: it is in Stytch's dashboard under API keys")
	case c.MaxTokenAge < 0:
		return nil, errors.New("stytchhttp: Config.MaxTokenAge is negative")
	case c.Leeway < 0 || c.Leeway >= jwtLifetime:
		return nil, fmt.Errorf("stytchhttp: Config.Leeway is %v, want 0 to under %v", c.Leeway, jwtLifetime)
	case c.ExtendBy != 0 && (c.ExtendBy < minDuration || c.ExtendBy > maxDuration || c.ExtendBy%time.Minute != 0):
		return nil, fmt.Errorf("stytchhttp: Config.ExtendBy is %v, want whole minutes from %v to %v", c.ExtendBy, minDuration, maxDuration)
	case c.StaleGrace < 0:
		return nil, errors.New("stytchhttp: Config.StaleGrace is negative")
	}

	m.extendMinutes = int(c.ExtendBy / time.Minute)

	baseURL := testURL
	if live {
		baseURL = liveURL
	}
	m.issuer = "stytch.com/" + c.ProjectID
	if c.BaseURL != "" {
		var err error
		if baseURL, err = parseBaseURL(c.BaseURL); err != nil {
			return nil, err
		}
		m.customIssuer = baseURL
	}

	if c.LoginURL != "" {
		var err error
		if m.loginURL, err = parseLoginURL(c.LoginURL); err != nil {
			return nil, err
		}
	}

	m.sources = append([]Source(nil), c.Sources...)
	if len(m.sources) == 0 {
		m.sources = []Source{Bearer(), SessionCookies()}
	}
	m.vary = "Authorization, Cookie"
	for i, source := range m.sources {
		if source.kind == sourceNone || (source.kind == sourceFunc && source.read == nil) {
			return nil, fmt.Errorf("stytchhttp: Config.Sources[%d] is empty: use Bearer, SessionCookies or SourceFunc", i)
		}
		if source.kind == sourceFunc {
			m.vary = "*" // it may look at anything
		}
	}
	var err error
	if m.cookies, err = newCookies(c.Cookies); err != nil {
		return nil, err
	}
	for _, origin := range c.TrustedOrigins {
		if err := m.crossOrigin.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("stytchhttp: Config.TrustedOrigins: %w", err)
		}
	}
	if c.ErrorHandler == nil {
		c.ErrorHandler = WriteProblem
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.CacheSize == 0 {
		c.CacheSize = 10_000
	}

	if c.HTTPClient == nil {
		c.HTTPClient = newHTTPClient()
		m.ownClients = append(m.ownClients, c.HTTPClient)
	} else if c.HTTPClient.CheckRedirect == nil {
		own := *c.HTTPClient
		own.CheckRedirect = noRedirect
		c.HTTPClient = &own
	}
	m.client = &client{http: c.HTTPClient, baseURL: baseURL, projectID: c.ProjectID, secret: c.Secret}
	m.remote.authenticator = c.Authenticator
	if c.Authenticator == nil {
		m.remote.authenticator = m.client
	}
	m.remote.report = m.reportCall

	m.memory = newMemory(c.CacheSize, c.Now)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.keys, err = jwks.New(jwks.Config{
		URL:        baseURL + "/v1/sessions/jwks/" + c.ProjectID,
		HTTPClient: c.HTTPClient,
		Now:        c.Now,
		Logger:     c.Logger,
		OnRefresh: func(refresh jwks.Refresh) {
			if c.Observe != nil {
				c.Observe(m.ctx, Event{Kind: EventKeyRefresh, Err: refresh.Err, Duration: refresh.Duration, Keys: refresh.Keys})
			}
		},
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Close ends the background work and the remote calls under way, and returns when they have ended. Requests are served
// on as far as no remote call is needed. It may be called more than once; the error is always nil.
func (m *Middleware) Close() error {
	m.cancel()
	err := m.keys.Close()
	m.flights.close()
	m.tasks.close()
	m.memory.close()
	for _, client := range m.ownClients {
		client.CloseIdleConnections()
	}
	return err
}

// Ready returns nil once the project's keys are loaded, and the RBAC policy if Permission is used, for a readiness probe.
// Otherwise it waits for the fetch under way, at most until ctx ends, and returns an [ErrUnavailable]. It stays nil during an
// outage: what was once loaded is kept.
func (m *Middleware) Ready(ctx context.Context) error {
	if err := m.keys.Ready(ctx); err != nil {
		return &UnavailableError{Cause: err}
	}
	if m.policy.started.Load() {
		_, err := m.policy.wait(ctx)
		return err
	}
	return nil
}

// Protect returns Hydrate, Authenticate and Require in one wrapper.
func (m *Middleware) Protect(rules ...Rule) func(http.Handler) http.Handler {
	require := m.Require(rules...)
	return func(next http.Handler) http.Handler {
		return m.Hydrate(m.Authenticate(require(next)))
	}
}

// refuse answers a request that must not pass. The ErrorHandler finds in its context whose refusal it is.
func (m *Middleware) refuse(w http.ResponseWriter, r *http.Request, err error) {
	r, _ = m.hydrate(w, r)
	m.config.ErrorHandler(w, r, err)
}

// decided reports a decision to the observer.
func (m *Middleware) decided(ctx context.Context, session *Session, via Via, err error, took time.Duration) {
	if m.config.Observe == nil {
		return
	}
	e := Event{Kind: EventDecision, Via: via, Err: err, Duration: took}
	if session != nil {
		e.SessionID = session.id
	}
	m.config.Observe(ctx, e)
}

// reportCall tells the operator what a remote call came to.
func (m *Middleware) reportCall(ctx context.Context, e Event) {
	switch {
	case errors.Is(e.Err, ErrMisconfigured):
		if m.seldom(&m.warnedConfig) {
			m.config.Logger.ErrorContext(ctx, "stytchhttp: Stytch refuses this project's own credentials; "+
				"nobody can be authenticated remotely until they are mended", "project_id", m.config.ProjectID, "error", e.Err)
		}
	case errors.Is(e.Err, ErrUnavailable):
		m.config.Logger.WarnContext(ctx, "stytchhttp: a call to Stytch failed", "call", e.Kind, "attempt", e.Attempt, "error", e.Err)
	}
	if m.config.Observe != nil {
		m.config.Observe(ctx, e)
	}
}

// seldom is true at most once a minute for each warning.
func (m *Middleware) seldom(last *atomic.Int64) bool {
	now, then := time.Now().Unix(), last.Load()
	return now-then >= 60 && last.CompareAndSwap(then, now)
}

// detach returns a context that outlives the request it came with, but not Close.
func (m *Middleware) detach(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(m.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}
