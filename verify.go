package stytchhttp

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/stytchhttp/stytchhttp/jwks"
)

const (
	claimPrefix       = "https://stytch.com/"
	sessionClaim      = claimPrefix + "session"
	organizationClaim = claimPrefix + "organization"
)

// verified is what a JWT proves: that Stytch issued it for this project, and what it says. Whether its times hold is asked
// anew on each use. It is immutable.
type verified struct {
	session   *Session
	key       *jwks.Key
	issuedAt  time.Time
	notBefore time.Time
	expiresAt time.Time
}

// verify proves a JWT by the project's keys, cheapest checks first. A JWT that it refuses with an ErrInvalidSession never
// came from this project; an ErrUnavailable means that its key can't be looked up now.
func (m *Middleware) verify(ctx context.Context, raw string) (*verified, error) {
	signed := strings.LastIndexByte(raw, '.')
	dot := strings.IndexByte(raw, '.')
	if dot < 0 || dot == signed {
		return nil, errMalformed
	}
	kid, err := parseHeader(raw[:dot])
	if err != nil {
		return nil, err
	}
	v, err := m.parsePayload(raw[dot+1 : signed])
	if err != nil {
		return nil, err
	}
	signature, err := segment(raw[signed+1:])
	if err != nil {
		return nil, errMalformed
	}
	v.key, err = m.keys.Key(ctx, kid)
	if errors.Is(err, jwks.ErrKeyNotFound) {
		return nil, errForeign
	} else if err != nil {
		return nil, &UnavailableError{Cause: err}
	}
	if jwt.SigningMethodRS256.Verify(raw[:signed], signature, v.key.Public()) != nil {
		return nil, errSignature
	}
	return v, nil
}

// segment decodes strictly: an encoding with stray trailing bits would be another string for the same token.
func segment(s string) ([]byte, error) {
	return base64.RawURLEncoding.Strict().DecodeString(s)
}

// parseHeader returns the kid of a JOSE header that this package can honour: RS256, and no critical extensions, since it
// understands none (RFC 7515 section 4.1.11). Keys named or embedded by the header itself are never looked at.
func parseHeader(s string) (kid string, err error) {
	members, err := object(s)
	if err != nil {
		return "", err
	}
	var alg, typ string
	if json.Unmarshal(members["alg"], &alg) != nil || alg != "RS256" {
		return "", errForeign
	}
	if json.Unmarshal(members["kid"], &kid) != nil || kid == "" {
		return "", errForeign
	}
	if members["crit"] != nil || members["b64"] != nil {
		return "", errForeign
	}
	if t := members["typ"]; t != nil && (json.Unmarshal(t, &typ) != nil || !strings.EqualFold(typ, "JWT")) {
		return "", errForeign
	}
	return kid, nil
}

