package stytchhttp

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Rule says whether a session may use a route: nil if it may, otherwise why not. A [RuleError] tells the caller which rule
// it was; the text of any other error stays on the server. Rules are called by many requests at once.
type Rule func(*Session) error

// RuleError is the failure of a rule, an [ErrForbidden]. Both fields are shown to the caller.
type RuleError struct {
	// Rule is a short name for programs, like "role".
	Rule string
	// Detail is a sentence for people.
	Detail string
}

// Error returns the rule and the detail.
func (e *RuleError) Error() string {
	return fmt.Sprintf("%v: rule %s: %s", ErrForbidden, e.Rule, e.Detail)
}

// Unwrap makes the error an ErrForbidden.
func (e *RuleError) Unwrap() error { return ErrForbidden }

// Role is met by a session whose user has this RBAC role. It fails as rule "role".
func Role(role string) Rule {
	return AnyRole(role)
}

// AnyRole is met by a session whose user has at least one of these RBAC roles. It fails as rule "role". Without roles it is
// never met.
func AnyRole(roles ...string) Rule {
	roles = append([]string(nil), roles...)
	failed := &RuleError{Rule: "role", Detail: "This needs the role " + strings.Join(roles, " or ") + "."}
	return func(s *Session) error {
		for _, role := range roles {
			if s.HasRole(role) {
				return nil
			}
		}
		return failed
	}
}

// Require returns a wrapper that lets a request pass if its session meets all rules, in the order given, and otherwise
// answers with 403. It belongs behind Authenticate or UpdateSession: a request without a session is answered as
// [ErrFrom] says, with 401 or 503.
func (m *Middleware) Require(rules ...Rule) func(http.Handler) http.Handler {
	rules = append([]Rule(nil), rules...)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := m.check(r, rules); err != nil {
				m.refuse(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

func (m *Middleware) check(r *http.Request, rules []Rule) error {
	if s := stateFrom(r.Context()); s != nil && s.owner != nil && s.owner != m {
		return ErrNoSession // another project's session is none here
	}
	session, ok := SessionFrom(r.Context())
	if !ok {
		return ErrFrom(r.Context())
	}
	for _, rule := range rules {
		if err := rule(session); err != nil {
			if !errors.Is(err, ErrForbidden) {
				err = fmt.Errorf("%w: %w", ErrForbidden, err)
			}
			m.decided(r.Context(), session, ViaFrom(r.Context()), err, 0)
			return err
		}
	}
	return nil
}
