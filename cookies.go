package stytchhttp

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
)

// CookieMode says who may read the session's cookies.
type CookieMode uint8

const (
	// CookiesShared: the cookies that Stytch's browser SDK would write itself, readable by it. The SDK finds them when it
	// starts and needs no call by the page.
	CookiesShared CookieMode = iota
	// CookiesHTTPOnly: cookies out of the reach of scripts, under names of their own, for backends whose pages don't use the
	// browser SDK, or hydrate it explicitly. The SDK's own cookies are then no credential for this backend.
	CookiesHTTPOnly
	// CookiesSealed: one cookie that holds both tokens, encrypted and authenticated by CookieConfig.Keys, out of the reach of
	// scripts, and bound to this host where domain and path allow it. The SDK's own cookies are no credential then.
	CookiesSealed
)

// Names of the cookies of Stytch's browser SDK, unless its cookieOptions say otherwise.
const (
	sdkTokenCookie = "stytch_session"
	sdkJWTCookie   = "stytch_session_jwt"
)

// maxCookieBytes is the size of name and value over which browsers drop a cookie without a word (RFC 6265 section 6.1).
const maxCookieBytes = 4096

// CookieConfig says how the session's cookies look. The zero value is that of Stytch's browser SDK: readable by scripts,
// SameSite=Lax, for this host alone, on all paths.
type CookieConfig struct {
	// Mode says who may read the cookies. Default: CookiesShared.
	Mode CookieMode

	// SessionTokenName and SessionJWTName are the cookies' names. Default: stytch_session and stytch_session_jwt, the
	// browser SDK's; with CookiesHTTPOnly stytchhttp_session and stytchhttp_session_jwt. The SDK's names are refused
	// there: an HttpOnly cookie of its name defeats the SDK silently. With CookiesSealed SessionTokenName, by default
	// stytchhttp, is the name of the one cookie, less the prefix __Host- that it gets where it can; SessionJWTName must
	// be empty.
	SessionTokenName string
	SessionJWTName   string

	// Keys seal the cookie: the first one seals, all of them open. To rotate, put a new one in front, and remove the old
	// one when the sessions of its time are over. Required with CookiesSealed.
	Keys []CookieKey

	// MaxAge is the age over which a sealed cookie is no cookie, whatever its session's length; in whole seconds. Default:
	// 366 days, the length of Stytch's longest session.
	MaxAge time.Duration

	// Domain makes the cookies visible to all subdomains of this domain, as in "example.com". Default: to this host only.
	Domain string

	// Path limits the cookies to the URLs below it. Default: "/".
	Path string
}

// cookies is a CookieConfig checked and completed.
type cookies struct {
	CookieConfig
	codecs []securecookie.Codec // with CookiesSealed
}

