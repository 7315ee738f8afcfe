package stytchhttp

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const maxBodyBytes = 64 << 10

// SessionHandler returns the session methods of Stytch's browser SDK over HTTP, for single-page apps. Mount it on a prefix:
//
//	mux.Handle("/session/", auth.SessionHandler("/session"))
//
//	GET  /session/              get: the session, and how long it still lives
//	PUT  /session/              update: {"session_token": "…", "session_jwt": "…"}, the JWT optional: log in with these tokens
//	POST /session/authenticate  ask Stytch now, and extend: {"session_duration_minutes": 60}, optional: 5 to 527040
//	POST /session/revoke        log out
//	POST /session/tokens        the page's own tokens, for its SDK: {"session_token": "…", "session_jwt": "…"}
//
// The first three answer with {"session": {…}, "expires_in": …}: Stytch's session object, and the seconds it has left. Revoke
// answers with 204. Bodies are JSON (Content-Type: application/json), at most 64 KiB, without members that are not listed; an
// empty body is an empty object. What is wrong is answered as an [ErrInvalidRequest] or as behind Authenticate, through
// Config.ErrorHandler. No answer is cacheable.
//
// Update asks Stytch about the session token, and refuses a JWT of another session, before it writes a cookie; like all
// unsafe methods here with cookies it is refused to other origins' pages. So no form can log anybody in as somebody else.
//
// Tokens answers only to scripts of this very origin (Sec-Fetch-Site and Sec-Fetch-Mode, else Origin), whatever
// Config.TrustedOrigins says. It tells a script what an http-only or sealed cookie keeps from it: switch it off with
// Config.NoTokensEndpoint where no page uses the browser SDK.
func (m *Middleware) SessionHandler(prefix string) http.Handler {
	prefix = strings.TrimSuffix(prefix, "/")
	return m.Hydrate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		noStore(w.Header())
		var err error
		switch path, ok := strings.CutPrefix(r.URL.Path, prefix); {
		case !ok:
			err = errNoRoute
		case path == "", path == "/":
			switch r.Method {
			case http.MethodGet, http.MethodHead:
				err = m.getSession(w, r)
			case http.MethodPut:
				err = m.putSession(w, r)
			default:
				err = wrongMethod(w, "GET, HEAD, PUT")
			}
		case path == "/authenticate":
			err = m.onPost(w, r, m.postAuthenticate)
		case path == "/revoke":
			err = m.onPost(w, r, m.postRevoke)
		case path == "/tokens" && !m.config.NoTokensEndpoint:
			err = m.onPost(w, r, m.postTokens)
		default:
			err = errNoRoute
		}
		if err != nil {
			m.refuse(w, r, err)
		}
	}))
}

func (m *Middleware) onPost(w http.ResponseWriter, r *http.Request, handle func(http.ResponseWriter, *http.Request) error) error {
	if r.Method != http.MethodPost {
		return wrongMethod(w, "POST")
	}
	return handle(w, r)
}

func (m *Middleware) getSession(w http.ResponseWriter, r *http.Request) error {
	v, err := m.prove(stateFrom(r.Context()), byLifetime)
	if err != nil {
		return err
	}
	m.answerSession(w, v.session)
	return nil
}

