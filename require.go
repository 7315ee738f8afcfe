package stytchhttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Rule says whether a session may use a route: nil if it may, otherwise why not. r is the request that wants to, for rules
// that compare the two (r.PathValue, say) and for the context. Rules are called by many requests at once.
//
// A [RuleError] means that the rule is not met, and tells the caller so: 403. An [ErrUnavailable] means that nobody can say now:
// 503. Any other error counts as not met, too, and its text stays on the server; but [Not] refuses it as well, since it may mean
// that the rule itself has failed.
type Rule func(r *http.Request, s *Session) error

// RuleError is a rule that is not met, an [ErrForbidden]. All its fields are shown to the caller.
type RuleError struct {
	// Rule is a short name for programs, like "role".
	Rule string
	// Detail is a sentence for people.
	Detail string
	// Factor is the type of the authentication factor that is missing, so that a front end can ask for it: "totp", say.
	Factor string
	// MaxAge is how long ago the user may have authenticated for this, whole seconds; 0 if that is not limited.
	MaxAge time.Duration
	// StepUp says that the user can meet the rule by authenticating (again), as Factor and MaxAge say.
	StepUp bool
	// Unmet are the rules one of which would do; for rule "any".
	Unmet []*RuleError
}

// Error returns the rule and the detail.
func (e *RuleError) Error() string {
	return fmt.Sprintf("%v: rule %s: %s", ErrForbidden, e.Rule, e.Detail)
}

// Unwrap makes the error an ErrForbidden.
func (e *RuleError) Unwrap() error { return ErrForbidden }

// Require returns a wrapper that lets a request pass if its session meets all rules, and otherwise answers with 403, naming
// the first that it doesn't. It belongs behind Authenticate: a request without a session is answered as [ErrFrom] says, with
// 401 or 503.
//
// Before a session is refused for want of a step-up, Stytch is asked about it anew, at most every two seconds for each
// session: the user may have stepped up since, which only Stytch knows of.
func (m *Middleware) Require(rules ...Rule) func(http.Handler) http.Handler {
	rules = slices.Clone(rules)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := m.Check(r, rules...); err != nil {
				m.refuse(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Check is [Middleware.Require] for handlers that decide while they run: nil if the request's session meets all rules,
// otherwise an error that [WriteProblem] or Config.ErrorHandler can answer with.
func (m *Middleware) Check(r *http.Request, rules ...Rule) error {
	ctx := r.Context()
	s := stateFrom(ctx)
	if s != nil && s.owner != nil && s.owner != m {
		return ErrNoSession // another project's session is none here
	}
	session, ok := SessionFrom(ctx)
	if !ok {
		return ErrFrom(ctx)
	}
	met := All(rules...)
	err := met(r, session)
	if err != nil && canStepUp(err) && s.owner == m {
		if fresh, proofErr := m.lookAnew(s, session); errors.Is(proofErr, ErrInvalidSession) {
			return proofErr
		} else if proofErr == nil && fresh != session {
			session, err = fresh, met(r, fresh)
		}
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrForbidden) && !errors.Is(err, ErrUnavailable) {
		err = fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	m.decided(ctx, session, ViaFrom(ctx), err, 0)
	return err
}

// All is met by a session that meets all rules; it fails as the first that is not met. Without rules it is met.
func All(rules ...Rule) Rule {
	rules = slices.Clone(rules)
	return func(r *http.Request, s *Session) error {
		for _, rule := range rules {
			if err := rule(r, s); err != nil {
				return err
			}
		}
		return nil
	}
}

// Any is met by a session that meets at least one of the rules. It fails as rule "any", and says why each is not met. If one
// of them can't say, and none is met, it can't either. Without rules it is never met.
func Any(rules ...Rule) Rule {
	rules = slices.Clone(rules)
	return func(r *http.Request, s *Session) error {
		failed := &RuleError{Rule: "any", Detail: "The session meets none of the rules of which one would do."}
		var unknown error
		for _, rule := range rules {
			err := rule(r, s)
			var unmet *RuleError
			switch {
			case err == nil:
				return nil
			case errors.As(err, &unmet):
				failed.Unmet = append(failed.Unmet, unmet)
				failed.StepUp = failed.StepUp || unmet.StepUp
			case unknown == nil || errors.Is(err, ErrUnavailable):
				unknown = err
			}
		}
		if unknown != nil {
			return unknown
		}
		return failed
	}
}

// Not is met by a session that does not meet the rule. It fails as rule "not". A rule that can't say whether it is met, by
// any error but a [RuleError], is refused here too.
func Not(rule Rule) Rule {
	failed := &RuleError{Rule: "not", Detail: "The session is of a kind that this is not open to."}
	return func(r *http.Request, s *Session) error {
		err := rule(r, s)
		var unmet *RuleError
		switch {
		case err == nil:
			return failed
		case errors.As(err, &unmet):
			return nil
		}
		return err
	}
}

// Role is met by a session whose user has this RBAC role. It fails as rule "role".
func Role(role string) Rule {
	return AnyRole(role)
}

// AnyRole is met by a session whose user has at least one of these RBAC roles. It fails as rule "role". Without roles it is
// never met.
func AnyRole(roles ...string) Rule {
	roles = slices.Clone(roles)
	failed := &RuleError{Rule: "role", Detail: "This needs the role " + strings.Join(roles, " or ") + "."}
	return func(_ *http.Request, s *Session) error {
		for _, role := range roles {
			if s.HasRole(role) {
				return nil
			}
		}
		return failed
	}
}

// Claim is met by a session that has the custom claim of this name if met returns true for its value. A claim that is
// missing, null, or of another shape than T does not meet it. It fails as rule "claim".
//
//	stytchhttp.Claim("plan", func(plan string) bool { return plan == "pro" })
func Claim[T any](name string, met func(T) bool) Rule {
	failed := &RuleError{Rule: "claim", Detail: "This needs another value of the claim " + name + "."}
	return func(_ *http.Request, s *Session) error {
		if value, err := claim[T](s, name); err != nil || !met(value) {
			return failed
		}
		return nil
	}
}

// SessionYoungerThan is met by a session that began less than d ago: its user has logged in since. It fails as rule
// "session_age", with max_age.
func SessionYoungerThan(d time.Duration) Rule {
	failed := &RuleError{Rule: "session_age", Detail: "The login is too long ago for this. Log in again.", MaxAge: d, StepUp: true}
	return func(r *http.Request, s *Session) error {
		if clock(r.Context()).Sub(s.startedAt) < d {
			return nil
		}
		return failed
	}
}

// NotImpersonated is met by a session that its user has begun, and not somebody who impersonates the user from Stytch's
// dashboard. It fails as rule "not_impersonated".
func NotImpersonated() Rule {
	failed := &RuleError{Rule: "not_impersonated", Detail: "This is not open to somebody who impersonates the user."}
	return func(_ *http.Request, s *Session) error {
		for _, f := range s.factors {
			if f.Type == "impersonated" || f.DeliveryMethod == "impersonation" {
				return failed
			}
		}
		return nil
	}
}

// clock returns the time by which the request's session is judged.
func clock(ctx context.Context) time.Time {
	if s := stateFrom(ctx); s != nil && s.owner != nil {
		return s.owner.config.Now()
	}
	return time.Now()
}
