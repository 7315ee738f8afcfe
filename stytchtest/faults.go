package stytchtest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Endpoint names a call of the API.
type Endpoint string

// The endpoints of the server.
const (
	Authenticate Endpoint = "authenticate" // POST /v1/sessions/authenticate
	Revoke       Endpoint = "revoke"       // POST /v1/sessions/revoke
	Get          Endpoint = "get"          // GET /v1/sessions
	JWKS         Endpoint = "jwks"         // GET /v1/sessions/jwks/{project_id}
	Policy       Endpoint = "policy"       // GET /v1/rbac/policy
	SDK          Endpoint = "sdk"          // all of /sdk/v1, which browsers call
)

var allEndpoints = []Endpoint{Authenticate, Revoke, Get, JWKS, Policy, SDK}

// Fault does something to a request before it is handled. It returns true if it has answered, or that is nobody's concern
// any more; false lets the request go on. quit is closed when the server is closed.
type Fault func(w http.ResponseWriter, r *http.Request, quit <-chan struct{}) (answered bool)

// Break switches a fault on for these endpoints, or for all if none is named, beside those that are on already.
func (s *Server) Break(fault Fault, endpoints ...Endpoint) {
	if len(endpoints) == 0 {
		endpoints = allEndpoints
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range endpoints {
		s.faults[e] = append(slices.Clip(s.faults[e]), fault)
	}
}

// Heal switches all faults of these endpoints off, or of all if none is named.
func (s *Server) Heal(endpoints ...Endpoint) {
	if len(endpoints) == 0 {
		endpoints = allEndpoints
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range endpoints {
		delete(s.faults, e)
	}
}

// Outage answers 503 in Stytch's way.
func Outage() Fault { return Status(http.StatusServiceUnavailable, "service_unavailable") }

// Status answers with an error of this HTTP status and Stytch error_type.
func Status(code int, errorType string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ <-chan struct{}) bool {
		writeError(w, apiError{code, errorType, "A fault of stytchtest."})
		return true
	}
}

// RateLimited answers 429, with a Retry-After if after is positive; it is sent in whole seconds, rounded up.
func RateLimited(after time.Duration) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ <-chan struct{}) bool {
		if after > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
		}
		writeError(w, apiError{http.StatusTooManyRequests, "too_many_requests", "A fault of stytchtest."})
		return true
	}
}

// Garbage answers with an HTML page under this HTTP status, as a broken proxy would.
func Garbage(code int) Fault {
	return Body(code, "text/html", "<!doctype html><title>Oops</title><p>Something went wrong.")
}

// Body answers with this status, content type and body.
func Body(code int, contentType, body string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ <-chan struct{}) bool {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(code)
		_, _ = strings.NewReader(body).WriteTo(w)
		return true
	}
}

// Drop closes the connection without an answer.
func Drop() Fault {
	return func(http.ResponseWriter, *http.Request, <-chan struct{}) bool {
		panic(http.ErrAbortHandler)
	}
}

// Latency delays the request by d and lets it go on.
func Latency(d time.Duration) Fault {
	return func(_ http.ResponseWriter, r *http.Request, quit <-chan struct{}) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return false
		case <-r.Context().Done():
		case <-quit:
		}
		return true
	}
}

// Hang keeps the request without an answer until the client leaves or the server is closed.
func Hang() Fault {
	return func(_ http.ResponseWriter, r *http.Request, quit <-chan struct{}) bool {
		select {
		case <-r.Context().Done():
		case <-quit:
		}
		return true
	}
}

// Hold keeps each request until release is closed, and then lets it go on: for tests of what happens meanwhile.
func Hold(release <-chan struct{}) Fault {
	return func(_ http.ResponseWriter, r *http.Request, quit <-chan struct{}) bool {
		select {
		case <-release:
			return false
		case <-r.Context().Done():
		case <-quit:
		}
		return true
	}
}
