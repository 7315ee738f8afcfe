package stytchhttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Tokens are the two credentials of one Stytch session. Either may be empty where a request carries only one of them.
//
// Tokens print, log and marshal redacted: read the fields to get at the values.
type Tokens struct {
	// SessionToken is the opaque token, valid as long as the session lives; about 44 characters.
	SessionToken string
	// SessionJWT is the signed token, valid for five minutes at a time; about 1.5 KB.
	SessionJWT string
}

const redacted = "[redacted]"

func redact(s string) string {
	if s == "" {
		return ""
	}
	return redacted
}

// String says which of the tokens are there, not what they are.
func (t Tokens) String() string {
	return fmt.Sprintf("{SessionToken:%s SessionJWT:%s}", redact(t.SessionToken), redact(t.SessionJWT))
}

// GoString is String, for %#v.
func (t Tokens) GoString() string { return "stytchhttp.Tokens" + t.String() }

// LogValue implements [slog.LogValuer].
func (t Tokens) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalJSON marshals the tokens redacted, in Stytch's field names.
func (t Tokens) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"session_token": redact(t.SessionToken), "session_jwt": redact(t.SessionJWT)})
}

// AuthenticationFactor is one way in which the user has authenticated in a session.
type AuthenticationFactor struct {
	// Type is Stytch's name of the factor: "magic_link", "otp", "password", "oauth", "totp", "webauthn", "impersonated", …
	Type string `json:"type"`
	// DeliveryMethod is Stytch's name of the way it took: "email", "sms", "knowledge", "authenticator_app", …
	DeliveryMethod string `json:"delivery_method"`
	// LastAuthenticatedAt is when the user last did so.
	LastAuthenticatedAt time.Time `json:"last_authenticated_at"`
}

// Attributes are what was known about the client when the session began. Either may be empty.
type Attributes struct {
	IPAddress string `json:"ip_address"`
	UserAgent string `json:"user_agent"`
}

// Session says who the caller is, as Stytch last said it. It is immutable and shared between requests: safe for concurrent
// use, and what its methods return is the caller's own.
//
// It marshals to JSON in the field names of Stytch's session object.
type Session struct {
	id             string
	userID         string
	startedAt      time.Time
	lastAccessedAt time.Time
	expiresAt      time.Time
	attributes     Attributes
	factors        []AuthenticationFactor
	roles          []string
	customClaims   json.RawMessage // a JSON object, or nil

	decoded sync.Map // the custom claims as types of plain values, by decodedKey
}

// ID returns the session's id, "session-test-…". Unlike the tokens it is no credential and may be logged.
func (s *Session) ID() string { return s.id }

// UserID returns the id of the user whose session this is, "user-test-…".
func (s *Session) UserID() string { return s.userID }

// StartedAt returns when the session began.
func (s *Session) StartedAt() time.Time { return s.startedAt }

// LastAccessedAt returns when Stytch was last asked about the session, as far as this verdict knows.
func (s *Session) LastAccessedAt() time.Time { return s.lastAccessedAt }

// ExpiresAt returns when the session ends unless it is extended. It may have been extended since this verdict.
func (s *Session) ExpiresAt() time.Time { return s.expiresAt }

// Attributes returns what was known about the client when the session began.
func (s *Session) Attributes() Attributes { return s.attributes }

// Factors returns the ways in which the user has authenticated.
func (s *Session) Factors() []AuthenticationFactor { return slices.Clone(s.factors) }

// Roles returns the user's RBAC role ids.
func (s *Session) Roles() []string { return slices.Clone(s.roles) }

// HasRole reports whether the user has this RBAC role.
func (s *Session) HasRole(role string) bool { return slices.Contains(s.roles, role) }

// wireSession is the session object of Stytch's API.
type wireSession struct {
	ID             string                 `json:"session_id"`
	UserID         string                 `json:"user_id"`
	StartedAt      time.Time              `json:"started_at"`
	LastAccessedAt time.Time              `json:"last_accessed_at"`
	ExpiresAt      time.Time              `json:"expires_at"`
	Attributes     *Attributes            `json:"attributes"`
	Factors        []AuthenticationFactor `json:"authentication_factors"`
	Roles          []string               `json:"roles"`
	CustomClaims   json.RawMessage        `json:"custom_claims,omitempty"`
}

// MarshalJSON marshals the session in the field names of Stytch's session object.
func (s *Session) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireSession{
		ID: s.id, UserID: s.userID,
		StartedAt: s.startedAt, LastAccessedAt: s.lastAccessedAt, ExpiresAt: s.expiresAt,
		Attributes: &s.attributes, Factors: s.factors, Roles: s.roles, CustomClaims: s.customClaims,
	})
}

