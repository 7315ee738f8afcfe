package stytchhttp

import (
	"net/http"
	"strings"
)

const (
	maxTokenBytes = 255         // a session token has about 44
	maxJWTBytes   = 16 << 10    // 4 KB of custom claims make a JWT of about 7 KB
	undefinedJWT  = "undefined" // what the browser SDK's updateSession writes when it is given no JWT
)

// Source is a place where requests carry tokens. Use [Bearer], [SessionCookies] and [SourceFunc] to make one.
type Source struct {
	kind sourceKind
	read func(*http.Request) (Tokens, error)
}

type sourceKind uint8

const (
	sourceNone sourceKind = iota
	sourceBearer
	sourceCookies
	sourceFunc
)

// Bearer reads the Authorization header (RFC 6750 section 2.1): a session JWT or a session token. A Bearer credential that
// is malformed is an invalid one, not a missing one.
func Bearer() Source { return Source{kind: sourceBearer} }

// SessionCookies reads the cookies that Config.Cookies names. Of several cookies of one name the first counts, as in
// Stytch's browser SDK.
func SessionCookies() Source { return Source{kind: sourceCookies} }

// SourceFunc reads tokens in a way of its own, from a header or a query parameter, say. read returns no tokens and no error
// where there are none, and an error for a credential that is there but malformed; it is called by many requests at once.
//
// Such tokens are treated like cookies in that an unsafe cross-origin request with them is refused: the package can't know
// whether browsers send them by themselves.
func SourceFunc(read func(*http.Request) (Tokens, error)) Source {
	return Source{kind: sourceFunc, read: read}
}

// Hydrate is the first wrapper: it reads the tokens that a request carries, checks their form, and puts them into the
// request's context for [TokensFrom] and for Authenticate behind it. It verifies nothing, makes no call, and lets every
// request pass.
//
// Tokens come from one source, the first of Config.Sources that has any; they are never mixed across sources, so that nobody
// can slip one person's token beside another's. The answer's Vary names the headers that were looked at.
func (m *Middleware) Hydrate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r, _ = m.hydrate(w, r)
		next.ServeHTTP(w, r)
	})
}

// hydrate returns the request's state, and the request that carries it: the same if it was hydrated before.
func (m *Middleware) hydrate(w http.ResponseWriter, r *http.Request) (*http.Request, *state) {
	if s := stateFrom(r.Context()); s != nil && s.owner == m {
		return r, s
	}
	s := &state{Context: r.Context(), owner: m}
	s.tokens, s.source, s.tokenErr = m.tokensOf(r)
	header := w.Header()
	s.header = header
	if len(header["Vary"]) == 0 {
		s.vary[0] = m.vary
		header["Vary"] = s.vary[:]
	} else {
		header.Add("Vary", m.vary)
	}
	return r.WithContext(s), s
}

// tokensOf returns the tokens of the first source that has any. The error, if there is no usable one, is ErrNoSession or an
// ErrInvalidSession.
func (m *Middleware) tokensOf(r *http.Request) (Tokens, Source, error) {
	for _, source := range m.sources {
		var tokens Tokens
		var err error
		switch source.kind {
		case sourceBearer:
			tokens, err = bearer(r.Header["Authorization"])
		case sourceCookies:
			tokens, err = m.cookies.read(r)
		case sourceFunc:
			tokens, err = source.read(r)
			if err != nil {
				err = errMalformed // whatever read says of it may quote the credential
			} else {
				tokens, err = wellFormed(tokens)
			}
		}
		if err != nil || tokens != (Tokens{}) {
			return tokens, source, err
		}
	}
	return Tokens{}, Source{}, ErrNoSession
}

// bearer reads the Authorization headers. Another scheme is somebody else's; a second Bearer beside the first is refused.
func bearer(headers []string) (Tokens, error) {
	var credential string
	found := 0
	for _, h := range headers {
		scheme, rest, _ := strings.Cut(h, " ")
		if strings.EqualFold(scheme, "Bearer") {
			credential = strings.TrimLeft(rest, " ")
			found++
		}
	}
	switch {
	case found == 0:
		return Tokens{}, nil
	case found > 1 || credential == "":
		return Tokens{}, errMalformed
	case strings.Contains(credential, "."):
		return wellFormed(Tokens{SessionJWT: credential})
	}
	return wellFormed(Tokens{SessionToken: credential})
}

// wellFormed drops a token that can be none by its form. It is an error only if none is left of what was there.
func wellFormed(t Tokens) (Tokens, error) {
	given := t
	if !isSessionToken(t.SessionToken) {
		t.SessionToken = ""
	}
	if !isJWT(t.SessionJWT) {
		t.SessionJWT = ""
	}
	if t == (Tokens{}) && given != t {
		return t, errMalformed
	}
	return t, nil
}

// isSessionToken accepts the b64token of RFC 6750 section 2.1 without a dot, which would make it a JWT.
func isSessionToken(s string) bool {
	if len(s) == 0 || len(s) > maxTokenBytes {
		return false
	}
	for i := range len(s) {
		if !base64url[s[i]] && s[i] != '+' && s[i] != '/' && s[i] != '~' && s[i] != '=' {
			return false
		}
	}
	return true
}

// isJWT accepts three non-empty base64url segments (RFC 7515 section 3.1), which the verification decodes strictly.
func isJWT(s string) bool {
	if len(s) > maxJWTBytes {
		return false
	}
	dots, last := 0, -1
	for i := range len(s) {
		switch {
		case s[i] == '.':
			if i == last+1 {
				return false
			}
			dots, last = dots+1, i
		case !base64url[s[i]]:
			return false
		}
	}
	return dots == 2 && last < len(s)-1
}

// base64url is the alphabet of RFC 4648 section 5.
var base64url = func() (table [256]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		table[c] = true
	}
	return table
}()
