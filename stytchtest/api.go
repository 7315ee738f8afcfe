package stytchtest

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/stytchhttp/stytchhttp"
)

// apiError is what Stytch answers when it does not answer with 200.
type apiError struct {
	status  int
	kind    string
	message string
}

var (
	errNotFound      = apiError{404, "session_not_found", "Session could not be found."}
	errBadToken      = apiError{400, "invalid_session_token", "session_token format is invalid."}
	errBadJWT        = apiError{400, "jwt_invalid_claims", "The JWT is not a session JWT of this project."}
	errNoArguments   = apiError{400, "no_session_arguments", "One of session_token or session_jwt is required."}
	errManyArguments = apiError{400, "too_many_session_arguments", "Only one of session_token and session_jwt may be given."}
	errCredentials   = apiError{401, "unauthorized_credentials", "Unauthorized credentials."}
	errDuration      = apiError{400, "invalid_session_duration_minutes", "session_duration_minutes must be 5 to 527040."}
	errAuthorization = apiError{403, "session_authorization_error", "The session is not authorized for this action."}
	errBody          = apiError{400, "bad_request", "The body is not the JSON that was expected."}
	errRoute         = apiError{404, "route_not_found", "There is no such route."}
)

// ServeHTTP answers as Stytch's API does, to backends and to browsers.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if allowOrigin(w, r) {
		return
	}
	endpoint, handle := s.route(r)
	s.mu.Lock()
	switch endpoint {
	case Authenticate:
		s.calls.Authenticate++
	case Revoke:
		s.calls.Revoke++
	case Get:
		s.calls.Get++
	case JWKS:
		s.calls.JWKS++
	case Policy:
		s.calls.Policy++
	case SDK:
		s.calls.SDK++
		if r.URL.Path == "/sdk/v1/sessions/authenticate" {
			s.calls.SDKAuthenticate++
		}
	}
	faults := s.faults[endpoint]
	s.mu.Unlock()
	// Read whole, so that a fault which waits learns when the client leaves.
	sent, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		writeError(w, errBody)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(sent))
	for _, fault := range faults {
		if fault(w, r, s.quit) {
			return
		}
	}
	if endpoint == SDK {
		s.serveSDK(w, r)
		return
	}
	if endpoint != JWKS {
		id, secret, ok := r.BasicAuth()
		if !ok || id != s.ProjectID || subtle.ConstantTimeCompare([]byte(secret), []byte(s.Secret)) == 0 {
			writeError(w, errCredentials)
			return
		}
	}
	if body, ok := s.answer(w, r, handle); ok {
		writeJSON(w, http.StatusOK, body)
	}
}

// answer lets handle make the body of a 200 answer, or writes the error that it returns.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, handle handler) (body map[string]any, ok bool) {
	s.mu.Lock()
	body, failure := handle(r)
	s.mu.Unlock()
	if failure != nil {
		writeError(w, *failure)
		return nil, false
	}
	body["status_code"] = http.StatusOK
	body["request_id"] = "request-id-test-" + newUUID()
	return body, true
}

type handler func(*http.Request) (map[string]any, *apiError)

// route returns what a request asks for. The handler is called with the lock held.
func (s *Server) route(r *http.Request) (Endpoint, handler) {
	if strings.HasPrefix(r.URL.Path, "/sdk/v1/") {
		return SDK, nil
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /v1/sessions/authenticate":
		return Authenticate, s.authenticate
	case "POST /v1/sessions/revoke":
		return Revoke, s.revoke
	case "GET /v1/sessions":
		return Get, s.get
	case "GET /v1/sessions/jwks/" + s.ProjectID, "GET /v1/public/" + s.ProjectID + "/.well-known/jwks.json":
		return JWKS, s.jwks
	case "GET /v1/rbac/policy":
		return Policy, func(*http.Request) (map[string]any, *apiError) {
			return map[string]any{"policy": s.policy}, nil
		}
	}
	return "", func(*http.Request) (map[string]any, *apiError) { return nil, &errRoute }
}

func (s *Server) jwks(*http.Request) (map[string]any, *apiError) {
	body, err := s.jwksBody()
	if err != nil {
		return nil, &apiError{500, "internal_server_error", err.Error()}
	}
	return body, nil
}

type sessionRequest struct {
	SessionID    string         `json:"session_id"`
	SessionToken string         `json:"session_token"`
	SessionJWT   string         `json:"session_jwt"`
	Minutes      *int           `json:"session_duration_minutes"`
	CustomClaims map[string]any `json:"session_custom_claims"`
	Check        *struct {
		ResourceID string `json:"resource_id"`
		Action     string `json:"action"`
	} `json:"authorization_check"`
}

