package stytchhttp

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
)

const cookieKeyBytes = 64 // 32 authenticate (HMAC-SHA256), 32 encrypt (AES-256)

// CookieKey seals cookies: 64 random bytes in unpadded base64url, 32 of them to authenticate and 32 to encrypt. Make one with
// [GenerateCookieKey], and keep it as you keep the project's secret. It prints and marshals redacted.
type CookieKey string

// GenerateCookieKey returns a new random key. To store it, convert it to a string.
func GenerateCookieKey() CookieKey {
	key := make([]byte, cookieKeyBytes)
	_, _ = rand.Read(key) // never fails
	return CookieKey(base64.RawURLEncoding.EncodeToString(key))
}

// String does not tell the key.
func (k CookieKey) String() string { return redact(string(k)) }

// GoString is String, for %#v.
func (k CookieKey) GoString() string { return k.String() }

// LogValue implements [slog.LogValuer].
func (k CookieKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON marshals the key redacted.
func (k CookieKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// newCodecs returns a codec for each key; the first seals, all open.
func newCodecs(keys []CookieKey, maxAge time.Duration) ([]securecookie.Codec, error) {
	if len(keys) == 0 {
		return nil, errors.New("stytchhttp: Config.Cookies.Keys is empty: CookiesSealed needs a key, made by GenerateCookieKey")
	}
	var codecs []securecookie.Codec
	for i, key := range keys {
		raw, err := base64.RawURLEncoding.Strict().DecodeString(string(key))
		if err != nil || len(raw) != cookieKeyBytes {
			return nil, fmt.Errorf("stytchhttp: Config.Cookies.Keys[%d] is not %d bytes in base64url: make it with GenerateCookieKey",
				i, cookieKeyBytes)
		}
		codec := securecookie.New(raw[:cookieKeyBytes/2], raw[cookieKeyBytes/2:])
		codec.SetSerializer(tokenSerializer{})
		codec.MaxAge(int(maxAge / time.Second))
		codec.MaxLength(0) // what is too long for browsers is judged with the name
		codecs = append(codecs, codec)
	}
	return codecs, nil
}

// sealedName is the name of the sealed cookie in this request. Where cookies are Secure it has the prefix that browsers give
// to this host alone, if domain and path allow it (RFC 6265bis section 4.1.3).
func (c *cookies) sealedName(r *http.Request) string {
	if c.Domain == "" && c.Path == "/" && !strings.HasPrefix(c.SessionTokenName, "__") && secure(r, c.SessionTokenName) {
		return "__Host-" + c.SessionTokenName
	}
	return c.SessionTokenName
}

// seal returns the cookie's value. A JWT that makes it longer than browsers store is left out: it can be fetched again.
func (c *cookies) seal(name string, tokens Tokens) (string, error) {
	value, err := securecookie.EncodeMulti(name, &tokens, c.codecs...)
	if err != nil {
		return "", fmt.Errorf("stytchhttp: sealing the session's cookie: %w", err)
	}
	if len(name)+len("=")+len(value) > maxCookieBytes && tokens.SessionJWT != "" {
		return c.seal(name, Tokens{SessionToken: tokens.SessionToken})
	}
	return value, nil
}

// open returns the tokens in a sealed cookie. One that is cut, too old, or sealed by another key or for another name is no
// cookie.
func (c *cookies) open(name, value string) Tokens {
	var tokens Tokens
	if value == "" || len(value) > maxCookieBytes || securecookie.DecodeMulti(name, value, &tokens, c.codecs...) != nil {
		return Tokens{}
	}
	return tokens
}

// tokenSerializer encodes *Tokens for securecookie: the session token's length in one byte, the session token, and the JWT.
// The JWT is base64 already, and securecookie adds two more layers of it: its segments are decoded first, each with its length
// in two bytes before it.
type tokenSerializer struct{}

var errSerial = errors.New("not a session's tokens")

func (tokenSerializer) Serialize(src any) ([]byte, error) {
	tokens, ok := src.(*Tokens)
	if !ok || len(tokens.SessionToken) > maxTokenBytes {
		return nil, errSerial
	}
	out := make([]byte, 0, 1+len(tokens.SessionToken)+len(tokens.SessionJWT))
	out = append(out, byte(len(tokens.SessionToken)))
	out = append(out, tokens.SessionToken...)
	if tokens.SessionJWT == "" {
		return out, nil
	}
	for part := range strings.SplitSeq(tokens.SessionJWT, ".") {
		raw, err := segment(part)
		if err != nil || len(raw) > 1<<16-1 {
			return nil, errSerial
		}
		out = append(out, byte(len(raw)>>8), byte(len(raw)))
		out = append(out, raw...)
	}
	return out, nil
}

func (tokenSerializer) Deserialize(in []byte, dst any) error {
	tokens, ok := dst.(*Tokens)
	if !ok || len(in) == 0 || len(in) < 1+int(in[0]) {
		return errSerial
	}
	n := 1 + int(in[0])
	found := Tokens{SessionToken: string(in[1:n])}
	if in = in[n:]; len(in) > 0 {
		jwt := make([]byte, 0, len(in)*4/3)
		for i := range 3 {
			if len(in) < 2 {
				return errSerial
			}
			n := int(in[0])<<8 | int(in[1])
			if in = in[2:]; len(in) < n {
				return errSerial
			}
			if i > 0 {
				jwt = append(jwt, '.')
			}
			jwt = base64.RawURLEncoding.AppendEncode(jwt, in[:n])
			in = in[n:]
		}
		if len(in) > 0 {
			return errSerial
		}
		found.SessionJWT = string(jwt)
	}
	*tokens = found
	return nil
}
