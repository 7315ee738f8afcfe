package stytchhttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

const (
	connectTimeout  = 2 * time.Second
	attemptTimeout  = 3 * time.Second
	overallTimeout  = 6 * time.Second
	maxAttempts     = 3
	retryBackoff    = 100 * time.Millisecond
	maxResponseSize = 1 << 20
	maxRetryAfter   = 30 * time.Second
)

// Authenticator makes the two calls to Stytch. Config.Authenticator replaces the package's own small client by another, by
// an existing Stytch SDK client, say. Its methods are called by many requests at once; retries, deadlines, the breaker and
// the sharing of calls are added around it.
//
// An error that wraps an [APIError] is judged by its status and type. Any other error counts as an outage.
type Authenticator interface {
	// AuthenticateSession asks whether a session lives: POST /v1/sessions/authenticate.
	AuthenticateSession(ctx context.Context, request AuthenticateRequest) (AuthenticateResponse, error)
	// RevokeSession ends a session: POST /v1/sessions/revoke.
	RevokeSession(ctx context.Context, request RevokeRequest) error
}

// AuthenticateRequest carries exactly one of the two tokens.
type AuthenticateRequest struct {
	Tokens Tokens
	// SessionDurationMinutes extends the session to this from now: 5 to 527040. 0: it is not extended.
	SessionDurationMinutes int
}

// AuthenticateResponse is Stytch's answer about a session that lives.
type AuthenticateResponse struct {
	// Session is the answer's session object; see [ParseSession].
	Session *Session
	// Tokens are the answer's session token and fresh session JWT.
	Tokens Tokens
}

// RevokeRequest names the session to end: by its id if that is known, else by exactly one of the two tokens.
type RevokeRequest struct {
	SessionID string
	Tokens    Tokens
}

// APIError is an error answer of Stytch's API. See https://stytch.com/docs/api/errors.
type APIError struct {
	// StatusCode is the answer's HTTP status.
	StatusCode int
	// Type is Stytch's error_type, like "session_not_found"; empty if the answer was not Stytch's JSON.
	Type string
	// RequestID is Stytch's request_id, for its support.
	RequestID string
	// RetryAfter is the answer's Retry-After, 0 if it had none.
	RetryAfter time.Duration
}

// Error returns status, type and request id.
func (e *APIError) Error() string {
	if e.Type == "" {
		return fmt.Sprintf("Stytch answered %d with something other than its JSON", e.StatusCode)
	}
	return fmt.Sprintf("Stytch answered %d %s (request_id %s)", e.StatusCode, e.Type, e.RequestID)
}

// verdictOf says what an error of an Authenticator means for the caller: nil, an ErrInvalidSession if the session is
// definitely gone, an ErrMisconfigured, or an UnavailableError.
func verdictOf(err error) error {
	var api *APIError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &api):
		return &UnavailableError{Cause: err}
	}
	switch {
	case api.StatusCode == http.StatusNotFound && api.Type == "session_not_found":
		return errRefused
	case api.StatusCode == http.StatusBadRequest:
		switch api.Type {
		case "invalid_session_token", "invalid_session_fields",
			"jwt_invalid_audience", "jwt_invalid_issuer", "jwt_invalid_claims":
			return errRefused
		}
	case api.StatusCode == http.StatusUnauthorized && api.Type != "":
		return &UnavailableError{Cause: fmt.Errorf("%w: %w", ErrMisconfigured, api), RetryAfter: maxRetryAfter}
	}
	return &UnavailableError{Cause: err, RetryAfter: min(api.RetryAfter, maxRetryAfter)}
}

// retryable reports whether the same call may succeed a moment later: after network errors, 429 and 5xx. Both calls may be
// repeated safely: authenticate rotates nothing, and a session is revoked once.
func retryable(err error) bool {
	var api *APIError
	if errors.As(err, &api) {
		return api.StatusCode == http.StatusTooManyRequests || api.StatusCode >= 500
	}
	return !errors.Is(err, errUnreadable)
}

// remote makes calls through an Authenticator so that an outage of Stytch is cheap and short.
type remote struct {
	authenticator Authenticator
	breaker       breaker
	report        func(ctx context.Context, e Event)
}

// authenticate asks about one token.
func (c *remote) authenticate(ctx context.Context, request AuthenticateRequest) (AuthenticateResponse, error) {
	var response AuthenticateResponse
	err := c.call(ctx, EventAuthenticateCall, func(ctx context.Context) (err error) {
		response, err = c.authenticator.AuthenticateSession(ctx, request)
		if err == nil && response.Session == nil {
			err = fmt.Errorf("%w: no session", errUnreadable)
		}
		return err
	})
	return response, err
}

// revoke ends a session. One that is gone already is no error.
func (c *remote) revoke(ctx context.Context, request RevokeRequest) error {
	err := c.call(ctx, EventRevokeCall, func(ctx context.Context) error {
		return c.authenticator.RevokeSession(ctx, request)
	})
	if errors.Is(err, ErrInvalidSession) {
		return nil
	}
	return err
}

