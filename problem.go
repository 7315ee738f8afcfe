package stytchhttp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// The reasons why a request is not served. Errors of this package wrap exactly one of them: test with errors.Is.
var (
	// ErrNoSession: the request carries no credential. 401, code no_session.
	ErrNoSession = errors.New("stytchhttp: no session: the request carries neither a session token nor a session JWT")

	// ErrInvalidSession: the credential is refused for good, by its form, its signature or Stytch. 401, code
	// invalid_session.
	ErrInvalidSession = errors.New("stytchhttp: invalid session")

	// ErrForbidden: a rule of Require is not met. 403, code forbidden. See [RuleError].
	ErrForbidden = errors.New("stytchhttp: forbidden")

	// ErrCrossOrigin: a browser sent an unsafe request from another origin, with credentials that it adds by itself. 403,
	// code cross_origin. See Config.TrustedOrigins.
	ErrCrossOrigin = errors.New("stytchhttp: cross-origin request: list the origin in Config.TrustedOrigins if it is yours")

	// ErrInvalidRequest: a request to SessionHandler is not what is expected there. 400, 404, 405, 413 or 415. See
	// [RequestError].
	ErrInvalidRequest = errors.New("stytchhttp: invalid request")

	// ErrUnavailable: nobody can say now whether the session lives: Stytch can't be reached, throttles, or answers
	// something unreadable. 503 with Retry-After, code unavailable. See [UnavailableError].
	ErrUnavailable = errors.New("stytchhttp: the session can't be checked now")

	// ErrMisconfigured: Stytch refuses the project's own credentials. For the caller it is an [ErrUnavailable], which it
	// also wraps; the operator must mend Config.ProjectID or Config.Secret.
	ErrMisconfigured = fmt.Errorf("%w: Stytch refuses Config.ProjectID or Config.Secret", ErrUnavailable)
)

// Refusals are made once: under attack they are many.
var (
	errMalformed = fmt.Errorf("%w: malformed credential", ErrInvalidSession)
	errForeign   = fmt.Errorf("%w: not a session JWT of this project", ErrInvalidSession)
	errSignature = fmt.Errorf("%w: the signature does not hold", ErrInvalidSession)
	errRevoked   = fmt.Errorf("%w: the session is revoked", ErrInvalidSession)
	errMixed     = fmt.Errorf("%w: the session token and the JWT are of two sessions", ErrInvalidSession)
	errRefused   = fmt.Errorf("%w: refused by Stytch", ErrInvalidSession)
)

// UnavailableError is an [ErrUnavailable] that says when to come back.
type UnavailableError struct {
	// RetryAfter is how long the caller should wait.
	RetryAfter time.Duration
	// Cause is what went wrong. It is for logs, not for callers.
	Cause error
}

// Error says what went wrong.
func (e *UnavailableError) Error() string {
	return fmt.Sprintf("%v: %v", ErrUnavailable, e.Cause)
}

// Unwrap makes the error an ErrUnavailable, and whatever its cause is.
func (e *UnavailableError) Unwrap() []error { return []error{ErrUnavailable, e.Cause} }

// RequestError is an [ErrInvalidRequest]. All its fields are shown to the caller.
type RequestError struct {
	// StatusCode is the answer's HTTP status.
	StatusCode int
	// Code is a short name for programs: invalid_request, not_found, method_not_allowed, too_large, unsupported_media_type.
	Code string
	// Detail is a sentence for people.
	Detail string
}

// Error returns the code and the detail.
func (e *RequestError) Error() string {
	return fmt.Sprintf("%v: %s: %s", ErrInvalidRequest, e.Code, e.Detail)
}

// Unwrap makes the error an ErrInvalidRequest.
func (e *RequestError) Unwrap() error { return ErrInvalidRequest }

const defaultRetryAfter = time.Second

// RetryAfter returns how long the caller of a request that failed with err should wait before it tries again: at least one
// second for an [ErrUnavailable], otherwise 0.
func RetryAfter(err error) time.Duration {
	if !errors.Is(err, ErrUnavailable) {
		return 0
	}
	var u *UnavailableError
	if errors.As(err, &u) {
		return max(u.RetryAfter, defaultRetryAfter)
	}
	return defaultRetryAfter
}

// problem is the body of an answer (RFC 9457). Code and Rule are extension members.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Rule   string `json:"rule,omitempty"`
}

// WriteProblem is the default Config.ErrorHandler. It answers the request according to err:
//
//	ErrNoSession       401  no_session       WWW-Authenticate: Bearer
//	ErrInvalidSession  401  invalid_session  WWW-Authenticate: Bearer error="invalid_token"
//	ErrForbidden       403  forbidden        rule: which; for Bearer clients error="insufficient_scope"
//	ErrCrossOrigin     403  cross_origin
//	ErrInvalidRequest  4xx  as its RequestError says
//	ErrUnavailable     503  unavailable      Retry-After, in seconds
//
// The body is application/problem+json (RFC 9457) with the members title, status, detail, code and, for forbidden, rule.
// WWW-Authenticate is that of RFC 6750 section 3. The answer is not cacheable and sets no cookie. Any other error is
// answered with 500 and no detail.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	p := problem{Title: "Internal Server Error", Status: http.StatusInternalServerError, Code: "internal",
		Detail: "The request could not be handled."}
	header := w.Header()
	bearer := r.Header.Get("Authorization") != ""
	var request *RequestError
	switch {
	case errors.As(err, &request):
		p = problem{Title: http.StatusText(request.StatusCode), Status: request.StatusCode, Code: request.Code, Detail: request.Detail}
	case errors.Is(err, ErrUnavailable):
		p = problem{Title: "Service Unavailable", Status: http.StatusServiceUnavailable, Code: "unavailable",
			Detail: "The session can't be checked right now. Nobody was logged out; try again."}
		seconds := (RetryAfter(err) + time.Second - 1) / time.Second
		header.Set("Retry-After", strconv.Itoa(int(seconds)))
	case errors.Is(err, ErrCrossOrigin):
		p = problem{Title: "Forbidden", Status: http.StatusForbidden, Code: "cross_origin",
			Detail: "The request comes from another origin."}
	case errors.Is(err, ErrForbidden):
		p = problem{Title: "Forbidden", Status: http.StatusForbidden, Code: "forbidden",
			Detail: "The session does not meet a rule of this route."}
		var rule *RuleError
		if errors.As(err, &rule) {
			p.Rule, p.Detail = rule.Rule, rule.Detail
		}
		if bearer {
			header.Set("WWW-Authenticate", `Bearer error="insufficient_scope"`)
		}
	case errors.Is(err, ErrInvalidSession):
		p = problem{Title: "Unauthorized", Status: http.StatusUnauthorized, Code: "invalid_session",
			Detail: "The session is expired, revoked or was never valid. Log in again."}
		header.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	case errors.Is(err, ErrNoSession):
		p = problem{Title: "Unauthorized", Status: http.StatusUnauthorized, Code: "no_session",
			Detail: "Log in first."}
		header.Set("WWW-Authenticate", "Bearer")
	}
	body, _ := json.Marshal(p) // strings and an int: it can't fail
	header.Set("Content-Type", "application/problem+json")
	noStore(header)
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n'))
}
