package stytchhttp_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/stytchhttp/stytchhttp"
)

type object = map[string]any

// claimsOf returns a genuine JWT's claims, with members changed or, if nil, removed.
func claimsOf(t testing.TB, genuine string, change object) object {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(genuine, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	claims := object{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	for name, value := range change {
		if value == nil {
			delete(claims, name)
		} else {
			claims[name] = value
		}
	}
	return claims
}

// Each of these is signed by the project's own key: only its claims or its header say that it is no session JWT of ours.
func TestASignatureAloneMakesNoSession(t *testing.T) {
	g := newRig(t)
	h := g.auth.Authenticate(whoami)
	genuine := g.srv.Login("user-test-ada").SessionJWT
	session := claimsOf(t, genuine, nil)["https://stytch.com/session"].(object)
	now := g.srv.Now().Unix()
	withSession := func(change object) object {
		s := maps.Clone(session)
		maps.Copy(s, change)
		return object{"https://stytch.com/session": s}
	}

	cases := []struct {
		name   string
		header object
		claims object
		ok     bool
	}{
		{"unchanged", nil, object{}, true},
		{"aud a string", nil, object{"aud": g.srv.ProjectID}, true},
		{"aud one of several", nil, object{"aud": []string{"other", g.srv.ProjectID}}, true},
		{"iss the custom base URL", nil, object{"iss": g.srv.URL}, true},
		{"typ in lower case", object{"typ": "jwt"}, object{}, true},
		{"a session claim of the older format", nil, withSession(object{"expires_at": "0001-01-01T00:00:00Z"}), true},

		{"iss of another project", nil, object{"iss": "stytch.com/project-test-other"}, false},
		{"iss missing", nil, object{"iss": nil}, false},
		{"iss empty", nil, object{"iss": ""}, false},
		{"iss a list", nil, object{"iss": []string{"stytch.com/" + g.srv.ProjectID}}, false},
		{"iss with a trailing slash", nil, object{"iss": "stytch.com/" + g.srv.ProjectID + "/"}, false},
		{"aud another project", nil, object{"aud": []string{"project-test-other"}}, false},
		{"aud missing", nil, object{"aud": nil}, false},
		{"aud empty", nil, object{"aud": []string{}}, false},
		{"aud a number", nil, object{"aud": 1}, false},
		{"aud a list with a number", nil, object{"aud": []any{g.srv.ProjectID, 1}}, false},
		{"sub missing", nil, object{"sub": nil}, false},
		{"sub empty", nil, object{"sub": ""}, false},
		{"sub a number", nil, object{"sub": 1}, false},
		{"exp missing", nil, object{"exp": nil}, false},
		{"exp a string", nil, object{"exp": "9999999999"}, false},
		{"exp a list", nil, object{"exp": []int64{now + 300}}, false},
		{"exp beyond all time", nil, object{"exp": 1e300}, false},
		{"exp negative", nil, object{"exp": -1}, false},
		{"nbf missing", nil, object{"nbf": nil}, false},
		{"iat missing", nil, object{"iat": nil}, false},
		{"iat a string", nil, object{"iat": "1"}, false},
		{"no session claim, like an M2M or ID token", nil, object{"https://stytch.com/session": nil}, false},
		{"a session claim that is a string", nil, object{"https://stytch.com/session": "x"}, false},
		{"a session claim without an id", nil, withSession(object{"id": ""}), false},
		{"a session claim with roles that are no strings", nil, withSession(object{"roles": []int{1}}), false},
		{"a B2B token", nil, object{"https://stytch.com/organization": object{"organization_id": "o", "slug": "s"}}, false},
		{"RS384 with a signature that holds", object{"alg": "RS384"}, object{}, false},
		{"RS512 with a signature that holds", object{"alg": "RS512"}, object{}, false},
		{"PS256 with a signature that holds", object{"alg": "PS256"}, object{}, false},
		{"ES256 named", object{"alg": "ES256"}, object{}, false},
		{"no algorithm at all", object{"alg": nil}, object{}, false},
		{"an algorithm that is a list", object{"alg": []string{"RS256"}}, object{}, false},
		{"another algorithm beside it, in capitals", object{"ALG": "none"}, object{}, true},
		{"keys of its own", object{"jwk": object{"kty": "oct"}, "jku": "https://evil.example/jwks", "x5u": "https://evil.example/x5u",
			"x5c": []string{"AAAA"}}, object{}, true}, // left unread: the project's key signed it
		{"no algorithm", object{"alg": "none"}, object{}, false},
		{"the algorithm in lower case", object{"alg": "rs256"}, object{}, false},
		{"a kid that is a number", object{"kid": 1}, object{}, false},
		{"no kid", object{"kid": ""}, object{}, false},
		{"a critical extension", object{"crit": []string{"exp"}}, object{}, false},
		{"an unencoded payload (RFC 7797)", object{"b64": false, "crit": []string{"b64"}}, object{}, false},
		{"another type of token", object{"typ": "at+jwt"}, object{}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			forged := g.srv.Sign(c.header, claimsOf(t, genuine, c.claims))
			for where, carry := range map[string]func(*http.Request){
				"header": bearer(forged), "cookie": cookies(stytchhttp.Tokens{SessionJWT: forged}),
			} {
				a := send(t, h, get(carry))
				if c.ok != (a.StatusCode == 200) || (!c.ok && a.Code != "invalid_session") {
					t.Errorf("in a %s: %d %s", where, a.StatusCode, a.Body)
				}
			}
		})
	}
	if calls := g.srv.Calls(); calls.Authenticate != 0 || calls.JWKS != 1 {
		t.Errorf("they cost calls: %+v", calls)
	}
}

func TestForgeriesAreRefusedWithoutACall(t *testing.T) {
	g := newRig(t)
	h := g.auth.Authenticate(whoami)
	genuine := g.srv.Login("user-test-ada").SessionJWT
	parts := strings.Split(genuine, ".")
	var head object
	decoded, _ := base64.RawURLEncoding.DecodeString(parts[0])
	_ = json.Unmarshal(decoded, &head)
	enc := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	withHeader := func(change object) string {
		changed := maps.Clone(head)
		maps.Copy(changed, change)
		return enc(changed)
	}
	hmac := func(alg jwt.SigningMethod, key []byte) string {
		text := withHeader(object{"alg": alg.Alg()}) + "." + parts[1]
		signature, err := alg.Sign(text, key)
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + base64.RawURLEncoding.EncodeToString(signature)
	}
	other := strings.Split(g.srv.Login("user-test-eve").SessionJWT, ".")
	// One of the two unused bits of the last character set: another string for the same signature, if decoding is lax.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, genuine[len(genuine)-1])

	forgeries := map[string]string{
		"alg none without a signature":     withHeader(object{"alg": "none"}) + "." + parts[1] + ".",
		"alg none with one":                withHeader(object{"alg": "none"}) + "." + parts[1] + "." + parts[2],
		"alg nOnE":                         withHeader(object{"alg": "nOnE"}) + "." + parts[1] + "." + parts[2],
		"another payload":                  parts[0] + "." + enc(claimsOf(t, genuine, object{"sub": "user-test-root"})) + "." + parts[2],
		"another's signature":              parts[0] + "." + parts[1] + "." + other[2],
		"another's payload":                parts[0] + "." + other[1] + "." + parts[2],
		"a header that embeds a key":       withHeader(object{"jwk": object{"kty": "RSA"}}) + "." + parts[1] + "." + parts[2],
		"stray bits in the signature":      genuine[:len(genuine)-1] + string(alphabet[last^1]),
		"padding":                          genuine + "==",
		"two segments":                     parts[0] + "." + parts[1],
		"four segments":                    genuine + "." + parts[2],
		"an empty header":                  "." + parts[1] + "." + parts[2],
		"a header that is null":            enc(nil) + "." + parts[1] + "." + parts[2],
		"a header that is a list":          enc([]int{1}) + "." + parts[1] + "." + parts[2],
		"a payload that is a string":       parts[0] + "." + enc("x") + "." + parts[2],
		"a payload nested deep":            parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("[", 9000))) + "." + parts[2],
		"a payload of invalid UTF-8":       parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte("{\"iss\":\"\xff\"}")) + "." + parts[2],
		"base64 of the standard kind":      parts[0] + "." + parts[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace(parts[2]) + "+",
		"a line break":                     parts[0] + ".\n" + parts[1] + "." + parts[2],
		"huge":                             strings.Repeat("A", 1<<20) + "." + parts[1] + "." + parts[2],
		"dots":                             "..",
		"a session token that is too long": strings.Repeat("A", 300),
		"a session token with a space":     "abc def",
	}
	// The public key as an HMAC's secret, in every form in which somebody might have it.
	public := g.srv.PublicKey()
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(public)
	secrets := map[string][]byte{
		"kid": []byte(head["kid"].(string)), "empty": {}, "modulus": public.N.Bytes(), "modulus in base64url": []byte(base64.RawURLEncoding.EncodeToString(public.N.Bytes())),
		"SPKI": spki, "SPKI in PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}),
		"PKCS 1": pkcs1, "PKCS 1 in PEM": pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}),
		"PEM without the last line break": bytes.TrimSpace(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})),
	}
	for name, secret := range secrets {
		for _, alg := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
			forgeries[alg.Alg()+" with "+name] = hmac(alg, secret)
		}
	}
	for _, alg := range []string{"None", "NONE", "nONE", "none ", "", "HS256", "RS256\x00", "rs256"} {
		forgeries["alg "+alg] = withHeader(object{"alg": alg}) + "." + parts[1] + "." + parts[2]
	}
	// A member twice: whichever a parser takes, the signature is over both.
	twice := `{"alg":"RS256","alg":"none","kid":"` + head["kid"].(string) + `"}`
	forgeries["alg twice"] = base64.RawURLEncoding.EncodeToString([]byte(twice)) + "." + parts[1] + "."
	forgeries["sub twice"] = parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(payload(parts[1]), "{", `{"sub":"user-test-root",`, 1))) + "." + parts[2]
	forgeries["nested deeper than any parser goes"] = parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat(`{"a":`, 2000))) + "." + parts[2]

	for name, forged := range forgeries {
		send(t, h, get(bearer(forged))).want(t, 401, "invalid_session")
		r := get()
		r.Header.Set("Cookie", "stytch_session_jwt="+forged)
		if a := send(t, h, r); a.StatusCode != 401 {
			t.Errorf("%s, in a cookie: %d %s", name, a.StatusCode, a.Body)
		}
	}
	if calls := g.srv.Calls(); calls.Authenticate != 0 || calls.JWKS != 1 {
		t.Errorf("they cost calls: %+v", calls)
	}
	send(t, h, get(bearer(genuine))).want(t, 200, "local")
}