func newCookies(c CookieConfig) (cookies, error) {
	token, jwt := sdkTokenCookie, sdkJWTCookie
	switch c.Mode {
	case CookiesShared:
	case CookiesSealed:
		if c.SessionJWTName != "" {
			return cookies{}, errors.New("stytchhttp: Config.Cookies.SessionJWTName: CookiesSealed has one cookie, SessionTokenName")
		}
		fallthrough
	case CookiesHTTPOnly:
		token, jwt = "stytchhttp_session", "stytchhttp_session_jwt"
		if c.Mode == CookiesSealed {
			token = "stytchhttp"
		}
		for _, name := range []string{c.SessionTokenName, c.SessionJWTName} {
			if name == sdkTokenCookie || name == sdkJWTCookie {
				return cookies{}, fmt.Errorf("stytchhttp: Config.Cookies: the name %q belongs to Stytch's browser SDK, "+
					"which an HttpOnly cookie of that name defeats: choose another, or CookiesShared", name)
			}
		}
	default:
		return cookies{}, fmt.Errorf("stytchhttp: Config.Cookies.Mode: unknown mode %d", c.Mode)
	}
	if c.SessionTokenName == "" {
		c.SessionTokenName = token
	}
	if c.SessionJWTName == "" {
		c.SessionJWTName = jwt
	}
	if c.SessionTokenName == c.SessionJWTName {
		return cookies{}, fmt.Errorf("stytchhttp: Config.Cookies: both cookies have the name %q", c.SessionTokenName)
	}
	if c.Path == "" {
		c.Path = "/"
	}
	if c.Path[0] != '/' {
		return cookies{}, fmt.Errorf("stytchhttp: Config.Cookies.Path %q does not begin with a slash", c.Path)
	}
	c.Domain = strings.TrimPrefix(c.Domain, ".")
	for _, field := range []struct{ name, cookie string }{
		{"SessionTokenName", c.SessionTokenName},
		{"SessionJWTName", c.SessionJWTName},
	} {
		probe := http.Cookie{Name: field.cookie, Value: "x", Path: c.Path, Domain: c.Domain}
		if err := probe.Valid(); err != nil {
			return cookies{}, fmt.Errorf("stytchhttp: Config.Cookies.%s, Domain or Path: %w", field.name, err)
		}
		if strings.HasPrefix(field.cookie, "__Host-") && (c.Domain != "" || c.Path != "/") {
			return cookies{}, fmt.Errorf("stytchhttp: Config.Cookies.%s: browsers drop a %q cookie that has a Domain or a Path other than /",
				field.name, "__Host-")
		}
	}
	out := cookies{CookieConfig: c}
	switch {
	case c.Mode != CookiesSealed:
		if len(c.Keys) > 0 || c.MaxAge != 0 {
			return cookies{}, errors.New("stytchhttp: Config.Cookies: Keys and MaxAge are for CookiesSealed")
		}
		return out, nil
	case c.MaxAge < 0 || c.MaxAge%time.Second != 0:
		return cookies{}, errors.New("stytchhttp: Config.Cookies.MaxAge is not a positive number of seconds")
	case c.MaxAge == 0:
		c.MaxAge = maxDuration // its session's own end ends a cookie sooner
	}
	var err error
	out.codecs, err = newCodecs(c.Keys, c.MaxAge)
	return out, err
}

// read returns the tokens in the Cookie headers, dropping what can be none by its form.
func (c *cookies) read(r *http.Request) (Tokens, error) {
	headers := r.Header["Cookie"]
	if len(headers) == 0 {
		return Tokens{}, nil
	}
	if c.Mode == CookiesSealed {
		name := c.sealedName(r)
		return wellFormed(c.open(name, cookieValue(headers, name)))
	}
	tokens := Tokens{
		SessionToken: cookieValue(headers, c.SessionTokenName),
		SessionJWT:   cookieValue(headers, c.SessionJWTName),
	}
	if tokens.SessionToken == undefinedJWT {
		tokens.SessionToken = ""
	}
	if tokens.SessionJWT == undefinedJWT {
		tokens.SessionJWT = ""
	}
	return wellFormed(tokens)
}

// cookieValue returns the value of the first cookie of this name, or "". Unlike http.Request.Cookie it allocates nothing.
func cookieValue(headers []string, name string) string {
	for _, line := range headers {
		for part := range strings.SplitSeq(line, ";") {
			n, value, ok := strings.Cut(strings.Trim(part, " \t"), "=")
			if !ok || n != name {
				continue
			}
			if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1] // RFC 6265 section 4.1.1 allows quotes
			}
			return value
		}
	}
	return ""
}

// write sets the session's cookies until expires, and removes those of other variants, which would go on beside them.
func (c *cookies) write(w http.ResponseWriter, r *http.Request, tokens Tokens, expires time.Time) error {
	c.clear(w, r)
	return c.renew(w, r, tokens, expires)
}

