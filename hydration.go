package stytchhttp

import (
	"context"
	"encoding/json"
	"fmt"
	"html/template"
)

// HydrationScript returns a script element that hands this request's session to Stytch's browser SDK, for server-rendered
// pages whose cookies the SDK can't read (CookiesHTTPOnly, CookiesSealed). It defines one function, which calls
// stytch.session.updateSession with the tokens and then removes itself; the page calls it once its client is there:
//
//	window.stytchHydrate?.(stytch)
//	await stytch.session.authenticate()
//
// nonce is that of the page's Content-Security-Policy (CSP Level 3 section 6.7.3.2), or empty. The page must come from a
// handler behind Hydrate and Authenticate or UpdateSession, and HydrationScript be called before anything is written: it
// makes the answer Cache-Control: private, no-store, since the page holds the tokens. For an anonymous request the element is
// empty. A nonce that is no base64 value is an error.
func HydrationScript(ctx context.Context, nonce string) (template.HTML, error) {
	for _, c := range []byte(nonce) {
		if !base64url[c] && c != '+' && c != '/' && c != '=' {
			return "", fmt.Errorf("stytchhttp: the nonce %q is not base64", nonce)
		}
	}
	s := stateFrom(ctx)
	if s == nil {
		return "", nil
	}
	s.mu.Lock()
	tokens, session := s.tokens, s.session
	s.mu.Unlock()
	if session == nil || tokens.SessionToken == "" {
		return "", nil
	}
	if s.header != nil {
		noStore(s.header)
	}
	// encoding/json escapes <, > and &, so that nothing in a string ends the element.
	encoded, err := json.Marshal(struct {
		SessionToken string `json:"session_token"`
		SessionJWT   string `json:"session_jwt,omitempty"`
	}(tokens))
	if err != nil {
		return "", err
	}
	attribute := ""
	if nonce != "" {
		attribute = ` nonce="` + nonce + `"`
	}
	return template.HTML("<script" + attribute + ">window.stytchHydrate=function(stytch){delete window.stytchHydrate;" +
		"return stytch.session.updateSession(" + string(encoded) + ")}</script>"), nil
}