// call makes attempts until one is answered, the error is not worth another, or the time is up. Each attempt passes the
// breaker.
func (c *remote) call(ctx context.Context, kind EventKind, attempt func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, overallTimeout)
	defer cancel()
	for n := 1; ; n++ {
		if wait := c.breaker.allow(); wait > 0 {
			return &UnavailableError{Cause: errBreakerOpen, RetryAfter: wait}
		}
		began := time.Now()
		attemptCtx, cancelAttempt := context.WithTimeout(ctx, attemptTimeout)
		err := guarded(attemptCtx, attempt)
		cancelAttempt()
		verdict := verdictOf(err)
		// Whoever was told no was told something: only an outage, or being throttled, counts against Stytch.
		var outage *UnavailableError
		if errors.As(verdict, &outage) {
			c.breaker.failed(outage.RetryAfter)
		} else {
			c.breaker.answered()
		}
		c.report(ctx, Event{Kind: kind, Err: verdict, Duration: time.Since(began), Attempt: n})
		if outage == nil || !retryable(err) || n == maxAttempts {
			return verdict
		}
		backoff := retryBackoff << (n - 1)
		wait := backoff/2 + rand.N(backoff)
		var api *APIError
		if errors.As(err, &api) && api.RetryAfter > 0 {
			wait = api.RetryAfter
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return verdict
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return verdict
		}
	}
}

// guarded turns a panic of a user's Authenticator into an error: it runs on a goroutine that net/http does not guard. The
// panic's value is not quoted: it may hold a token.
func guarded(ctx context.Context, attempt func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: the Authenticator panicked (%T) at\n%s", errUnreadable, v, debug.Stack())
		}
	}()
	return attempt(ctx)
}

// errUnreadable is an answer of 200 that is not what was agreed. Asking again at once would not mend it.
var errUnreadable = errors.New("the answer can't be read")

// client makes calls to Stytch's API, with Basic auth, JSON in and out. It is the package's own Authenticator.
type client struct {
	http      *http.Client
	baseURL   string // without a trailing slash
	projectID string
	secret    string
}

func newHTTPClient() *http.Client {
	return &http.Client{
		Timeout: overallTimeout,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}).DialContext,
			ForceAttemptHTTP2:     true,
			TLSHandshakeTimeout:   connectTimeout,
			ResponseHeaderTimeout: attemptTimeout,
			MaxIdleConnsPerHost:   32,
			IdleConnTimeout:       90 * time.Second,
		},
		// A redirect would carry the secret and the token to another place.
		CheckRedirect: noRedirect,
	}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// sessionBody is the body of both calls.
type sessionBody struct {
	SessionID    string `json:"session_id,omitempty"`
	SessionToken string `json:"session_token,omitempty"`
	SessionJWT   string `json:"session_jwt,omitempty"`
	Minutes      int    `json:"session_duration_minutes,omitempty"`
}

func (c *client) AuthenticateSession(ctx context.Context, request AuthenticateRequest) (AuthenticateResponse, error) {
	body, err := c.call(ctx, http.MethodPost, "/v1/sessions/authenticate", sessionBody{
		SessionToken: request.Tokens.SessionToken, SessionJWT: request.Tokens.SessionJWT, Minutes: request.SessionDurationMinutes,
	})
	if err != nil {
		return AuthenticateResponse{}, err
	}
	var answer struct {
		Session      json.RawMessage `json:"session"`
		SessionToken string          `json:"session_token"`
		SessionJWT   string          `json:"session_jwt"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Session) == 0 {
		return AuthenticateResponse{}, fmt.Errorf("%w: not an authenticate response", errUnreadable)
	}
	session, err := ParseSession(answer.Session)
	if err != nil {
		return AuthenticateResponse{}, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return AuthenticateResponse{
		Session: session,
		Tokens:  Tokens{SessionToken: answer.SessionToken, SessionJWT: answer.SessionJWT},
	}, nil
}

func (c *client) RevokeSession(ctx context.Context, request RevokeRequest) error {
	_, err := c.call(ctx, http.MethodPost, "/v1/sessions/revoke", sessionBody{
		SessionID: request.SessionID, SessionToken: request.Tokens.SessionToken, SessionJWT: request.Tokens.SessionJWT,
	})
	return err
}

// call returns the body of a 200 answer that is JSON, and otherwise an APIError or what went wrong on the way. No error
// quotes the request or the answer.
func (c *client) call(ctx context.Context, method, path string, in any) ([]byte, error) {
	var sent io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encoding the request: %w", err)
		}
		sent = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.baseURL+path, sent)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	req.SetBasicAuth(c.projectID, c.secret)
	if sent != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "stytchhttp")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponseSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		if len(body) > maxResponseSize {
			return nil, fmt.Errorf("%w: over %d bytes", errUnreadable, maxResponseSize)
		}
		return body, nil
	}
	failure := &APIError{StatusCode: resp.StatusCode, RetryAfter: parseRetryAfter(resp.Header.Get("Retry-After"))}
	var answer struct {
		Type      string `json:"error_type"`
		RequestID string `json:"request_id"`
	}
	if json.Unmarshal(body, &answer) == nil {
		failure.Type, failure.RequestID = answer.Type, answer.RequestID
	}
	return nil, failure
}

// parseRetryAfter reads a Retry-After header (RFC 9110 section 10.2.3), in seconds or as a date.
func parseRetryAfter(header string) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// parseBaseURL checks a base URL: https, or http on a loopback host, with neither query nor credentials.
func parseBaseURL(raw string) (string, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("stytchhttp: Config.BaseURL is not a plain URL like https://login.example.com")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return strings.TrimRight(raw, "/"), nil
	}
	return "", errors.New("stytchhttp: Config.BaseURL must be https: the project's secret travels there (http is for loopback hosts only)")
}