// renew sets the session's cookies until expires. A JWT that is missing or that browsers would drop is removed, lest an older
// session's stay behind.
func (c *cookies) renew(w http.ResponseWriter, r *http.Request, tokens Tokens, expires time.Time) error {
	noStore(w.Header())
	if c.Mode == CookiesSealed {
		name := c.sealedName(r)
		value, err := c.seal(name, tokens)
		if err != nil {
			return err
		}
		c.set(w, r, name, value, expires)
		return nil
	}
	c.set(w, r, c.SessionTokenName, tokens.SessionToken, expires)
	if tokens.SessionJWT == "" || len(c.SessionJWTName)+len("=")+len(tokens.SessionJWT) > maxCookieBytes {
		tokens.SessionJWT, expires = "", time.Unix(1, 0)
	}
	c.set(w, r, c.SessionJWTName, tokens.SessionJWT, expires)
	return nil
}

func (c *cookies) set(w http.ResponseWriter, r *http.Request, name, value string, expires time.Time) {
	setCookie(w.Header(), &http.Cookie{
		Name: name, Value: value,
		Path: c.Path, Domain: c.Domain,
		Expires:  expires.UTC(),
		SameSite: http.SameSiteLaxMode,
		Secure:   secure(r, name),
		HttpOnly: c.Mode != CookiesShared,
	})
}

// clear removes the session's cookies in every variant that this configuration or Stytch's browser SDK may have set: the
// cookies of a name live side by side for each domain and path.
func (c *cookies) clear(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	noStore(header)
	domains := []string{""}
	for _, d := range []string{c.Domain, domainOf(r.Host)} { // the SDK's availableToSubdomains sets the page's own host
		if d != "" && !slices.Contains(domains, d) {
			domains = append(domains, d)
		}
	}
	paths := []string{c.Path}
	if c.Path != "/" {
		paths = append(paths, "/")
	}
	names := []string{c.SessionTokenName, c.SessionJWTName}
	if c.Mode == CookiesSealed {
		names = []string{c.sealedName(r)}
	}
	for _, sdk := range []string{sdkTokenCookie, sdkJWTCookie} {
		if !slices.Contains(names, sdk) {
			names = append(names, sdk)
		}
	}
	for _, name := range names {
		for _, domain := range domains {
			for _, path := range paths {
				if strings.HasPrefix(name, "__Host-") && (domain != "" || path != "/") {
					continue // there can be none
				}
				setCookie(header, &http.Cookie{Name: name, Path: path, Domain: domain, MaxAge: -1,
					SameSite: http.SameSiteLaxMode, Secure: secure(r, name)})
			}
		}
	}
}

// noStore marks an answer that sets a cookie: no cache may keep it and hand it to somebody else (RFC 9111 section 5.2.2).
func noStore(header http.Header) {
	header.Set("Cache-Control", "private, no-store")
}

// setCookie adds a Set-Cookie, in place of one set earlier in this answer for the same cookie: browsers tell cookies apart
// by name, domain and path (RFC 6265 section 5.3 step 11).
func setCookie(header http.Header, cookie *http.Cookie) {
	header["Set-Cookie"] = slices.DeleteFunc(header["Set-Cookie"], func(line string) bool {
		c, err := http.ParseSetCookie(line)
		return err == nil && c.Name == cookie.Name && c.Domain == cookie.Domain && c.Path == cookie.Path
	})
	header.Add("Set-Cookie", cookie.String())
}

// secure reports whether a cookie must stay on TLS: everywhere but on loopback hosts, as in Stytch's browser SDK. A proxy
// that names a loopback host upstream but came by TLS itself does not unlock it.
func secure(r *http.Request, name string) bool {
	if strings.HasPrefix(name, "__") { // __Host- and __Secure- are dropped without it
		return true
	}
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		return true
	}
	return !isLoopback(hostname(r.Host))
}

// hostname returns a Host header's value without port and brackets.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

func isLoopback(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// domainOf returns the host as a cookie domain, or "" if it can't be one: an address, a name without a dot, or nonsense.
func domainOf(host string) string {
	h := strings.ToLower(hostname(host))
	if _, err := netip.ParseAddr(h); err == nil || !strings.Contains(h, ".") {
		return ""
	}
	probe := http.Cookie{Name: "x", Value: "x", Domain: h}
	if probe.Valid() != nil {
		return ""
	}
	return h
}
