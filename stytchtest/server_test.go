package stytchtest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

// call posts to the backend API as a client would and returns the status and the decoded answer.
func call(t *testing.T, srv *stytchtest.Server, secret, method, path string, body any) (int, map[string]any) {
	t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, srv.URL+path, bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(srv.ProjectID, secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer := map[string]any{}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

func TestBackendAPI(t *testing.T) {
	srv := stytchtest.NewServer(t)
	tokens := srv.Login("user-test-ada", stytchtest.Claims(map[string]any{"plan": "gold"}))
	gone := srv.Login("user-test-bob")
	srv.Revoke(srv.SessionID(gone))
	over := srv.Login("user-test-eve", stytchtest.Duration(time.Nanosecond))
	type m = map[string]any

	cases := []struct {
		name      string
		path      string
		body      m
		status    int
		errorType string
	}{
		{"by token", "/v1/sessions/authenticate", m{"session_token": tokens.SessionToken}, 200, ""},
		{"by JWT", "/v1/sessions/authenticate", m{"session_jwt": tokens.SessionJWT}, 200, ""},
		{"by neither", "/v1/sessions/authenticate", m{}, 400, "no_session_arguments"},
		{"by both", "/v1/sessions/authenticate", m{"session_token": tokens.SessionToken, "session_jwt": tokens.SessionJWT}, 400, "too_many_session_arguments"},
		{"an unknown token", "/v1/sessions/authenticate", m{"session_token": "unknown"}, 404, "session_not_found"},
		{"a revoked session", "/v1/sessions/authenticate", m{"session_token": gone.SessionToken}, 404, "session_not_found"},
		{"a revoked session's JWT", "/v1/sessions/authenticate", m{"session_jwt": gone.SessionJWT}, 404, "session_not_found"},
		{"an expired session", "/v1/sessions/authenticate", m{"session_token": over.SessionToken}, 404, "session_not_found"},
		{"a token of another form", "/v1/sessions/authenticate", m{"session_token": "a.b"}, 400, "invalid_session_token"},
		{"a foreign JWT", "/v1/sessions/authenticate", m{"session_jwt": "a.b.c"}, 400, "jwt_invalid_claims"},
		{"extended too little", "/v1/sessions/authenticate", m{"session_token": tokens.SessionToken, "session_duration_minutes": 4}, 400, "invalid_session_duration_minutes"},
		{"a route that is none", "/v1/sessions/other", m{}, 404, "route_not_found"},
		{"revoke by id", "/v1/sessions/revoke", m{"session_id": srv.SessionID(srv.Login("user-test-joe"))}, 200, ""},
		{"revoke by neither", "/v1/sessions/revoke", m{}, 400, "no_session_arguments"},
		{"revoke of a gone session", "/v1/sessions/revoke", m{"session_token": gone.SessionToken}, 404, "session_not_found"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status, answer := call(t, srv, srv.Secret, "POST", c.path, c.body)
			kind, _ := answer["error_type"].(string)
			if status != c.status || kind != c.errorType || answer["status_code"] != float64(c.status) || answer["request_id"] == "" {
				t.Errorf("got %d %v", status, answer)
			}
		})
	}
	if status, answer := call(t, srv, "wrong", "POST", "/v1/sessions/authenticate", m{}); status != 401 || answer["error_type"] != "unauthorized_credentials" {
		t.Errorf("with a wrong secret: %d %v", status, answer)
	}
	if _, answer := call(t, srv, srv.Secret, "GET", "/v1/sessions?user_id=user-test-ada", nil); len(answer["sessions"].([]any)) != 1 {
		t.Errorf("sessions of ada: %v", answer)
	}
	if _, answer := call(t, srv, srv.Secret, "GET", "/v1/rbac/policy", nil); answer["policy"].(m)["roles"] == nil {
		t.Errorf("policy: %v", answer)
	}
}

func TestBrowserAPI(t *testing.T) {
	srv := stytchtest.NewServer(t)
	tokens := srv.Login("user-test-ada")
	send := func(method, path, public, session, body string) (int, http.Header, map[string]any) {
		t.Helper()
		req, err := http.NewRequest(method, srv.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(public, session)
		req.Header.Set("Origin", "http://localhost:3000")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer := map[string]any{}
		if resp.StatusCode != http.StatusNoContent {
			if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
				t.Fatal(err)
			}
		}
		return resp.StatusCode, resp.Header, answer
	}
	public := srv.PublicToken
	cases := []struct {
		name, method, path, public, session, body string
		status                                    int
		member                                    string // of data, or the error_type
	}{
		{"bootstrap without a session", "GET", "/sdk/v1/projects/bootstrap/" + public, public, public, "", 200, "rbac_policy"},
		{"bootstrap with one", "GET", "/sdk/v1/projects/bootstrap/" + public, public, tokens.SessionToken, "", 200, "vertical"},
		{"authenticate", "POST", "/sdk/v1/sessions/authenticate", public, tokens.SessionToken, `{}`, 200, "session_jwt"},
		{"authenticate and extend", "POST", "/sdk/v1/sessions/authenticate", public, tokens.SessionToken, `{"session_duration_minutes":60}`, 200, "user"},
		{"extend too little", "POST", "/sdk/v1/sessions/authenticate", public, tokens.SessionToken, `{"session_duration_minutes":1}`, 400, "invalid_session_duration_minutes"},
		{"users/me", "GET", "/sdk/v1/users/me", public, tokens.SessionToken, "", 200, "emails"},
		{"without a session", "POST", "/sdk/v1/sessions/authenticate", public, public, `{}`, 401, "user_unauthenticated"},
		{"with an unknown token", "POST", "/sdk/v1/sessions/authenticate", public, "unknown", `{}`, 404, "session_not_found"},
		{"with another public token", "POST", "/sdk/v1/sessions/authenticate", "public-token-test-x", tokens.SessionToken, `{}`, 401, "unauthorized_credentials"},
		{"revoke", "POST", "/sdk/v1/sessions/revoke", public, tokens.SessionToken, "", 200, "request_id"},
		{"a revoked session", "POST", "/sdk/v1/sessions/authenticate", public, tokens.SessionToken, `{}`, 404, "session_not_found"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status, header, answer := send(c.method, c.path, c.public, c.session, c.body)
			data, _ := answer["data"].(map[string]any)
			if status != c.status || (status == 200 && data[c.member] == nil) || (status != 200 && answer["error_type"] != c.member) {
				t.Errorf("got %d %v", status, answer)
			}
			if header.Get("Access-Control-Allow-Origin") != "http://localhost:3000" || header.Get("Access-Control-Allow-Credentials") != "true" {
				t.Errorf("CORS: %v", header)
			}
		})
	}
	if status, _, answer := send("POST", "/sdk/v1/events", "", "", `[]`); status != 200 || answer["data"] == nil {
		t.Errorf("events: %d %v", status, answer)
	}
	if status, header, _ := send("OPTIONS", "/sdk/v1/sessions/authenticate", "", "", ""); status != 204 || header.Get("Access-Control-Allow-Headers") == "" {
		t.Errorf("preflight: %d %v", status, header)
	}
	if calls := srv.Calls(); calls.SDK != 12 || calls.SDKAuthenticate != 7 || calls.Authenticate != 0 {
		t.Errorf("calls: %+v", calls)
	}
}

