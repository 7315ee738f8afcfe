package stytchhttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

// The examples run on an embedded Stytch; srv.Config() stands for
// stytchhttp.Config{ProjectID: "project-test-…", Secret: "secret-test-…"}.
func exampleSetup(change ...func(*stytchhttp.Config)) (*stytchtest.Server, *stytchhttp.Middleware, func()) {
	srv, err := stytchtest.Start()
	if err != nil {
		log.Fatal(err)
	}
	config := srv.Config()
	for _, c := range change {
		c(&config)
	}
	auth, err := stytchhttp.New(config)
	if err != nil {
		log.Fatal(err)
	}
	return srv, auth, func() { auth.Close(); srv.Close() }
}

// show sends a GET with a Bearer credential, or with none, and prints the answer.
func show(h http.Handler, path, credential string) {
	r := httptest.NewRequest("GET", path, nil)
	if credential != "" {
		r.Header.Set("Authorization", "Bearer "+credential)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code == http.StatusOK {
		fmt.Println(w.Code, w.Body)
	} else {
		fmt.Println(w.Code)
	}
}

func Example() {
	srv, auth, done := exampleSetup()
	defer done()

	me := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := stytchhttp.SessionFrom(r.Context())
		fmt.Fprint(w, session.UserID(), " via ", stytchhttp.ViaFrom(r.Context()))
	})
	mux := http.NewServeMux()
	mux.Handle("/api/me", auth.Hydrate(auth.Authenticate(me)))
	mux.Handle("/api/admin", auth.Protect(stytchhttp.Role("admin"))(me))

	tokens := srv.Login("user-test-ada")
	show(mux, "/api/me", tokens.SessionJWT)
	show(mux, "/api/me", tokens.SessionJWT)
	show(mux, "/api/me", tokens.SessionToken)
	show(mux, "/api/me", "")
	show(mux, "/api/admin", tokens.SessionJWT)
	// Output:
	// 200 user-test-ada via local
	// 200 user-test-ada via cache
	// 200 user-test-ada via remote
	// 401
	// 403
}

func ExampleNew() {
	_, err := stytchhttp.New(stytchhttp.Config{ProjectID: "project-test-1"})
	fmt.Println(err)
	// Output: stytchhttp: Config.Secret is missing: it is in Stytch's dashboard under API keys
}

func ExampleMiddleware_Hydrate() {
	srv, auth, done := exampleSetup()
	defer done()
	h := auth.Hydrate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens, ok := stytchhttp.TokensFrom(r.Context())
		fmt.Fprint(w, ok, " ", tokens) // they print redacted
	}))
	show(h, "/", srv.Login("user-test-ada").SessionToken)
	// Output: 200 true {SessionToken:[redacted] SessionJWT:}
}

func ExampleMiddleware_AuthenticateOptional() {
	srv, auth, done := exampleSetup()
	defer done()
	home := auth.Hydrate(auth.AuthenticateOptional(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, ok := stytchhttp.SessionFrom(r.Context())
		switch {
		case ok:
			fmt.Fprint(w, "hello ", session.UserID())
		case errors.Is(stytchhttp.ErrFrom(r.Context()), stytchhttp.ErrUnavailable):
			fmt.Fprint(w, "hello, whoever you are")
		default:
			fmt.Fprint(w, "please log in")
		}
	})))
	show(home, "/", srv.Login("user-test-ada").SessionJWT)
	show(home, "/", "")
	// Output:
	// 200 hello user-test-ada
	// 200 please log in
}

func ExampleMiddleware_AuthenticateWithin() {
	srv, auth, done := exampleSetup()
	defer done()
	pay := auth.Hydrate(auth.AuthenticateWithin(0)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "paid, confirmed by ", stytchhttp.ViaFrom(r.Context()))
	})))
	tokens := srv.Login("user-test-ada")
	show(pay, "/pay", tokens.SessionJWT)
	srv.Revoke(srv.SessionID(tokens)) // by another backend: the JWT still verifies
	show(pay, "/pay", tokens.SessionJWT)
	// Output:
	// 200 paid, confirmed by remote
	// 401
}

