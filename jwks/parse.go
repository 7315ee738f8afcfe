package jwks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"crypto/rsa"

	"github.com/MicahParks/jwkset"
)

const (
	minKeyBits = 2048
	maxKeyBits = 8192 // one verification by a larger key costs milliseconds
)

// parse reads a JWK set (RFC 7517 section 5) and returns its acceptable keys, in the order given. A key that is not
// acceptable is left out, with the reason in refused: a set may rightly hold keys for other purposes. The set as a whole
// is refused with ErrUnacceptable when it is broken, when no key is left, or when one kid stands for two keys.
func parse(body []byte) (keys []jwkset.JWK, refused []error, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, nil, fmt.Errorf("%w: not a JWK set: %w", ErrUnacceptable, err)
	}
	seen := make(map[string]bool)
	for i, raw := range set.Keys {
		key, err := parseKey(raw)
		if err != nil {
			refused = append(refused, fmt.Errorf("key %d: %w", i, err))
			continue
		}
		kid := key.Marshal().KID
		if seen[kid] {
			return nil, refused, fmt.Errorf("%w: two keys with the kid %q", ErrUnacceptable, kid)
		}
		seen[kid] = true
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, refused, fmt.Errorf("%w: no usable key among %d: %w", ErrUnacceptable, len(set.Keys), errors.Join(refused...))
	}
	return keys, refused, nil
}

// parseKey accepts the public half of one RSA key for RS256 signatures and nothing else.
func parseKey(raw []byte) (jwkset.JWK, error) {
	var m jwkset.JWKMarshal
	if err := json.Unmarshal(bytes.TrimSpace(raw), &m); err != nil {
		return jwkset.JWK{}, errors.New("not a JWK")
	}
	switch {
	case m.KTY == jwkset.KtyOct || m.K != "":
		return jwkset.JWK{}, errors.New("symmetric key")
	case m.D != "" || m.P != "" || m.Q != "" || m.DP != "" || m.DQ != "" || m.QI != "" || len(m.OTH) > 0:
		return jwkset.JWK{}, errors.New("private key")
	case m.KTY != jwkset.KtyRSA:
		return jwkset.JWK{}, fmt.Errorf("key type %q, want RSA", m.KTY)
	case m.ALG != "" && m.ALG != jwkset.AlgRS256:
		return jwkset.JWK{}, fmt.Errorf("algorithm %q, want RS256", m.ALG)
	case m.USE != "" && m.USE != jwkset.UseSig:
		return jwkset.JWK{}, fmt.Errorf("use %q, want sig", m.USE)
	case len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify):
		return jwkset.JWK{}, errors.New("key_ops without verify")
	case m.KID == "":
		return jwkset.JWK{}, errors.New("no kid")
	}
	// The certificate members add nothing to a key that came over TLS from the project's own URL, and x5u names a
	// URL of somebody else's choice.
	m.X5C, m.X5T, m.X5TS256, m.X5U = nil, "", "", ""

	key, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return jwkset.JWK{}, err
	}
	public, ok := key.Key().(*rsa.PublicKey)
	if !ok {
		return jwkset.JWK{}, fmt.Errorf("key of type %T, want an RSA public key", key.Key())
	}
	if bits := public.N.BitLen(); bits < minKeyBits || bits > maxKeyBits {
		return jwkset.JWK{}, fmt.Errorf("RSA key of %d bits, want %d to %d", bits, minKeyBits, maxKeyBits)
	}
	if public.E < 3 || public.E%2 == 0 {
		return jwkset.JWK{}, fmt.Errorf("RSA exponent %d", public.E)
	}
	return key, nil
}
