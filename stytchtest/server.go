// Package stytchtest is a Stytch for tests: an in-process server that speaks the APIs which package stytchhttp and Stytch's own
// SDKs for backends and browsers use, with real RS256 tokens, sessions that expire, keys that rotate, a clock that moves, counted calls
// and faults that can be switched on and off.
//
//	srv := stytchtest.NewServer(t)
//	auth, err := stytchhttp.New(srv.Config())
//	tokens := srv.Login("user-test-1")
//
// For tests of plain handlers, which need no server, see [Context].
package stytchtest

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/stytchhttp/stytchhttp"
)

// JWTLifetime is how long each session JWT lives, as Stytch's do: 5 minutes.
const JWTLifetime = 5 * time.Minute

const (
	minSessionMinutes     = 5
	maxSessionMinutes     = 527040
	defaultSessionMinutes = 60
)

// TB is the part of testing.TB that is used: *testing.T, *testing.B and *testing.F have it.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Server is a Stytch project on a loopback address. All methods are safe for concurrent use.
type Server struct {
	// URL is the server's address, "http://127.0.0.1:…", for a client's base URL.
	URL string
	// ProjectID and Secret are the project's credentials.
	ProjectID string
	Secret    string
	// PublicToken is the project's credential for browser SDKs.
	PublicToken string

	http *http.Server
	done chan struct{} // closed when http has ended
	quit chan struct{} // ends faults that hang

	mu       sync.Mutex
	offset   time.Duration // of the clock
	keys     []signingKey  // the last one signs
	rotated  int
	sessions map[string]*session // by id
	byToken  map[string]*session
	faults   map[Endpoint][]Fault
	calls    Calls
	policy   policy
}

// Calls counts the calls that reached the server, answered or not.
type Calls struct {
	Authenticate, Revoke, Get, JWKS, Policy int

	// SDK counts all calls of browser SDKs, telemetry included, and SDKAuthenticate those about the session.
	SDK, SDKAuthenticate int
}

type signingKey struct {
	kid string
	key *rsa.PrivateKey
}

type session struct {
	id, userID, token string
	startedAt         time.Time
	accessedAt        time.Time
	expiresAt         time.Time
	revoked           bool
	roles             []string
	factors           []factor
	claims            map[string]any
	attributes        stytchhttp.Attributes
}

// factor is an authentication factor in all its members.
type factor map[string]any