// object decodes a segment into the members of a JSON object. A map, not a struct: encoding/json matches struct fields
// whatever their case, so that a custom claim named "SUB" would speak for another user.
func object(s string) (map[string]json.RawMessage, error) {
	raw, err := segment(s)
	if err != nil || !utf8.Valid(raw) {
		return nil, errMalformed
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || members == nil {
		return nil, errMalformed
	}
	return members, nil
}

// jwtSession is the session claim of Stytch's JWTs. The session object of the API names two members otherwise.
type jwtSession struct {
	ID             string                 `json:"id"`
	StartedAt      time.Time              `json:"started_at"`
	LastAccessedAt time.Time              `json:"last_accessed_at"`
	ExpiresAt      time.Time              `json:"expires_at"`
	Attributes     Attributes             `json:"attributes"`
	Factors        []AuthenticationFactor `json:"authentication_factors"`
	Roles          []string               `json:"roles"`
}

// parsePayload reads the claims and checks all of them that need no key and no clock: the issuer, the audience, that the
// times, a subject and a session are there, and that the session is no B2B one, which the consumer API could not confirm.
func (m *Middleware) parsePayload(s string) (*verified, error) {
	claims, err := object(s)
	if err != nil {
		return nil, err
	}
	var issuer string
	if json.Unmarshal(claims["iss"], &issuer) != nil || (issuer != m.issuer && issuer != m.customIssuer) || issuer == "" {
		return nil, errForeign
	}
	if !m.isAudience(claims["aud"]) {
		return nil, errForeign
	}
	v := new(verified)
	for _, t := range []struct {
		claim string
		into  *time.Time
	}{{"exp", &v.expiresAt}, {"nbf", &v.notBefore}, {"iat", &v.issuedAt}} {
		if *t.into, err = numericDate(claims[t.claim]); err != nil {
			return nil, err
		}
	}
	var subject string
	if json.Unmarshal(claims["sub"], &subject) != nil || subject == "" {
		return nil, errForeign
	}
	var inner jwtSession
	if claims[sessionClaim] == nil || json.Unmarshal(claims[sessionClaim], &inner) != nil || inner.ID == "" {
		return nil, errForeign
	}
	if claims[organizationClaim] != nil {
		return nil, errForeign
	}
	if inner.ExpiresAt.IsZero() {
		inner.ExpiresAt = v.expiresAt // the older format of the claim
	}
	v.session = &Session{
		id: inner.ID, userID: subject,
		startedAt: inner.StartedAt, lastAccessedAt: inner.LastAccessedAt, expiresAt: inner.ExpiresAt,
		attributes: inner.Attributes, factors: inner.Factors, roles: inner.Roles,
		customClaims: customClaims(claims),
	}
	return v, nil
}

// isAudience reports whether an aud claim, a string or a list of strings (RFC 7519 section 4.1.3), holds the project.
func (m *Middleware) isAudience(raw json.RawMessage) bool {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return one == m.config.ProjectID
	}
	var list []string
	if json.Unmarshal(raw, &list) != nil {
		return false
	}
	for _, a := range list {
		if a == m.config.ProjectID {
			return true
		}
	}
	return false
}

// numericDate reads a NumericDate (RFC 7519 section 2): a JSON number of seconds, and no string that looks like one.
func numericDate(raw json.RawMessage) (time.Time, error) {
	var seconds float64
	if len(raw) == 0 || raw[0] == 'n' || json.Unmarshal(raw, &seconds) != nil || seconds <= 0 || seconds > 1<<40 {
		return time.Time{}, errForeign
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*float64(time.Second))), nil
}

// customClaims returns the claims that are the project's own as a JSON object, or nil if there are none.
func customClaims(claims map[string]json.RawMessage) json.RawMessage {
	custom := make(map[string]json.RawMessage)
	for name, value := range claims {
		switch name {
		case "iss", "sub", "aud", "exp", "nbf", "iat", "jti":
			continue
		}
		if !strings.HasPrefix(name, claimPrefix) {
			custom[name] = value
		}
	}
	if len(custom) == 0 {
		return nil
	}
	object, _ := json.Marshal(custom) // of valid JSON: it can't fail
	return object
}

// timing is how a genuine JWT stands to the clock.
type timing uint8

const (
	inTime        timing = iota
	tooOld               // expired, or issued longer ago than is accepted
	fromTheFuture        // our clock is behind Stytch's, or Stytch's ahead
)

// timing judges the JWT's times (RFC 7519 section 4.1.4 to 4.1.6). maxAge limits the time since it was issued; negative: its
// own lifetime does.
func (v *verified) timing(now time.Time, leeway, maxAge time.Duration) timing {
	switch {
	case !now.Before(v.expiresAt.Add(leeway)), !now.Before(v.session.expiresAt.Add(leeway)):
		return tooOld
	case maxAge >= 0 && now.Sub(v.issuedAt) > maxAge:
		return tooOld
	case now.Before(v.issuedAt.Add(-leeway)), now.Before(v.notBefore.Add(-leeway)):
		return fromTheFuture
	}
	return inTime
}
