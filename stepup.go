package stytchhttp

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// stepUpWithin is how recent Stytch's word must be before a session is refused for want of a step-up. It bounds what a
// client that keeps trying costs: a call in that time.
const stepUpWithin = 2 * time.Second

// Factor is met by a session in which the user has authenticated by a factor of this type, in Stytch's name: "totp",
// "webauthn", "password", "otp", … It fails as rule "factor", naming the factor.
func Factor(kind string) Rule {
	return factorRule(kind, 0)
}

// FactorWithin is met by a session in which the user has authenticated by a factor of this type less than age ago. It fails
// as rule "factor", naming the factor and the age. age is rounded up to whole seconds; with 0 or less it is never met.
//
// To Bearer clients the answer is a challenge by RFC 9470: insufficient_user_authentication with max_age.
func FactorWithin(kind string, age time.Duration) Rule {
	if age <= 0 {
		return func(*http.Request, *Session) error {
			return &RuleError{Rule: "factor", Detail: "This is never open.", Factor: kind}
		}
	}
	return factorRule(kind, (age + time.Second - 1).Truncate(time.Second))
}

// factorRule asks for a factor of a type; an age of 0 is any.
func factorRule(kind string, age time.Duration) Rule {
	failed := &RuleError{Rule: "factor", Detail: "This needs authentication by " + kind + ".", Factor: kind, MaxAge: age, StepUp: true}
	if age > 0 {
		failed.Detail = "This needs authentication by " + kind + " within the last " + age.String() + "."
	}
	return func(r *http.Request, s *Session) error {
		for _, f := range s.factors {
			if f.Type == kind && (age == 0 || clock(r.Context()).Sub(f.LastAuthenticatedAt) < age) {
				return nil
			}
		}
		return failed
	}
}

// MFA is met by a session in which the user has authenticated by two factors of different kinds. It fails as rule "mfa".
// These are the kinds; what is not listed counts for nothing, an impersonation or an imported session, say:
//
//	email      magic_link, email_otp, otp by email: who reads the mailbox passes all of them
//	phone      otp by sms or whatsapp
//	knowledge  password
//	provider   oauth, sso
//	app        totp, recovery_codes, which stand in for it
//	passkey    webauthn
//	device     signature_challenge: a key on the device, behind its biometrics
//	wallet     crypto
func MFA() Rule {
	failed := &RuleError{Rule: "mfa", Detail: "This needs authentication by a second factor, of another kind.", StepUp: true}
	return func(_ *http.Request, s *Session) error {
		first := ""
		for _, f := range s.factors {
			kind := f.kind()
			if kind != "" && first != "" && kind != first {
				return nil
			}
			if first == "" {
				first = kind
			}
		}
		return failed
	}
}

// kind is what somebody must have got hold of to pass the factor; "" is unknown.
func (f AuthenticationFactor) kind() string {
	switch f.Type {
	case "magic_link", "email_otp":
		return "email"
	case "otp":
		switch f.DeliveryMethod {
		case "email":
			return "email"
		case "sms", "whatsapp":
			return "phone"
		}
	case "password":
		return "knowledge"
	case "oauth", "sso":
		return "provider"
	case "totp", "recovery_codes":
		return "app"
	case "webauthn":
		return "passkey"
	case "signature_challenge":
		return "device"
	case "crypto":
		return "wallet"
	}
	return ""
}

// canStepUp reports whether the user can meet the rule by authenticating.
func canStepUp(err error) bool {
	var unmet *RuleError
	return errors.As(err, &unmet) && unmet.StepUp
}

// lookAnew returns the request's session as Stytch has seen it of late. A step-up happens at Stytch, and a verdict from
// before it may be minutes old.
func (m *Middleware) lookAnew(s *state, session *Session) (*Session, error) {
	s.mu.Lock()
	tokens := s.tokens
	s.mu.Unlock()
	if tokens == (Tokens{}) {
		return session, nil
	}
	v, err := m.climb(s, tokens, stepUpWithin, 0)
	if err != nil {
		return nil, err
	}
	if v.session.id != session.id {
		return session, nil // the session token beside the JWT is of another login
	}
	s.set(v.session, v.via, nil)
	return v.session, nil
}

// challenge returns the WWW-Authenticate of a rule that is not met: of RFC 9470 section 3 if the user can do something about
// it by authenticating, else of RFC 6750 section 3.1.
func challenge(unmet *RuleError) string {
	if unmet == nil || !unmet.StepUp {
		return `Bearer error="insufficient_scope"`
	}
	// A quoted-string can't hold these; type names come from the program, and have none.
	description := strings.NewReplacer(`"`, "'", `\`, "").Replace(unmet.Detail)
	value := `Bearer error="insufficient_user_authentication", error_description="` + description + `"`
	if unmet.MaxAge > 0 {
		value += `, max_age="` + seconds(unmet.MaxAge) + `"`
	}
	return value
}
