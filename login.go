package stytchhttp

import (
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	nextParameter = "next"
	maxNextBytes  = 2048
)

// parseLoginURL checks Config.LoginURL: a path on this site, or an absolute URL.
func parseLoginURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err == nil && (isSameSite(raw) || ((u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil)) {
		return u, nil
	}
	return nil, errors.New("stytchhttp: Config.LoginURL is neither a path like /login nor a URL like https://example.com/login")
}

// loginLocation returns where to send a page request that has no session, or "" if it is to be refused where it is.
func loginLocation(r *http.Request) string {
	s := stateFrom(r.Context())
	if s == nil || s.owner == nil || s.owner.loginURL == nil || s.source.kind == sourceBearer {
		return ""
	}
	login := *s.owner.loginURL
	asked := askedFor(r)
	if login.Path == asked.Path && (login.Host == "" || login.Host == r.Host) {
		return "" // the login page itself needs a session: a redirect would never end
	}
	if login.Host == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		next := asked.EscapedPath()
		if asked.RawQuery != "" {
			next += "?" + asked.RawQuery
		}
		if isSameSite(next) {
			query := login.Query()
			query.Set(nextParameter, next)
			login.RawQuery = query.Encode()
		}
	}
	return login.String()
}

// askedFor returns the URL as the client sent it: routers and http.StripPrefix change r.URL.
func askedFor(r *http.Request) *url.URL {
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
		return u
	}
	return r.URL
}

// NextFrom returns where a login page should send somebody who has logged in: the request's parameter next, in its query or
// form, if that is a path on this site, and "/" otherwise. So no link to the login page can lead astray to another site, be it
// //evil.example, /\evil.example or https://evil.example.
func NextFrom(r *http.Request) string {
	if next := r.FormValue(nextParameter); isSameSite(next) {
		return next
	}
	return "/"
}

// isSameSite accepts a path with or without a query. Browsers take a backslash for a slash, drop tabs and line ends, and take
// two slashes at the start for another host (https://url.spec.whatwg.org/#concept-basic-url-parser).
func isSameSite(next string) bool {
	if len(next) > maxNextBytes || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") {
		return false
	}
	for i := range len(next) {
		if c := next[i]; c <= ' ' || c == '\\' || c == 0x7f {
			return false
		}
	}
	u, err := url.Parse(next)
	return err == nil && u.Scheme == "" && u.Host == ""
}

// isPage reports whether a browser is to show the answer, by the request's Sec-Fetch-Mode (https://www.w3.org/TR/fetch-metadata/)
// and Accept. Browsers leave the first out on plain http; scripts that set the second give themselves away otherwise.
func isPage(r *http.Request) bool {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" && mode != "navigate" {
		return false
	}
	if r.Header.Get("HX-Request") != "" || strings.EqualFold(r.Header.Get("X-Requested-With"), "XMLHttpRequest") {
		return false
	}
	for _, line := range r.Header["Accept"] {
		for kind := range strings.SplitSeq(line, ",") {
			name, parameters, err := mime.ParseMediaType(kind)
			if err != nil || name != "text/html" {
				continue
			}
			if q, err := strconv.ParseFloat(parameters["q"], 64); err != nil || q > 0 {
				return true
			}
		}
	}
	return false
}