func ExampleMiddleware_Require() {
	srv, auth, done := exampleSetup()
	defer done()
	// A rule is a function.
	young := func(_ *http.Request, s *stytchhttp.Session) error {
		if time.Since(s.StartedAt()) > time.Hour {
			return &stytchhttp.RuleError{Rule: "young", Detail: "Log in again for this."}
		}
		return nil
	}
	h := auth.Hydrate(auth.Authenticate(auth.Require(stytchhttp.AnyRole("admin", "editor"), young)(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "welcome") }))))
	show(h, "/", srv.Login("user-test-ada", stytchtest.Roles("editor")).SessionJWT)
	show(h, "/", srv.Login("user-test-bob").SessionJWT)
	// Output:
	// 200 welcome
	// 403
}

func ExampleMiddleware_UpdateSession() {
	srv, auth, done := exampleSetup()
	defer done()
	login := auth.Hydrate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens := srv.Login("user-test-ada") // any login call of a Stytch backend SDK
		if err := auth.UpdateSession(w, r, tokens); err != nil {
			stytchhttp.WriteProblem(w, r, err)
			return
		}
		session, _ := stytchhttp.SessionFrom(r.Context())
		fmt.Fprint(w, "hello ", session.UserID())
	}))
	w := httptest.NewRecorder()
	login.ServeHTTP(w, httptest.NewRequest("POST", "http://localhost:3000/login", nil))
	fmt.Println(w.Body)
	for _, c := range w.Result().Cookies() {
		fmt.Println(c.Name)
	}
	// Output:
	// hello user-test-ada
	// stytch_session
	// stytch_session_jwt
}

func ExampleMiddleware_Revoke() {
	srv, auth, done := exampleSetup()
	defer done()
	tokens := srv.Login("user-test-ada")
	logout := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := auth.Revoke(w, r); err != nil {
			// Stytch could not be told. The browser is logged out, and so is the session in this process.
			log.Println("logout:", err)
		}
		fmt.Fprint(w, "bye")
	})
	show(logout, "/logout", tokens.SessionJWT)
	show(auth.Protect()(http.NotFoundHandler()), "/", tokens.SessionJWT)
	// Output:
	// 200 bye
	// 401
}

func ExampleMiddleware_RevokeSession() {
	srv, auth, done := exampleSetup()
	defer done()
	tokens := srv.Login("user-test-ada")
	fmt.Println(auth.RevokeSession(context.Background(), srv.SessionID(tokens)))
	show(auth.Protect()(http.NotFoundHandler()), "/", tokens.SessionJWT)
	// Output:
	// <nil>
	// 401
}

func ExampleMiddleware_Ready() {
	_, auth, done := exampleSetup()
	defer done()
	readyz := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := auth.Ready(r.Context()); err != nil {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "ready")
	})
	show(readyz, "/readyz", "")
	// Output: 200 ready
}

func ExampleClaimsFrom() {
	srv, auth, done := exampleSetup()
	defer done()
	type claims struct {
		Plan string `json:"plan"`
	}
	h := auth.Protect()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := stytchhttp.ClaimsFrom[claims](r.Context())
		fmt.Fprint(w, c.Plan, " ", err)
	}))
	show(h, "/", srv.Login("user-test-ada", stytchtest.Claims(map[string]any{"plan": "gold"})).SessionJWT)
	// Output: 200 gold <nil>
}

func ExampleSourceFunc() {
	// EventSource can set no header: take the token of this one route from the query string.
	query := stytchhttp.SourceFunc(func(r *http.Request) (stytchhttp.Tokens, error) {
		return stytchhttp.Tokens{SessionToken: r.URL.Query().Get("session_token")}, nil
	})
	srv, auth, done := exampleSetup(func(c *stytchhttp.Config) {
		c.Sources = []stytchhttp.Source{stytchhttp.Bearer(), stytchhttp.SessionCookies(), query}
	})
	defer done()
	h := auth.Protect()(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "streaming") }))
	show(h, "/events?session_token="+srv.Login("user-test-ada").SessionToken, "")
	// Output: 200 streaming
}