func (m *Middleware) putSession(w http.ResponseWriter, r *http.Request) error {
	if m.crossOrigin.Check(r) != nil {
		return ErrCrossOrigin
	}
	var body struct {
		SessionToken string `json:"session_token"`
		SessionJWT   string `json:"session_jwt"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	given := Tokens{SessionToken: body.SessionToken, SessionJWT: body.SessionJWT}
	if given.SessionJWT == undefinedJWT {
		given.SessionJWT = ""
	}
	if given.SessionToken == "" {
		return invalidRequest(http.StatusBadRequest, "invalid_request", "session_token is required.")
	}
	if formed, _ := wellFormed(given); formed != given {
		return errMalformed
	}
	var claimed string
	if given.SessionJWT != "" {
		v, _, err := m.genuine(r.Context(), given.SessionJWT)
		if err != nil {
			return err
		}
		claimed = v.session.id
	}
	response, err := m.confirm(r.Context(), given, 0)
	if err != nil {
		return err
	}
	if claimed != "" && claimed != response.Session.id {
		return errMixed
	}
	if isJWT(response.Tokens.SessionJWT) {
		given.SessionJWT = response.Tokens.SessionJWT
	}
	if err := m.hand(w, r, given, verdict{session: response.Session, via: ViaRemote}); err != nil {
		return err
	}
	m.answerSession(w, response.Session)
	return nil
}

func (m *Middleware) postAuthenticate(w http.ResponseWriter, r *http.Request) error {
	s := stateFrom(r.Context())
	if err := m.sameOrigin(r, s.source); err != nil {
		return err
	}
	var body struct {
		Minutes *int `json:"session_duration_minutes"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	minutes := m.extendMinutes
	if body.Minutes != nil {
		minutes = *body.Minutes
		if d := time.Duration(minutes) * time.Minute; minutes > int(maxDuration/time.Minute) || d < minDuration {
			return invalidRequest(http.StatusBadRequest, "invalid_request", "session_duration_minutes must be 5 to 527040.")
		}
	}
	if s.tokenErr != nil {
		return s.tokenErr
	}
	response, err := m.confirm(r.Context(), s.tokens, minutes)
	if err != nil {
		return err
	}
	s.set(response.Session, ViaRemote, nil)
	if s.source.kind == sourceCookies && response.Tokens.SessionToken != "" {
		if err := m.cookies.renew(w, r, response.Tokens, response.Session.expiresAt); err != nil {
			return err
		}
	}
	m.answerSession(w, response.Session)
	return nil
}

func (m *Middleware) postRevoke(w http.ResponseWriter, r *http.Request) error {
	if err := readJSON(w, r, &struct{}{}); err != nil {
		return err
	}
	if err := m.Revoke(w, r); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (m *Middleware) postTokens(w http.ResponseWriter, r *http.Request) error {
	if !sameOriginScript(r) {
		return ErrCrossOrigin
	}
	if err := readJSON(w, r, &struct{}{}); err != nil {
		return err
	}
	s := stateFrom(r.Context())
	if _, err := m.prove(s, byLifetime); err != nil {
		return err
	}
	tokens, err := m.pair(r, s.tokens)
	if err != nil {
		return err
	}
	// Tokens marshal redacted: this is the one place that tells them.
	writeJSON(w, struct {
		SessionToken string `json:"session_token"`
		SessionJWT   string `json:"session_jwt,omitempty"`
	}(tokens))
	return nil
}

// pair completes a proven request's tokens for the browser SDK: it can't do without the session token, and a JWT that is out
// of its time would be of no use to it.
func (m *Middleware) pair(r *http.Request, tokens Tokens) (Tokens, error) {
	now := m.config.Now()
	if tokens.SessionToken != "" {
		fresh, _ := m.memory.exchange(tokens.SessionToken)
		for _, jwt := range []string{tokens.SessionJWT, fresh} {
			if jwt == "" {
				continue
			}
			if v, _, err := m.genuine(r.Context(), jwt); err == nil && m.usable(v, now, byLifetime) {
				return Tokens{SessionToken: tokens.SessionToken, SessionJWT: jwt}, nil
			}
		}
		return Tokens{SessionToken: tokens.SessionToken}, nil
	}
	response, err := m.confirm(r.Context(), tokens, 0)
	return response.Tokens, err
}

func (m *Middleware) answerSession(w http.ResponseWriter, session *Session) {
	left := session.expiresAt.Sub(m.config.Now())
	writeJSON(w, struct {
		Session   *Session `json:"session"`
		ExpiresIn int64    `json:"expires_in"`
	}{session, int64(max(left, 0) / time.Second)})
}

// sameOriginScript reports whether a browser says that a script of this very origin made the request. A client that says
// nothing of it is no page, and holds its tokens itself.
func sameOriginScript(r *http.Request) bool {
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "same-origin":
		mode := r.Header.Get("Sec-Fetch-Mode")
		return mode == "cors" || mode == "same-origin" // "navigate" is a form
	case "":
		origin, err := url.Parse(r.Header.Get("Origin"))
		return err == nil && origin.Host != "" && origin.Host == r.Host
	}
	return false
}

// readJSON decodes a request's body strictly into the struct that dst points to.
func readJSON(w http.ResponseWriter, r *http.Request, dst any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return invalidRequest(http.StatusRequestEntityTooLarge, "too_large", "The body exceeds 64 KiB.")
	}
	if err != nil {
		return invalidRequest(http.StatusBadRequest, "invalid_request", "The body can't be read.")
	}
	if len(body) == 0 {
		return nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return invalidRequest(http.StatusUnsupportedMediaType, "unsupported_media_type", "Content-Type must be application/json.")
	}
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(dst); err != nil {
		detail := "The body is not the JSON object that is expected here."
		var wrongType *json.UnmarshalTypeError
		if errors.As(err, &wrongType) && wrongType.Field != "" {
			detail = "The member " + wrongType.Field + " has the wrong type."
		}
		return invalidRequest(http.StatusBadRequest, "invalid_request", detail)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return invalidRequest(http.StatusBadRequest, "invalid_request", "There is more in the body than one JSON object.")
	}
	return nil
}

func writeJSON(w http.ResponseWriter, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(encoded)
}

func wrongMethod(w http.ResponseWriter, allowed string) error {
	w.Header().Set("Allow", allowed)
	return invalidRequest(http.StatusMethodNotAllowed, "method_not_allowed", "Use "+allowed+".")
}

func invalidRequest(status int, code, detail string) error {
	return &RequestError{StatusCode: status, Code: code, Detail: detail}
}

var errNoRoute = invalidRequest(http.StatusNotFound, "not_found", "There is no such session method.")
