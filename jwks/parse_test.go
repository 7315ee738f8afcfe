package jwks

import "testing"

// A key set comes from the network: whatever it is, it is refused or yields keys that can be used.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{}`, `{"keys":[]}`, `{"keys":[{}]}`, `{"keys":[{"kty":"RSA","kid":"a","n":"AQ","e":"AQAB"}]}`,
		`{"keys":[{"kty":"oct","k":"AA"}]}`, `{"keys":[{"kty":"RSA","kid":"a","x5c":["!"],"x5u":"http://evil.example"}]}`, `[`, `null`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, _, err := parse(body)
		if (err == nil) != (len(keys) > 0) {
			t.Errorf("%d keys and the error %v", len(keys), err)
		}
		for _, k := range keys {
			if k.Marshal().KID == "" {
				t.Error("a key without a kid")
			}
		}
	})
}
