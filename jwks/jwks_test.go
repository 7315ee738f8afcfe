package jwks_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/stytchhttp/stytchhttp/jwks"
)

// rsaKey returns one of the test process's RSA keys; making one takes long.
var rsaKey = func() func(bits, n int) *rsa.PrivateKey {
	var mu sync.Mutex
	made := map[string]*rsa.PrivateKey{}
	return func(bits, n int) *rsa.PrivateKey {
		mu.Lock()
		defer mu.Unlock()
		id := fmt.Sprint(bits, "/", n)
		if made[id] == nil {
			key, err := rsa.GenerateKey(rand.Reader, bits)
			if err != nil {
				panic(err)
			}
			made[id] = key
		}
		return made[id]
	}
}()

// jwk returns a key as a set holds it, with members changed.
func jwk(key any, kid string, change map[string]any) map[string]any {
	made, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{
		Marshal:  jwkset.JWKMarshalOptions{Private: true},
		Metadata: jwkset.JWKMetadataOptions{KID: kid, USE: jwkset.UseSig},
	})
	if err != nil {
		panic(err)
	}
	encoded, _ := json.Marshal(made.Marshal())
	var members map[string]any
	_ = json.Unmarshal(encoded, &members)
	for name, value := range change {
		members[name] = value
	}
	return members
}

func set(keys ...map[string]any) string {
	encoded, _ := json.Marshal(map[string]any{"keys": keys})
	return string(encoded)
}

func good(kid string) map[string]any { return jwk(rsaKey(2048, 0).Public(), kid, nil) }

// stytch answers fetches without a network, so that a test can run in a bubble with a fake clock.
type stytch struct {
	mu      sync.Mutex
	status  int
	body    string
	header  http.Header
	err     error
	hold    chan struct{}
	fetches atomic.Int64
}

func (s *stytch) answer(status int, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.body = status, body
}

func (s *stytch) RoundTrip(r *http.Request) (*http.Response, error) {
	s.fetches.Add(1)
	s.mu.Lock()
	hold := s.hold
	s.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	return &http.Response{
		StatusCode: s.status, Status: http.StatusText(s.status), Header: s.header,
		Body: io.NopCloser(strings.NewReader(s.body)), Request: r,
	}, nil
}

// open returns a set that fetches from s.
func open(t *testing.T, s *stytch, change ...func(*jwks.Config)) *jwks.Set {
	t.Helper()
	config := jwks.Config{URL: "https://stytch.invalid/jwks", HTTPClient: &http.Client{Transport: s}}
	for _, c := range change {
		c(&config)
	}
	keys, err := jwks.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	return keys
}

func TestOnlyPublicRS256KeysAreAccepted(t *testing.T) {
	private := rsaKey(2048, 0)
	elliptic256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		key  map[string]any
		ok   bool
	}{
		{"2048 bits", jwk(private.Public(), "k", nil), true},
		{"with alg RS256 and key_ops", jwk(private.Public(), "k", map[string]any{"alg": "RS256", "key_ops": []string{"verify"}}), true},
		{"without use", jwk(private.Public(), "k", map[string]any{"use": ""}), true},
		{"private", jwk(private, "k", nil), false},
		{"symmetric", map[string]any{"kty": "oct", "kid": "k", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}, false},
		{"RSA with a symmetric member", jwk(private.Public(), "k", map[string]any{"k": "c2VjcmV0"}), false},
		{"elliptic", jwk(elliptic256.Public(), "k", nil), false},
		{"1024 bits", jwk(rsaKey(1024, 0).Public(), "k", nil), false},
		{"exponent 1", jwk(private.Public(), "k", map[string]any{"e": "AQ"}), false},
		{"alg RS512", jwk(private.Public(), "k", map[string]any{"alg": "RS512"}), false},
		{"alg none", jwk(private.Public(), "k", map[string]any{"alg": "none"}), false},
		{"use enc", jwk(private.Public(), "k", map[string]any{"use": "enc"}), false},
		{"key_ops sign", jwk(private.Public(), "k", map[string]any{"key_ops": []string{"sign"}}), false},
		{"no kid", jwk(private.Public(), "", nil), false},
		{"no modulus", jwk(private.Public(), "k", map[string]any{"n": ""}), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := &stytch{status: 200, body: set(c.key)}
			keys := open(t, s)
			err := keys.Ready(t.Context())
			if c.ok && err != nil {
				t.Fatal(err)
			}
			if !c.ok && !errors.Is(err, jwks.ErrUnacceptable) {
				t.Fatalf("got %v, want ErrUnacceptable", err)
			}
			// A key that is refused does not spoil the others.
			s = &stytch{status: 200, body: set(c.key, good("other"))}
			keys = open(t, s)
			if err := keys.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := keys.Key(t.Context(), "k"); (err == nil) != c.ok {
				t.Errorf("beside another: %v", err)
			}
			if _, err := keys.Key(t.Context(), "other"); err != nil {
				t.Errorf("the other: %v", err)
			}
		})
	}
}