// ParseSession makes a Session of the session object that Stytch's API answers with (the JSON object with session_id,
// user_id, expires_at and so on). An [Authenticator] needs it, and nobody else: a Session made of anything that Stytch did
// not say is a forged one. The error says which member is missing or of the wrong type.
func ParseSession(object []byte) (*Session, error) {
	var wire wireSession
	if err := json.Unmarshal(object, &wire); err != nil {
		return nil, fmt.Errorf("stytchhttp: not a Stytch session object: %w", err)
	}
	switch {
	case wire.ID == "":
		return nil, errors.New("stytchhttp: not a Stytch session object: no session_id")
	case wire.UserID == "":
		return nil, errors.New("stytchhttp: not a Stytch session object: no user_id")
	case wire.ExpiresAt.IsZero():
		return nil, errors.New("stytchhttp: not a Stytch session object: no expires_at")
	}
	s := &Session{
		id: wire.ID, userID: wire.UserID,
		startedAt: wire.StartedAt, lastAccessedAt: wire.LastAccessedAt, expiresAt: wire.ExpiresAt,
		factors: wire.Factors, roles: wire.Roles,
	}
	if wire.Attributes != nil {
		s.attributes = *wire.Attributes
	}
	if c := wire.CustomClaims; len(c) > 0 && string(c) != "null" {
		if c[0] != '{' {
			return nil, errors.New("stytchhttp: not a Stytch session object: custom_claims is not an object")
		}
		s.customClaims = slices.Clone(c)
	}
	return s, nil
}

// Via names the rung of the ladder that proved a request's session.
type Via string

const (
	// ViaCache: this very JWT was verified before, by this process.
	ViaCache Via = "cache"
	// ViaLocal: the request's JWT was verified with the project's public keys.
	ViaLocal Via = "local"
	// ViaExchanged: the request's credential was exchanged for a fresh JWT before, and that JWT holds.
	ViaExchanged Via = "exchanged"
	// ViaRemote: Stytch was asked.
	ViaRemote Via = "remote"
	// ViaStale: Stytch could not be asked, and Config.StaleGrace lets an expired JWT pass.
	ViaStale Via = "stale"
)

// state is what one request carries: Hydrate makes it, Authenticate fills it, and the accessors read it. It is its own
// context so that the request is copied and allocated for once.
type state struct {
	context.Context
	owner *Middleware

	source   Source      // where the tokens come from; zero if there are none
	header   http.Header // of the answer
	tokenErr error       // why there is no usable token: ErrNoSession or ErrInvalidSession
	vary     [1]string   // backs the answer's Vary header

	mu      sync.Mutex
	tokens  Tokens
	session *Session
	via     Via
	err     error              // why there is no session
	decoded map[decodedKey]any // custom claims as types that must not be shared between requests
}

type stateKey struct{}

// Value finds the state itself and leaves the rest to the request's own context.
func (s *state) Value(key any) any {
	if key == (stateKey{}) {
		return s
	}
	return s.Context.Value(key)
}

func stateFrom(ctx context.Context) *state {
	s, _ := ctx.Value(stateKey{}).(*state)
	return s
}

// set records a verdict.
func (s *state) set(session *Session, via Via, err error) {
	s.mu.Lock()
	s.session, s.via, s.err = session, via, err
	s.mu.Unlock()
}

// SessionFrom returns the session that Authenticate or UpdateSession found for this request. It returns false before
// them, and for an anonymous request behind AuthenticateOptional.
//
// A middleware between Hydrate and Authenticate can call it after its inner handler has returned and so log who it was.
func SessionFrom(ctx context.Context) (*Session, bool) {
	s := stateFrom(ctx)
	if s == nil {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session, s.session != nil
}

// ViaFrom returns the rung of the ladder that proved this request's session, or "" if there is none.
func ViaFrom(ctx context.Context) Via {
	s := stateFrom(ctx)
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.via
}

// TokensFrom returns the tokens that the request carries, as Hydrate found them, or those that UpdateSession put in their
// place. They are claims, not proof: only [SessionFrom] says who somebody is. It returns false if there are none.
func TokensFrom(ctx context.Context) (Tokens, bool) {
	s := stateFrom(ctx)
	if s == nil {
		return Tokens{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens, s.tokens != Tokens{}
}

// ErrFrom returns why the request has no session, or nil if it has one: an error that is [ErrNoSession],
// [ErrInvalidSession] or [ErrUnavailable] by errors.Is. Behind AuthenticateOptional it tells a page apart "log in" from "we
// can't tell right now". Without Hydrate or Authenticate before it, it is ErrNoSession.
func ErrFrom(ctx context.Context) error {
	s := stateFrom(ctx)
	if s == nil {
		return ErrNoSession
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.session != nil:
		return nil
	case s.err != nil:
		return s.err
	case s.tokenErr != nil:
		return s.tokenErr
	}
	return ErrNoSession
}

// WithSession returns a context that carries session as if it had been authenticated, for tests of handlers. Package
// stytchtest makes such sessions.
func WithSession(ctx context.Context, session *Session) context.Context {
	return &state{Context: ctx, session: session, via: ViaLocal}
}