// NewServer starts a server that is closed when the test ends.
func NewServer(t TB) *Server {
	t.Helper()
	s, err := Start()
	if err != nil {
		t.Fatalf("stytchtest: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// Start starts a server outside of a test, for demos and tools. Close ends it.
func Start() (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := New()
	s.URL = "http://" + listener.Addr().String()
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		_ = s.http.Serve(listener)
	}()
	return s, nil
}

// New returns a server that listens nowhere: it is an http.Handler, to be mounted or called directly. Its URL is empty.
func New() *Server {
	s := &Server{
		ProjectID:   "project-test-" + newUUID(),
		Secret:      "secret-test-" + randomToken(24),
		PublicToken: "public-token-test-" + newUUID(),
		quit:        make(chan struct{}),
		sessions:    make(map[string]*session),
		byToken:     make(map[string]*session),
		faults:      make(map[Endpoint][]Fault),
		policy:      defaultPolicy(),
	}
	s.keys = []signingKey{s.newKey()}
	return s
}

// Close ends the server and every connection to it. It may be called more than once.
func (s *Server) Close() {
	s.mu.Lock()
	select {
	case <-s.quit:
	default:
		close(s.quit)
	}
	s.mu.Unlock()
	if s.http != nil {
		_ = s.http.Close()
		<-s.done
	}
}

// Config returns a configuration for stytchhttp.New that points at this server and shares its clock. Change it as needed.
func (s *Server) Config() stytchhttp.Config {
	return stytchhttp.Config{ProjectID: s.ProjectID, Secret: s.Secret, BaseURL: s.URL, Now: s.Now}
}

// Now returns the server's time.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}

func (s *Server) now() time.Time { return time.Now().Add(s.offset) }

// Advance moves the server's clock, and with it the clock of every Config handed out, by d; backwards if d is negative.
func (s *Server) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += d
}

// Calls returns the counts since the start or the last ResetCalls.
func (s *Server) Calls() Calls {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// ResetCalls sets the counts to zero.
func (s *Server) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = Calls{}
}

// Option describes a session that Login, or Context, makes.
type Option func(*session)

// Roles gives the user these RBAC roles.
func Roles(roles ...string) Option {
	return func(s *session) { s.roles = append(s.roles, roles...) }
}

// Duration is the session's length, 1 hour without it. Stytch's shortest is 5 minutes; tests may go below.
func Duration(d time.Duration) Option {
	return func(s *session) { s.expiresAt = s.startedAt.Add(d) }
}

// Claims gives the session these custom claims.
func Claims(claims map[string]any) Option {
	return func(s *session) { s.claims = maps.Clone(claims) }
}

// Factor adds an authentication factor of Stytch's type and delivery method, as in Factor("totp", "authenticator_app"), used
// when the session began. A session without any has the factor magic_link by email.
func Factor(kind, deliveryMethod string) Option {
	return func(s *session) {
		s.factors = append(s.factors, factor{
			"type": kind, "delivery_method": deliveryMethod, "last_authenticated_at": wireTime(s.startedAt),
		})
	}
}

func newSession(userID string, now time.Time, options []Option) *session {
	now = now.Truncate(time.Second)
	s := &session{
		id: "session-test-" + newUUID(), userID: userID, token: randomToken(33),
		startedAt: now, accessedAt: now, expiresAt: now.Add(defaultSessionMinutes * time.Minute),
		attributes: stytchhttp.Attributes{IPAddress: "203.0.113.7", UserAgent: "stytchtest"},
	}
	for _, option := range options {
		option(s)
	}
	if len(s.factors) == 0 {
		s.factors = []factor{{
			"type": "magic_link", "delivery_method": "email", "last_authenticated_at": wireTime(now), "created_at": wireTime(now),
			"email_factor": map[string]any{"email_id": "email-test-" + newUUID(), "email_address": "ada@example.com"},
		}}
	}
	return s
}

// Login begins a session for the user and returns its tokens, as a backend SDK's login call would.
func (s *Server) Login(userID string, options ...Option) stytchhttp.Tokens {
	s.mu.Lock()
	defer s.mu.Unlock()
	new := newSession(userID, s.now(), options)
	s.sessions[new.id] = new
	s.byToken[new.token] = new
	return stytchhttp.Tokens{SessionToken: new.token, SessionJWT: s.jwtFor(new)}
}

// Renew returns the session's tokens with a fresh JWT, as the browser SDK fetches one every few minutes; zero Tokens if the
// session is gone. It counts as no call.
func (s *Server) Renew(tokens stytchhttp.Tokens) stytchhttp.Tokens {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.byToken[tokens.SessionToken]
	if found == nil || found.revoked || !s.now().Before(found.expiresAt) {
		return stytchhttp.Tokens{}
	}
	found.accessedAt = s.now().Truncate(time.Second)
	return stytchhttp.Tokens{SessionToken: found.token, SessionJWT: s.jwtFor(found)}
}

// SessionID returns the id of the session that a session token or a session JWT of this server belongs to, and "" for
// others.
func (s *Server) SessionID(tokens stytchhttp.Tokens) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.byToken[tokens.SessionToken]; found != nil {
		return found.id
	}
	if found, err := s.sessionOfJWT(tokens.SessionJWT); err == nil {
		return found.id
	}
	return ""
}

// Revoke ends a session behind the middleware's back, as another backend or Stytch's dashboard would.
func (s *Server) Revoke(sessionID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.sessions[sessionID]; found != nil {
		found.revoked = true
	}
}

