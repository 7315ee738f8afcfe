package stytchhttp_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stytchhttp/stytchhttp"
)

// What a client may send must never panic, never be a 500, and never pass unless it is the genuine token.
func FuzzCredentials(f *testing.F) {
	g := newRig(f)
	genuine := g.srv.Login("user-test-ada").SessionJWT
	h := g.auth.Authenticate(whoami)
	for _, seed := range []string{"", "Bearer", "Bearer ", "Bearer a.b.c", "bearer " + genuine, "Basic x", "Bearer a b", "Bearer ..", "Bearer \x00"} {
		f.Add(seed, "stytch_session_jwt=undefined")
		f.Add("", "stytch_session_jwt="+strings.TrimPrefix(seed, "Bearer "))
	}
	f.Add("", `stytch_session_jwt="`+genuine+`"; stytch_session=; =; ;;`)
	g.srv.Break(func(http.ResponseWriter, *http.Request, <-chan struct{}) bool { panic(http.ErrAbortHandler) }) // opaque tokens end here
	f.Fuzz(func(t *testing.T, authorization, cookie string) {
		r := get()
		r.Header["Authorization"] = []string{authorization}
		r.Header["Cookie"] = []string{cookie}
		a := send(t, h, r)
		switch a.StatusCode {
		case 401, 503:
		case 200:
			if !strings.Contains(authorization, genuine) && !strings.Contains(cookie, genuine) {
				t.Errorf("%q, %q pass", authorization, cookie)
			}
		default:
			t.Errorf("%d %s", a.StatusCode, a.Body)
		}
	})
}

// Claims that the project's own key has signed: what is let in must have a user and a session.
func FuzzSignedClaims(f *testing.F) {
	g := newRig(f)
	h := g.auth.Authenticate(whoami)
	genuine := claimsOf(f, g.srv.Login("user-test-ada").SessionJWT, nil)
	for _, change := range []object{{}, {"exp": "1"}, {"aud": 1}, {"sub": nil}, {"https://stytch.com/session": nil}, {"iat": -1}} {
		encoded, err := json.Marshal(claimsOf(f, g.srv.Sign(nil, genuine), change))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(encoded))
	}
	g.srv.Break(func(http.ResponseWriter, *http.Request, <-chan struct{}) bool { panic(http.ErrAbortHandler) })
	f.Fuzz(func(t *testing.T, claims string) {
		var parsed object
		if json.Unmarshal([]byte(claims), &parsed) != nil || parsed == nil {
			return // Sign could not encode it
		}
		a := send(t, h, get(bearer(g.srv.Sign(nil, parsed))))
		if a.StatusCode == 200 && (a.User == "" || a.Session == "") || a.StatusCode != 200 && a.StatusCode != 401 && a.StatusCode != 503 {
			t.Errorf("%s: %d %s", claims, a.StatusCode, a.Body)
		}
	})
}

func FuzzParseSession(f *testing.F) {
	f.Add(`{"session_id":"s","user_id":"u","expires_at":"2030-01-01T00:00:00Z","custom_claims":{"a":1}}`)
	f.Add(`{"session_id":"s","custom_claims":[]}`)
	f.Fuzz(func(t *testing.T, object string) {
		s, err := stytchhttp.ParseSession([]byte(object))
		if err != nil {
			return
		}
		encoded, err := json.Marshal(s)
		if err != nil {
			return // a year beyond RFC 3339
		}
		if again, err := stytchhttp.ParseSession(encoded); err != nil || again.ID() != s.ID() || again.UserID() != s.UserID() {
			t.Errorf("%s does not survive: %v", object, err)
		}
	})
}