func payload(part string) string {
	raw, _ := base64.RawURLEncoding.DecodeString(part)
	return string(raw)
}

// Beside a session token a forged JWT is no reason to log somebody out, and is not passed on.
func TestAForgedJWTBesideASessionTokenIsLeftOut(t *testing.T) {
	g := newRig(t)
	tokens := g.srv.Login("user-test-ada")
	tokens.SessionJWT = tokens.SessionJWT[:len(tokens.SessionJWT)-10] + "AAAAAAAAAA"
	a := send(t, g.auth.Authenticate(whoami), get(cookies(tokens))).want(t, 200, "remote")
	if a.User != "user-test-ada" {
		t.Error(a.Body)
	}
}

func TestAnUnknownKidCausesOneFetchOfTheKeys(t *testing.T) {
	g := newRig(t)
	h := g.auth.Authenticate(whoami)
	claims := claimsOf(t, g.srv.Login("user-test-ada").SessionJWT, nil)
	send(t, h, get(bearer(g.srv.Sign(object{"kid": "jwk-test-0"}, claims)))).want(t, 401, "invalid_session")
	began := time.Now()
	for i := range 200 {
		a := send(t, h, get(bearer(g.srv.Sign(object{"kid": strings.Repeat("x", i+1)}, claims))))
		if a.StatusCode != 503 { // nobody can say: the keys were fetched before it came up
			t.Fatalf("%d: %d %s", i, a.StatusCode, a.Body)
		}
	}
	if calls := g.srv.Calls(); calls.Authenticate != 0 || calls.JWKS != 2 {
		t.Errorf("calls: %+v", calls)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("they waited: %v", d)
	}
}