// StepUp adds an authentication factor to a session now, as a call of an SDK with the session's token does; see [Factor]. JWTs
// that were issued before don't have it.
func (s *Server) StepUp(sessionID, kind, deliveryMethod string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.sessions[sessionID]; found != nil {
		found.factors = append(slices.Clip(found.factors), factor{
			"type": kind, "delivery_method": deliveryMethod, "last_authenticated_at": wireTime(s.now()),
		})
	}
}

// jwtFor signs a fresh JWT for the session.
func (s *Server) jwtFor(of *session) string {
	now := s.now().Truncate(time.Second)
	claims := jwt.MapClaims{
		"iss": "stytch.com/" + s.ProjectID,
		"aud": []string{s.ProjectID},
		"sub": of.userID,
		"iat": now.Unix(),
		"nbf": now.Unix(),
		"exp": now.Add(JWTLifetime).Unix(),
		"https://stytch.com/session": map[string]any{
			"id":                     of.id,
			"started_at":             wireTime(of.startedAt),
			"last_accessed_at":       wireTime(of.accessedAt),
			"expires_at":             wireTime(of.expiresAt),
			"attributes":             of.attributes,
			"authentication_factors": of.factors,
			"roles":                  of.allRoles(),
		},
	}
	for name, value := range of.claims {
		if _, reserved := claims[name]; !reserved {
			claims[name] = value
		}
	}
	return s.sign(nil, claims)
}

// Sign signs any claims with the project's current key, for tests of what must not pass. header's members replace those of
// an ordinary header: alg RS256, typ JWT, kid. An alg of the RSA families (RS384, PS256, …) is really signed by.
func (s *Server) Sign(header, claims map[string]any) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sign(header, claims)
}

func (s *Server) sign(header, claims map[string]any) string {
	current := s.keys[len(s.keys)-1]
	var method jwt.SigningMethod = jwt.SigningMethodRS256
	if alg, _ := header["alg"].(string); strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS") {
		if named := jwt.GetSigningMethod(alg); named != nil {
			method = named
		}
	}
	token := jwt.NewWithClaims(method, jwt.MapClaims(claims))
	token.Header["kid"] = current.kid
	maps.Copy(token.Header, header)
	signed, err := token.SignedString(current.key)
	if err != nil {
		panic("stytchtest: claims that can't be encoded: " + err.Error())
	}
	return signed
}

// PublicKey returns the project's current public key, for tests of forgeries that misuse it.
func (s *Server) PublicKey() *rsa.PublicKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &s.keys[len(s.keys)-1].key.PublicKey
}

// RotateKeys makes a new key the one that signs. The old ones are served on until RetireKeys.
func (s *Server) RotateKeys() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rotated++
	s.keys = append(s.keys, s.newKey())
}

// RetireKeys stops serving all keys but the one that signs.
func (s *Server) RetireKeys() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = s.keys[len(s.keys)-1:]
}

func (s *Server) newKey() signingKey {
	return signingKey{kid: "jwk-test-" + newUUID(), key: rsaKey(s.rotated)}
}

// rsaKey returns the process's n-th RSA key. Servers share them, under kids of their own: making one takes long.
var rsaKey = func() func(int) *rsa.PrivateKey {
	var mu sync.Mutex
	var keys []*rsa.PrivateKey
	return func(n int) *rsa.PrivateKey {
		mu.Lock()
		defer mu.Unlock()
		n %= 4
		for len(keys) <= n {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				panic("stytchtest: " + err.Error())
			}
			keys = append(keys, key)
		}
		return keys[n]
	}
}()

// jwksBody returns the key set as Stytch serves it.
func (s *Server) jwksBody() (map[string]any, error) {
	var keys []jwkset.JWKMarshal
	for _, k := range s.keys {
		jwk, err := jwkset.NewJWKFromKey(k.key.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{
			ALG: jwkset.AlgRS256, KID: k.kid, USE: jwkset.UseSig, KEYOPS: []jwkset.KEYOPS{jwkset.KeyOpsVerify},
		}})
		if err != nil {
			return nil, err
		}
		keys = append(keys, jwk.Marshal())
	}
	return map[string]any{"keys": keys}, nil
}