func TestASessionExtends(t *testing.T) {
	srv := stytchtest.NewServer(t)
	tokens := srv.Login("user-test-ada", stytchtest.Duration(10*time.Minute))
	body := map[string]any{"session_token": tokens.SessionToken, "session_duration_minutes": 60, "session_custom_claims": map[string]any{"plan": "gold"}}
	_, answer := call(t, srv, srv.Secret, "POST", "/v1/sessions/authenticate", body)
	session := answer["session"].(map[string]any)
	if session["custom_claims"].(map[string]any)["plan"] != "gold" {
		t.Errorf("custom claims: %v", session)
	}
	srv.Advance(59 * time.Minute)
	delete(body, "session_duration_minutes")
	if status, _ := call(t, srv, srv.Secret, "POST", "/v1/sessions/authenticate", body); status != 200 {
		t.Errorf("within the hour: %d", status)
	}
	srv.Advance(2 * time.Minute)
	if status, _ := call(t, srv, srv.Secret, "POST", "/v1/sessions/authenticate", body); status != 404 {
		t.Errorf("after the hour: %d", status)
	}
}

func TestCallsAreCountedAndFaultsAreSwitchedByEndpoint(t *testing.T) {
	srv := stytchtest.NewServer(t)
	srv.Break(stytchtest.Status(500, "internal_server_error"), stytchtest.Authenticate)
	if status, _ := call(t, srv, srv.Secret, "POST", "/v1/sessions/authenticate", nil); status != 500 {
		t.Errorf("broken: %d", status)
	}
	if status, _ := call(t, srv, srv.Secret, "GET", "/v1/sessions?user_id=x", nil); status != 200 {
		t.Errorf("another endpoint: %d", status)
	}
	srv.Heal()
	if status, _ := call(t, srv, srv.Secret, "POST", "/v1/sessions/authenticate", map[string]any{}); status != 400 {
		t.Errorf("healed: %d", status)
	}
	if got := srv.Calls(); got != (stytchtest.Calls{Authenticate: 2, Get: 1}) {
		t.Errorf("calls: %+v", got)
	}
}

func Example() {
	// In a test: srv := stytchtest.NewServer(t)
	srv, err := stytchtest.Start()
	if err != nil {
		panic(err)
	}
	defer srv.Close()
	auth, err := stytchhttp.New(srv.Config())
	if err != nil {
		panic(err)
	}
	defer auth.Close()
	tokens := srv.Login("user-test-ada", stytchtest.Roles("admin"))

	handler := auth.Protect(stytchhttp.Role("admin"))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := stytchhttp.SessionFrom(r.Context())
		fmt.Fprintln(w, "hello", session.UserID())
	}))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+tokens.SessionJWT)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	body, _ := io.ReadAll(w.Result().Body)
	fmt.Print(string(body))
	// Output: hello user-test-ada
}

func ExampleServer_Break() {
	srv, _ := stytchtest.Start()
	defer srv.Close()
	auth, _ := stytchhttp.New(srv.Config())
	defer auth.Close()
	tokens := srv.Login("user-test-ada")

	srv.Break(stytchtest.Outage())
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+tokens.SessionToken)
	w := httptest.NewRecorder()
	auth.Protect()(http.NotFoundHandler()).ServeHTTP(w, r)
	fmt.Println(w.Code)
	// Output: 503
}

func ExampleContext() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := stytchhttp.SessionFrom(r.Context())
		fmt.Fprintln(w, session.UserID(), session.HasRole("admin"))
	})
	r := httptest.NewRequest("GET", "/", nil)
	r = r.WithContext(stytchtest.Context(r.Context(), "user-test-ada", stytchtest.Roles("admin")))
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Print(w.Body)
	// Output: user-test-ada true
}
