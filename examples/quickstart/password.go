package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/stytchhttp/stytchhttp"
)

// passwordLogin returns a login by e-mail address and password on the real Stytch. Stytch's backend SDKs do the same; here
// it is two calls by hand, to show that any way of logging in will do. Somebody new is signed up.
// See https://stytch.com/docs/api/password-authenticate and https://stytch.com/docs/api/password-create.
func passwordLogin(projectID, secret string) func(*http.Request) (stytchhttp.Tokens, error) {
	base := "https://test.stytch.com"
	if strings.HasPrefix(projectID, "project-live-") {
		base = "https://api.stytch.com"
	}
	client := &http.Client{Timeout: 10 * time.Second}
	return func(r *http.Request) (stytchhttp.Tokens, error) {
		body, err := json.Marshal(map[string]any{
			"email": r.FormValue("email"), "password": r.FormValue("password"), "session_duration_minutes": 60,
		})
		if err != nil {
			return stytchhttp.Tokens{}, err
		}
		for _, path := range []string{"/v1/passwords/authenticate", "/v1/passwords"} {
			req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, base+path, bytes.NewReader(body))
			if err != nil {
				return stytchhttp.Tokens{}, err
			}
			req.SetBasicAuth(projectID, secret)
			req.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(req)
			if err != nil {
				return stytchhttp.Tokens{}, errors.New("can't reach Stytch")
			}
			var answer struct {
				SessionToken string `json:"session_token"`
				SessionJWT   string `json:"session_jwt"`
				ErrorType    string `json:"error_type"`
			}
			err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer)
			resp.Body.Close()
			switch {
			case err != nil:
				return stytchhttp.Tokens{}, errors.New("can't read the answer of Stytch")
			case resp.StatusCode == http.StatusOK:
				return stytchhttp.Tokens{SessionToken: answer.SessionToken, SessionJWT: answer.SessionJWT}, nil
			case answer.ErrorType != "email_not_found":
				return stytchhttp.Tokens{}, fmt.Errorf("login refused by Stytch: %s", answer.ErrorType)
			}
		}
		return stytchhttp.Tokens{}, errors.New("login refused by Stytch")
	}
}
