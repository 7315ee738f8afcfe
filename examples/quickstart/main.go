// Quickstart is a small site on stytchhttp whose page shows, request by request, which rung of the ladder answered and how
// long it took. It runs on an embedded Stytch, or on the real one when STYTCH_PROJECT_ID and STYTCH_SECRET are set.
//
//	go run ./examples/quickstart
package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

//go:embed page
var page embed.FS

func main() {
	addr := flag.String("addr", "127.0.0.1:3000", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *addr, func(url string) { fmt.Println("Open", url) }); err != nil {
		log.Fatal("quickstart: ", err)
	}
}

// run serves until ctx ends. listening is told the address.
func run(ctx context.Context, addr string, listening func(url string)) error {
	s, err := newSite(os.Getenv("STYTCH_PROJECT_ID"), os.Getenv("STYTCH_SECRET"))
	if err != nil {
		return err
	}
	defer s.close()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w (choose another address with -addr)", err)
	}
	server := &http.Server{Handler: s.routes(), ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	listening("http://" + listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// site is the demo: the middleware, and where its users come from.
type site struct {
	auth   *stytchhttp.Middleware
	login  func(r *http.Request) (stytchhttp.Tokens, error)
	stytch *stytchtest.Server // nil on the real Stytch
	down   atomic.Bool
}

func newSite(projectID, secret string) (*site, error) {
	s := &site{}
	config := stytchhttp.Config{ProjectID: projectID, Secret: secret}
	if projectID == "" && secret == "" {
		var err error
		if s.stytch, err = stytchtest.Start(); err != nil {
			return nil, err
		}
		config = s.stytch.Config()
		s.login = s.loginEmbedded
	} else {
		s.login = passwordLogin(projectID, secret)
	}
	config.Logger = slog.Default()
	config.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
		setTiming(w, r)
		stytchhttp.WriteProblem(w, r, err)
	}
	var err error
	if s.auth, err = stytchhttp.New(config); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *site) close() {
	if s.auth != nil {
		s.auth.Close()
	}
	if s.stytch != nil {
		s.stytch.Close()
	}
}

func (s *site) routes() http.Handler {
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // the folder is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.Handle("POST /login", http.HandlerFunc(s.handleLogin))
	mux.Handle("POST /logout", http.HandlerFunc(s.handleLogout))
	mux.Handle("GET /api/me", s.auth.Hydrate(s.auth.Authenticate(http.HandlerFunc(me))))
	mux.Handle("GET /api/admin", s.auth.Protect(stytchhttp.Role("admin"))(http.HandlerFunc(me)))
	mux.Handle("GET /api/now", s.auth.Hydrate(s.auth.AuthenticateWithin(0)(http.HandlerFunc(me))))
	mux.Handle("GET /demo/state", http.HandlerFunc(s.handleState))
	if s.stytch != nil {
		mux.Handle("POST /demo/{action}", http.NewCrossOriginProtection().Handler(http.HandlerFunc(s.handleDemo)))
	}
	return timed(mux)
}

// me tells who the caller is and how that was found out.
func me(w http.ResponseWriter, r *http.Request) {
	setTiming(w, r)
	session, _ := stytchhttp.SessionFrom(r.Context())
	writeJSON(w, map[string]any{
		"user":       session.UserID(),
		"session":    session.ID(),
		"roles":      session.Roles(),
		"expires_at": session.ExpiresAt(),
		"via":        stytchhttp.ViaFrom(r.Context()),
	})
}

func (s *site) handleLogin(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	tokens, err := s.login(r)
	if err != nil {
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	if err := s.auth.UpdateSession(w, r, tokens); err != nil {
		stytchhttp.WriteProblem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *site) handleLogout(w http.ResponseWriter, r *http.Request) {
	err := s.auth.Revoke(w, r)
	if errors.Is(err, stytchhttp.ErrCrossOrigin) {
		stytchhttp.WriteProblem(w, r, err)
		return
	}
	if err != nil { // Stytch could not be told, but the browser is logged out, and the session here.
		slog.Warn("logout", "error", err)
	}
	w.WriteHeader(http.StatusNoContent)
}

// loginEmbedded logs in whoever asks, as the person that the form names.
func (s *site) loginEmbedded(r *http.Request) (stytchhttp.Tokens, error) {
	day := stytchtest.Duration(24 * time.Hour)
	switch r.FormValue("as") {
	case "user":
		return s.stytch.Login("user-test-ada", day), nil
	case "admin":
		return s.stytch.Login("user-test-grace", day, stytchtest.Roles("admin")), nil
	}
	return stytchhttp.Tokens{}, errors.New("log in as user or as admin")
}

// handleState tells the page what the embedded Stytch has seen.
func (s *site) handleState(w http.ResponseWriter, _ *http.Request) {
	state := map[string]any{"embedded": s.stytch != nil, "down": s.down.Load()}
	if s.stytch != nil {
		calls := s.stytch.Calls()
		state["calls"] = map[string]int{"authenticate": calls.Authenticate, "revoke": calls.Revoke, "jwks": calls.JWKS}
	}
	writeJSON(w, state)
}

// handleDemo does to the embedded Stytch what happens to the real one.
func (s *site) handleDemo(w http.ResponseWriter, r *http.Request) {
	var token string
	if c, err := r.Cookie("stytch_session"); err == nil {
		token = c.Value
	}
	switch r.PathValue("action") {
	case "renew":
		s.stytch.Advance(3 * time.Minute)
		fresh := s.stytch.Renew(stytchhttp.Tokens{SessionToken: token})
		if fresh == (stytchhttp.Tokens{}) {
			http.Error(w, "log in first", http.StatusConflict)
			return
		}
		// What the browser SDK does by itself.
		http.SetCookie(w, &http.Cookie{Name: "stytch_session_jwt", Value: fresh.SessionJWT, Path: "/", SameSite: http.SameSiteLaxMode})
	case "expire":
		s.stytch.Advance(stytchtest.JWTLifetime + time.Second)
	case "rotate":
		s.stytch.RotateKeys()
		s.stytch.Advance(time.Minute) // so that another rotation's key may be fetched at once
	case "revoke":
		s.stytch.Revoke(s.stytch.SessionID(stytchhttp.Tokens{SessionToken: token}))
	case "down":
		s.stytch.Heal()
		s.stytch.Break(stytchtest.Outage())
		s.down.Store(true)
	case "up":
		s.stytch.Heal()
		s.down.Store(false)
	default:
		http.NotFound(w, r)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

type startKey struct{}

// timed notes when a request came, for setTiming.
func timed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), startKey{}, time.Now())))
	})
}

// setTiming tells the browser how long the wrappers took, in milliseconds (Server-Timing, a W3C specification).
func setTiming(w http.ResponseWriter, r *http.Request) {
	if start, ok := r.Context().Value(startKey{}).(time.Time); ok {
		w.Header().Set("Server-Timing", fmt.Sprintf("auth;dur=%.4f", float64(time.Since(start).Nanoseconds())/1e6))
	}
}

func writeJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(body); err != nil {
		slog.Error("writing an answer", "error", err)
	}
}