func TestABadAnswerNeverReplacesAGoodSet(t *testing.T) {
	twice := set(good("a"), jwk(rsaKey(2048, 1).Public(), "a", nil))
	cases := []struct {
		name   string
		status int
		body   string
		err    error
	}{
		{"empty set", 200, `{"keys":[]}`, nil},
		{"no set", 200, `{}`, nil},
		{"empty body", 200, ``, nil},
		{"HTML", 200, `<!doctype html>`, nil},
		{"truncated", 200, set(good("a"))[:200], nil},
		{"null", 200, `null`, nil},
		{"keys of another type", 200, `{"keys":{"a":1}}`, nil},
		{"unusable keys only", 200, set(jwk(rsaKey(1024, 0).Public(), "a", nil)), nil},
		{"one kid for two keys", 200, twice, nil},
		{"over 1 MiB", 200, `{"keys":[` + strings.Repeat(" ", jwks.MaxBodyBytes) + `]}`, nil},
		{"an error", 500, `{}`, nil},
		{"a redirect", 302, ``, nil},
		{"no network", 0, ``, errors.New("connection refused")},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stytch{status: 200, body: set(good("a"))}
				keys := open(t, s)
				if err := keys.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
				key, err := keys.Key(t.Context(), "a")
				if err != nil {
					t.Fatal(err)
				}
				s.mu.Lock()
				s.status, s.body, s.err = c.status, c.body, c.err
				s.mu.Unlock()
				time.Sleep(61 * time.Minute) // of the bubble's clock
				if n := s.fetches.Load(); n < 2 {
					t.Fatal("there was no refresh")
				}
				if again, err := keys.Key(t.Context(), "a"); err != nil || again != key || key.Removed() {
					t.Errorf("the good key is gone: %v", err)
				}
				if err := keys.Ready(t.Context()); err != nil {
					t.Errorf("not ready any more: %v", err)
				}
			})
		})
	}
}

func TestNewNeitherBlocksNorFailsAndRecoversByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stytch{err: errors.New("connection refused")}
		began := time.Now()
		keys := open(t, s)
		if d := time.Since(began); d != 0 {
			t.Errorf("New took %v", d)
		}
		if err := keys.Ready(t.Context()); !errors.Is(err, jwks.ErrUnavailable) {
			t.Errorf("Ready: %v", err)
		}
		time.Sleep(10 * time.Second)
		if n := s.fetches.Load(); n < 3 || n > 10 {
			t.Errorf("%d fetches in the first 10 s of an outage", n)
		}
		s.mu.Lock()
		s.err, s.status, s.body = nil, 200, set(good("a"))
		s.mu.Unlock()
		time.Sleep(30 * time.Second)
		if err := keys.Ready(t.Context()); err != nil {
			t.Errorf("after the outage: %v", err)
		}
	})
}

func TestRefreshInterval(t *testing.T) {
	cases := []struct {
		name         string
		cacheControl string
		within       time.Duration
		min, max     int64
	}{
		{"hourly, with jitter", "", 10 * time.Hour, 11, 12},
		{"max-age counts", "public, max-age=600", time.Hour, 7, 8},
		{"but not below a minute", "max-age=1", time.Hour, 61, 67},
		{"nor above a day", "max-age=31536000", 10 * 24 * time.Hour, 11, 12},
		{"nonsense does not", "max-age=soon", 10 * time.Hour, 11, 12},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stytch{status: 200, body: set(good("a")), header: http.Header{"Cache-Control": {c.cacheControl}}}
				open(t, s)
				time.Sleep(c.within + time.Second)
				if n := s.fetches.Load(); n < c.min || n > c.max {
					t.Errorf("%d fetches in %v, want %d to %d", n, c.within, c.min, c.max)
				}
			})
		})
	}
}

func TestAnUnknownKidIsFetchedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stytch{status: 200, body: set(good("a"))}
		keys := open(t, s)
		if err := keys.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		hold := make(chan struct{})
		s.mu.Lock()
		s.hold, s.body = hold, set(good("a"), jwk(rsaKey(2048, 1).Public(), "b", nil))
		s.mu.Unlock()
		var group sync.WaitGroup
		for range 1000 {
			group.Go(func() {
				if _, err := keys.Key(t.Context(), "b"); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(hold)
		group.Wait()
		if n := s.fetches.Load(); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
	})
}

func TestUnknownKidsCauseOneFetchAWindowAndNobodyWaitsForTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stytch{status: 200, body: set(good("a"))}
		keys := open(t, s)
		if err := keys.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := keys.Key(t.Context(), "x"); !errors.Is(err, jwks.ErrKeyNotFound) {
			t.Errorf("first: %v, want ErrKeyNotFound", err)
		}
		for i := range 5000 {
			// Nobody can say whether these are there: the last fetch was made before they came up.
			if _, err := keys.Key(t.Context(), fmt.Sprint("y", i)); !errors.Is(err, jwks.ErrUnavailable) {
				t.Fatalf("%d: %v, want ErrUnavailable", i, err)
			}
		}
		if _, err := keys.Key(t.Context(), "x"); !errors.Is(err, jwks.ErrKeyNotFound) {
			t.Errorf("again: %v, want ErrKeyNotFound", err)
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("they waited %v", d)
		}
		if n := s.fetches.Load(); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
		time.Sleep(jwks.RefreshWindow)
		if _, err := keys.Key(t.Context(), "y1"); !errors.Is(err, jwks.ErrKeyNotFound) {
			t.Errorf("in the next window: %v, want ErrKeyNotFound", err)
		}
		if n := s.fetches.Load(); n != 3 {
			t.Errorf("%d fetches, want 3", n)
		}
	})
}

func TestARequestWaitsForAFetchAtMostMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stytch{status: 200, body: set(good("a"))}
		keys := open(t, s)
		if err := keys.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		s.hold = make(chan struct{})
		s.mu.Unlock()
		began := time.Now()
		if _, err := keys.Key(t.Context(), "b"); !errors.Is(err, jwks.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		if d := time.Since(began); d != jwks.MaxWait {
			t.Errorf("waited %v, want %v", d, jwks.MaxWait)
		}
		if _, err := keys.Key(t.Context(), "a"); err != nil {
			t.Errorf("a known key meanwhile: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := keys.Key(ctx, "b"); !errors.Is(err, jwks.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("of a request that is gone: %v", err)
		}
	})
}

func TestAKeyThatIsReplacedOrGoneIsMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stytch{status: 200, body: set(good("stays"), good("goes"), good("changes"))}
		keys := open(t, s)
		if err := keys.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		held := map[string]*jwks.Key{}
		for _, kid := range []string{"stays", "goes", "changes"} {
			key, err := keys.Key(t.Context(), kid)
			if err != nil {
				t.Fatal(err)
			}
			held[kid] = key
		}
		s.answer(200, set(good("stays"), jwk(rsaKey(2048, 1).Public(), "changes", nil)))
		time.Sleep(61 * time.Minute)
		if held["stays"].Removed() || !held["goes"].Removed() || !held["changes"].Removed() {
			t.Errorf("removed: stays %v, goes %v, changes %v", held["stays"].Removed(), held["goes"].Removed(), held["changes"].Removed())
		}
		if key, err := keys.Key(t.Context(), "changes"); err != nil || !key.Public().Equal(rsaKey(2048, 1).Public()) {
			t.Errorf("the changed key: %v", err)
		}
	})
}

func TestKeyfuncServesGolangJWT(t *testing.T) {
	s := &stytch{status: 200, body: set(good("a"))}
	keys := open(t, s)
	sign := func(method jwt.SigningMethod, kid any) string {
		token := jwt.New(method)
		if kid != nil {
			token.Header["kid"] = kid
		}
		signed, err := token.SignedString(rsaKey(2048, 0))
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	if _, err := jwt.Parse(sign(jwt.SigningMethodRS256, "a"), keys.Keyfunc); err != nil {
		t.Error(err)
	}
	for name, token := range map[string]string{
		"no kid":              sign(jwt.SigningMethodRS256, nil),
		"a kid that is 1":     sign(jwt.SigningMethodRS256, 1),
		"an unknown kid":      sign(jwt.SigningMethodRS256, "b"),
		"another algorithm":   sign(jwt.SigningMethodRS512, "a"),
		"a foreign signature": sign(jwt.SigningMethodRS256, "a")[:300] + "AAAA",
	} {
		if _, err := jwt.Parse(token, keys.Keyfunc); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestWrongConfigurationIsAnErrorOfNew(t *testing.T) {
	for _, config := range []jwks.Config{
		{},
		{URL: "stytch.invalid/jwks"},
		{URL: "file:///etc/passwd"},
		{URL: "https://"},
		{URL: "https://stytch.invalid/jwks", RefreshInterval: -1},
	} {
		if keys, err := jwks.New(config); err == nil {
			keys.Close()
			t.Errorf("%+v is accepted", config)
		}
	}
}

func TestCloseEndsAFetchUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stytch{hold: make(chan struct{})}
		keys := open(t, s)
		synctest.Wait()
		if err := keys.Close(); err != nil {
			t.Error(err)
		}
		if err := keys.Close(); err != nil {
			t.Error(err)
		}
		if _, err := keys.Key(t.Context(), "a"); !errors.Is(err, jwks.ErrUnavailable) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func ExampleSet_Keyfunc() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, set(good("jwk-test-1")))
	}))
	defer server.Close()

	keys, err := jwks.New(jwks.Config{URL: server.URL})
	if err != nil {
		panic(err)
	}
	defer keys.Close()

	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"sub": "user-test-1"})
	token.Header["kid"] = "jwk-test-1"
	signed, _ := token.SignedString(rsaKey(2048, 0))

	parsed, err := jwt.Parse(signed, keys.Keyfunc, jwt.WithValidMethods([]string{"RS256"}))
	if err != nil {
		panic(err)
	}
	subject, _ := parsed.Claims.GetSubject()
	fmt.Println(subject)
	// Output: user-test-1
}
