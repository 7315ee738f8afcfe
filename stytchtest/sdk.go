package stytchtest

import (
	"encoding/json"
	"net/http"
	"strings"
)

// The part of the API that Stytch's browser SDKs call. Point one at this server with its option
// endpoints: {testAPIURL: srv.URL}, and give it srv.PublicToken.

var errUnauthenticated = apiError{401, "user_unauthenticated", "There is no session."}

// serveSDK answers under /sdk/v1. Every answer is wrapped in "data", but for errors.
func (s *Server) serveSDK(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/sdk/v1/events" {
		writeJSON(w, http.StatusOK, map[string]any{"data": map[string]any{}})
		return
	}
	public, token, given := r.BasicAuth()
	if !given || public != s.PublicToken {
		writeError(w, errCredentials)
		return
	}
	body, ok := s.answer(w, r, func(r *http.Request) (map[string]any, *apiError) { return s.sdk(r, token) })
	if ok {
		writeJSON(w, http.StatusOK, map[string]any{"data": body})
	}
}

// sdk handles one call of a browser that holds this session token, or the public token in its place.
func (s *Server) sdk(r *http.Request, token string) (map[string]any, *apiError) {
	if r.Method+" "+r.URL.Path == "GET /sdk/v1/projects/bootstrap/"+s.PublicToken {
		return s.bootstrap(), nil
	}
	if token == s.PublicToken || token == "" {
		return nil, &errUnauthenticated
	}
	found, failure := s.find(sessionRequest{SessionToken: token})
	if failure != nil {
		return nil, failure
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /sdk/v1/sessions/authenticate":
		request := sessionRequest{SessionToken: token}
		var body struct {
			Minutes *int `json:"session_duration_minutes"`
		}
		if json.NewDecoder(r.Body).Decode(&body) != nil {
			return nil, &errBody
		}
		request.Minutes = body.Minutes
		answer, failure := s.refresh(found, request)
		if failure == nil {
			answer["user_id"] = found.userID
		}
		return answer, failure
	case "POST /sdk/v1/sessions/revoke":
		found.revoked = true
		return map[string]any{}, nil
	case "GET /sdk/v1/users/me":
		return found.user(), nil
	}
	return nil, &errRoute
}

// bootstrap is what an SDK learns about its project when it starts.
func (s *Server) bootstrap() map[string]any {
	return map[string]any{
		"project_name":                        "stytchtest",
		"disable_sdk_watermark":               true,
		"cname_domain":                        nil,
		"email_domains":                       []string{},
		"captcha_settings":                    map[string]any{"enabled": false},
		"pkce_required_for_email_magic_links": false,
		"pkce_required_for_password_resets":   false,
		"pkce_required_for_oauth":             false,
		"pkce_required_for_sso":               false,
		"slug_pattern":                        nil,
		"create_organization_enabled":         false,
		"password_config":                     nil,
		"dfp_protected_auth_enabled":          false,
		"rbac_policy":                         s.policy,
		"siwe_required_for_crypto_wallets":    false,
		"vertical":                            "CONSUMER",
	}
}

// allowOrigin lets pages of any origin call the SDK's part, with credentials (Fetch standard, CORS protocol). It reports
// whether that is all there is to the request.
func allowOrigin(w http.ResponseWriter, r *http.Request) (preflight bool) {
	if !strings.HasPrefix(r.URL.Path, "/sdk/v1/") {
		return false
	}
	header := w.Header()
	header.Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); origin != "" {
		header.Set("Access-Control-Allow-Origin", origin)
		header.Set("Access-Control-Allow-Credentials", "true")
	}
	if r.Method != http.MethodOptions {
		return false
	}
	header.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
	header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-SDK-Client, X-SDK-Parent-Host")
	w.WriteHeader(http.StatusNoContent)
	return true
}
