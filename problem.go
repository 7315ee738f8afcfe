package stytchhttp

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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

// Problem is the default answer to a request that is refused. [ProblemFrom] makes it.
type Problem struct {
	// Status is the HTTP status.
	Status int
	// Code is a short name for programs: no_session, invalid_session, forbidden, cross_origin, unavailable, or one of
	// [RequestError].
	Code string
	// Title and Detail are for people.
	Title, Detail string
	// Unmet is the rule that a forbidden request does not meet, if it says so.
	Unmet *RuleError
	// Page says that a browser is to show the answer to somebody, by Sec-Fetch-Mode and Accept.
	Page bool
	// Location is where the answer redirects to: Config.LoginURL with its next; otherwise empty.
	Location string
	// Header has the headers that go with it: Cache-Control, WWW-Authenticate, Retry-After, Location. It is the caller's own.
	Header http.Header
}

// ProblemFrom says how a request that failed with err is answered: as [WriteProblem] describes. It is for a Config.ErrorHandler
// that shows a page of its own:
//
//	p := stytchhttp.ProblemFrom(r, err)
//	if !p.Page || p.Location != "" {
//		stytchhttp.WriteProblem(w, r, err)
//		return
//	}
//	maps.Copy(w.Header(), p.Header)
//	w.WriteHeader(p.Status)
//	errorPage.Execute(w, p)
func ProblemFrom(r *http.Request, err error) Problem {
	p := Problem{
		Status: http.StatusInternalServerError, Code: "internal", Detail: "The request could not be handled.",
		Page: isPage(r), Header: make(http.Header),
	}
	noStore(p.Header)
	var request *RequestError
	switch {
	case errors.As(err, &request):
		p.Status, p.Code, p.Detail = request.StatusCode, request.Code, request.Detail
	case errors.Is(err, ErrUnavailable):
		p.Status, p.Code = http.StatusServiceUnavailable, "unavailable"
		p.Detail = "The session can't be checked right now. Nobody was logged out; try again."
		p.Header.Set("Retry-After", seconds(RetryAfter(err)))
	case errors.Is(err, ErrCrossOrigin):
		p.Status, p.Code, p.Detail = http.StatusForbidden, "cross_origin", "The request comes from another origin."
	case errors.Is(err, ErrForbidden):
		p.Status, p.Code, p.Detail = http.StatusForbidden, "forbidden", "The session does not meet a rule of this route."
		if errors.As(err, &p.Unmet) {
			p.Detail = p.Unmet.Detail
		}
		if r.Header.Get("Authorization") != "" {
			p.Header.Set("WWW-Authenticate", challenge(p.Unmet))
		}
	case errors.Is(err, ErrInvalidSession):
		p.Status, p.Code = http.StatusUnauthorized, "invalid_session"
		p.Detail = "The session is expired, revoked or was never valid. Log in again."
		p.Header.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	case errors.Is(err, ErrNoSession):
		p.Status, p.Code, p.Detail = http.StatusUnauthorized, "no_session", "Log in first."
		p.Header.Set("WWW-Authenticate", "Bearer")
	}
	if p.Status == http.StatusUnauthorized && p.Page {
		if p.Location = loginLocation(r); p.Location != "" {
			p.Status = http.StatusSeeOther
			p.Header.Del("WWW-Authenticate")
			p.Header.Set("Location", p.Location)
		}
	}
	p.Title = http.StatusText(p.Status)
	return p
}

// WriteProblem is the default Config.ErrorHandler. It answers the request according to err:
//
//	ErrNoSession       401  no_session       WWW-Authenticate: Bearer
//	ErrInvalidSession  401  invalid_session  WWW-Authenticate: Bearer error="invalid_token"
//	ErrForbidden       403  forbidden        rule: which; for Bearer clients error="insufficient_scope", or
//	                                         error="insufficient_user_authentication" if a step-up helps
//	ErrCrossOrigin     403  cross_origin
//	ErrInvalidRequest  4xx  as its RequestError says
//	ErrUnavailable     503  unavailable      Retry-After, in seconds
//
// With Config.LoginURL the first two redirect page requests there instead: 303, without a body.
//
// The body is application/problem+json (RFC 9457) with the members title, status, detail, code and, for forbidden, those of
// the [RuleError]: rule, factor, max_age (seconds) and unmet. WWW-Authenticate is that of RFC 6750 section 3 and RFC 9470
// section 3. The answer is not cacheable and sets no cookie. Any other error is answered with 500 and no detail.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	p := ProblemFrom(r, err)
	header := w.Header()
	maps.Copy(header, p.Header)
	if p.Location != "" {
		w.WriteHeader(p.Status)
		return
	}
	body, _ := json.Marshal(problem{ // strings and numbers: it can't fail
		Title: p.Title, Status: p.Status, Detail: p.Detail, Code: p.Code, reason: reasonOf(p.Unmet),
	})
	header.Set("Content-Type", "application/problem+json")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n'))
}

// problem is the body of an answer (RFC 9457). Code and the reason are extension members.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	reason
}

// reason is a RuleError as it is told to the caller.
type reason struct {
	Rule   string   `json:"rule,omitempty"`
	Factor string   `json:"factor,omitempty"`
	MaxAge int64    `json:"max_age,omitempty"`
	Unmet  []reason `json:"unmet,omitempty"`
}

func reasonOf(unmet *RuleError) reason {
	if unmet == nil {
		return reason{}
	}
	told := reason{Rule: unmet.Rule, Factor: unmet.Factor, MaxAge: int64(unmet.MaxAge / time.Second)}
	for _, u := range unmet.Unmet {
		told.Unmet = append(told.Unmet, reasonOf(u))
	}
	return told
}

// seconds formats a duration in whole seconds, rounded up.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