// find returns the living session that a request names.
func (s *Server) find(request sessionRequest) (*session, *apiError) {
	given := 0
	for _, argument := range []string{request.SessionID, request.SessionToken, request.SessionJWT} {
		if argument != "" {
			given++
		}
	}
	if given == 0 {
		return nil, &errNoArguments
	}
	if given > 1 {
		return nil, &errManyArguments
	}
	var found *session
	switch {
	case request.SessionID != "":
		found = s.sessions[request.SessionID]
	case request.SessionToken != "":
		if strings.ContainsAny(request.SessionToken, ". \t\r\n") {
			return nil, &errBadToken
		}
		found = s.byToken[request.SessionToken]
	default:
		var err error
		if found, err = s.sessionOfJWT(request.SessionJWT); err != nil {
			return nil, &errBadJWT
		}
	}
	if found == nil || found.revoked || !s.now().Before(found.expiresAt) {
		return nil, &errNotFound
	}
	return found, nil
}

func (s *Server) authenticate(r *http.Request) (map[string]any, *apiError) {
	var request sessionRequest
	if json.NewDecoder(r.Body).Decode(&request) != nil || request.SessionID != "" {
		return nil, &errBody
	}
	found, failure := s.find(request)
	if failure != nil {
		return nil, failure
	}
	var verdict map[string]any
	if c := request.Check; c != nil {
		granting := s.policy.granting(found.allRoles(), c.ResourceID, c.Action)
		if len(granting) == 0 {
			return nil, &errAuthorization
		}
		verdict = map[string]any{"authorized": true, "granting_roles": granting}
	}
	answer, failure := s.refresh(found, request)
	if failure == nil {
		answer["verdict"] = verdict
	}
	return answer, failure
}

// refresh notes that the session was used, changes what the request asks to change, and returns it with a fresh JWT.
func (s *Server) refresh(found *session, request sessionRequest) (map[string]any, *apiError) {
	now := s.now().Truncate(time.Second)
	if m := request.Minutes; m != nil {
		if *m < minSessionMinutes || *m > maxSessionMinutes {
			return nil, &errDuration
		}
		found.expiresAt = now.Add(time.Duration(*m) * time.Minute)
	}
	for name, value := range request.CustomClaims {
		if found.claims == nil {
			found.claims = make(map[string]any)
		}
		if value == nil {
			delete(found.claims, name)
		} else {
			found.claims[name] = value
		}
	}
	found.accessedAt = now
	return map[string]any{
		"session":       found.wire(),
		"session_token": found.token,
		"session_jwt":   s.jwtFor(found),
		"user":          found.user(),
	}, nil
}

func (s *Server) revoke(r *http.Request) (map[string]any, *apiError) {
	var request sessionRequest
	if json.NewDecoder(r.Body).Decode(&request) != nil {
		return nil, &errBody
	}
	found, failure := s.find(request)
	if failure != nil {
		return nil, failure
	}
	found.revoked = true
	return map[string]any{}, nil
}

func (s *Server) get(r *http.Request) (map[string]any, *apiError) {
	user := r.URL.Query().Get("user_id")
	sessions := []any{}
	for _, of := range s.sessions {
		if of.userID == user && !of.revoked && s.now().Before(of.expiresAt) {
			sessions = append(sessions, of.wire())
		}
	}
	return map[string]any{"sessions": sessions}, nil
}

func writeError(w http.ResponseWriter, e apiError) {
	writeJSON(w, e.status, map[string]any{
		"status_code":   e.status,
		"request_id":    "request-id-test-" + newUUID(),
		"error_type":    e.kind,
		"error_message": e.message,
		"error_url":     "https://stytch.com/docs/api/errors/" + http.StatusText(e.status),
	})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(encoded)
}

// Session returns a session as Authenticate would put it into a request's context, for tests of what handlers and rules
// make of it. It needs no server and is known to none.
func Session(userID string, options ...Option) *stytchhttp.Session {
	encoded, err := json.Marshal(newSession(userID, time.Now(), options).wire())
	if err != nil {
		panic("stytchtest: custom claims that can't be encoded: " + err.Error())
	}
	parsed, err := stytchhttp.ParseSession(encoded)
	if err != nil {
		panic("stytchtest: " + err.Error())
	}
	return parsed
}