// sessionOfJWT returns the session of a JWT that this server signed, whether or not it is expired.
func (s *Server) sessionOfJWT(raw string) (*session, error) {
	var claims struct {
		jwt.RegisteredClaims
		Session struct {
			ID string `json:"id"`
		} `json:"https://stytch.com/session"`
	}
	_, err := jwt.ParseWithClaims(raw, &claims, func(t *jwt.Token) (any, error) {
		for _, k := range s.keys {
			if t.Header["kid"] == k.kid {
				return k.key.Public(), nil
			}
		}
		return nil, errors.New("unknown kid")
	}, jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation())
	if err != nil {
		return nil, err
	}
	found := s.sessions[claims.Session.ID]
	if found == nil {
		return nil, errors.New("unknown session")
	}
	return found, nil
}

// wire returns the session object of the API.
func (of *session) wire() map[string]any {
	claims := of.claims
	if claims == nil {
		claims = map[string]any{}
	}
	return map[string]any{
		"session_id":             of.id,
		"user_id":                of.userID,
		"started_at":             wireTime(of.startedAt),
		"last_accessed_at":       wireTime(of.accessedAt),
		"expires_at":             wireTime(of.expiresAt),
		"attributes":             of.attributes,
		"authentication_factors": of.factors,
		"custom_claims":          claims,
		"roles":                  of.allRoles(),
	}
}

// user returns the user object of the API.
func (of *session) user() map[string]any {
	return map[string]any{
		"user_id":    of.userID,
		"created_at": wireTime(of.startedAt),
		"status":     "active",
		"name":       map[string]any{"first_name": "Ada", "middle_name": "", "last_name": "Lovelace"},
		"emails": []any{map[string]any{
			"email_id": "email-test-0001", "email": "ada@example.com", "verified": true,
		}},
		"phone_numbers":           []any{},
		"providers":               []any{},
		"webauthn_registrations":  []any{},
		"biometric_registrations": []any{},
		"totps":                   []any{},
		"crypto_wallets":          []any{},
		"password":                nil,
		"trusted_metadata":        map[string]any{},
		"untrusted_metadata":      map[string]any{},
		"roles":                   of.allRoles(),
	}
}

// allRoles are those that Stytch says a user has: one is everybody's.
func (of *session) allRoles() []string { return slices.Concat([]string{"stytch_user"}, of.roles) }

func wireTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func randomToken(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// newUUID returns a random UUID (RFC 9562 section 5.4).
func newUUID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b)
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}

// policy is the project's RBAC policy as the API serves it.
type policy struct {
	Roles     []role     `json:"roles"`
	Resources []resource `json:"resources"`
	Scopes    []any      `json:"scopes"`
}

type role struct {
	ID          string       `json:"role_id"`
	Description string       `json:"description"`
	Permissions []permission `json:"permissions"`
}

type permission struct {
	ResourceID string   `json:"resource_id"`
	Actions    []string `json:"actions"` // "*" is all
}

type resource struct {
	ID          string   `json:"resource_id"`
	Description string   `json:"description"`
	Actions     []string `json:"actions"`
}

// granting returns those of the roles that allow the action.
func (p policy) granting(roles []string, resourceID, action string) (granting []string) {
	for _, r := range p.Roles {
		if slices.Contains(roles, r.ID) && slices.ContainsFunc(r.Permissions, func(p permission) bool {
			return p.ResourceID == resourceID && (slices.Contains(p.Actions, "*") || slices.Contains(p.Actions, action))
		}) {
			granting = append(granting, r.ID)
		}
	}
	return granting
}

func defaultPolicy() policy {
	return policy{
		Roles: []role{
			{"stytch_user", "Every user", []permission{{"stytch.self", []string{"*"}}}},
			{"admin", "Administrators", []permission{{"documents", []string{"*"}}}},
		},
		Resources: []resource{{"documents", "Documents", []string{"read", "write"}}},
		Scopes:    []any{},
	}
}