func ExampleWriteProblem() {
	_, auth, done := exampleSetup(func(c *stytchhttp.Config) {
		c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, stytchhttp.ErrNoSession) {
				http.Redirect(w, r, "/login", http.StatusSeeOther)
				return
			}
			stytchhttp.WriteProblem(w, r, err)
		}
	})
	defer done()
	show(auth.Protect()(http.NotFoundHandler()), "/", "")
	show(auth.Protect()(http.NotFoundHandler()), "/", "not.a.jwt")
	// Output:
	// 303
	// 401
}

func ExampleMiddleware_SessionHandler() {
	srv, auth, done := exampleSetup()
	defer done()
	mux := http.NewServeMux()
	mux.Handle("/session/", auth.SessionHandler("/session"))

	r := httptest.NewRequest("POST", "/session/authenticate", strings.NewReader(`{"session_duration_minutes": 60}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+srv.Login("user-test-ada").SessionToken)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	var answer struct {
		Session struct {
			UserID string `json:"user_id"`
		} `json:"session"`
		ExpiresIn int `json:"expires_in"`
	}
	if err := json.NewDecoder(w.Body).Decode(&answer); err != nil {
		log.Fatal(err)
	}
	fmt.Println(w.Code, answer.Session.UserID, answer.ExpiresIn > 3500)
	// Output: 200 user-test-ada true
}

func ExampleHydrationScript() {
	// A page rendered by the server, whose cookies the browser SDK can't read.
	srv, auth, done := exampleSetup(func(c *stytchhttp.Config) {
		c.Cookies = stytchhttp.CookieConfig{Mode: stytchhttp.CookiesSealed, Keys: []stytchhttp.CookieKey{stytchhttp.GenerateCookieKey()}}
	})
	defer done()
	page := auth.Protect()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nonce := "c3R5dGNo" // of this answer's Content-Security-Policy
		script, err := stytchhttp.HydrationScript(r.Context(), nonce)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprint(w, strings.Split(string(script), "{")[0]) // html/template takes it as {{.}}
	}))
	show(page, "/", srv.Login("user-test-ada").SessionToken)
	// Output: 200 <script nonce="c3R5dGNo">window.stytchHydrate=function(stytch)
}

func ExampleGenerateCookieKey() {
	key := stytchhttp.GenerateCookieKey()
	fmt.Println(key) // it prints redacted
	stored := string(key)
	fmt.Println(len(stored)) // keep this in an environment variable
	// Output:
	// [redacted]
	// 86
}

func ExampleMiddleware_Permission() {
	srv, auth, done := exampleSetup()
	defer done()
	h := auth.Protect(auth.Permission("documents", "write"))(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "written") }))
	show(h, "/", srv.Login("user-test-ada", stytchtest.Roles("admin")).SessionJWT)
	show(h, "/", srv.Login("user-test-bob").SessionJWT)
	// Output:
	// 200 written
	// 403
}

func ExampleNextFrom() {
	fmt.Println(stytchhttp.NextFrom(httptest.NewRequest("GET", "/login?next=/invoices%3Fpage=2", nil)))
	fmt.Println(stytchhttp.NextFrom(httptest.NewRequest("GET", "/login?next=//evil.example", nil)))
	// Output:
	// /invoices?page=2
	// /
}

func ExampleFactorWithin() {
	srv, auth, done := exampleSetup()
	defer done()
	h := auth.Protect(stytchhttp.FactorWithin("totp", 5*time.Minute))(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "paid") }))
	show(h, "/pay", srv.Login("user-test-ada", stytchtest.Factor("totp", "authenticator_app")).SessionJWT)
	show(h, "/pay", srv.Login("user-test-ada").SessionJWT)
	// Output:
	// 200 paid
	// 403
}
