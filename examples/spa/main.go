// Spa is a React page with Stytch's own SDK on a Go backend with stytchhttp. The backend starts the session; the page's SDK
// picks it up. It runs on an embedded Stytch and builds the page with npm when that has not been done:
//
//	go run ./examples/spa -cookies sealed
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

var modes = map[string]stytchhttp.CookieConfig{
	"shared":    {},
	"http-only": {Mode: stytchhttp.CookiesHTTPOnly},
	"sealed":    {Mode: stytchhttp.CookiesSealed, Keys: []stytchhttp.CookieKey{stytchhttp.GenerateCookieKey()}},
}

func main() {
	addr := flag.String("addr", "localhost:3001", "address to listen on")
	mode := flag.String("cookies", "shared", "shared, http-only or sealed")
	web := flag.String("web", "examples/spa/web", "the page's folder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *addr, *mode, *web); err != nil {
		log.Fatal("spa: ", err)
	}
}

func run(ctx context.Context, addr, mode, web string) error {
	cookies, ok := modes[mode]
	if !ok {
		return fmt.Errorf("-cookies %q is none of shared, http-only, sealed", mode)
	}
	if err := build(ctx, web); err != nil {
		return err
	}
	stytch, err := stytchtest.Start()
	if err != nil {
		return err
	}
	defer stytch.Close()
	config := stytch.Config()
	config.Cookies = cookies
	auth, err := stytchhttp.New(config)
	if err != nil {
		return err
	}
	defer auth.Close()

	mux := http.NewServeMux()
	mux.Handle("/session/", auth.SessionHandler("/session"))
	mux.Handle("GET /api/me", auth.Hydrate(auth.Authenticate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := stytchhttp.SessionFrom(r.Context())
		writeJSON(w, map[string]any{"user": session.UserID(), "via": stytchhttp.ViaFrom(r.Context())})
	}))))
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		// Here a real backend calls any login method of a Stytch SDK.
		if err := auth.UpdateSession(w, r, stytch.Login("user-test-ada")); err != nil {
			stytchhttp.WriteProblem(w, r, err)
		}
	})
	mux.HandleFunc("GET /config.json", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"publicToken": stytch.PublicToken, "apiURL": stytch.URL, "mode": mode})
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, filepath.Join(web, "index.html")) })
	mux.HandleFunc("GET /app.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(web, "dist", "app.js"))
	})

	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w (choose another address with -addr)", err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	fmt.Println("Open http://localhost:" + port)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// build installs the packages that package-lock.json names and bundles the page, where that has not been done.
func build(ctx context.Context, web string) error {
	if _, err := os.Stat(filepath.Join(web, "dist", "app.js")); err == nil {
		return nil
	}
	for _, args := range [][]string{{"ci", "--no-audit", "--no-fund"}, {"run", "build"}} {
		npm := exec.CommandContext(ctx, "npm", args...)
		npm.Dir = web
		if out, err := npm.CombinedOutput(); err != nil {
			return fmt.Errorf("npm %v in %s: %w (this example needs Node.js 18 or newer, and the repository's root as its folder)\n%s",
				args, web, err, out)
		}
	}
	return nil
}

func writeJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(body)
}
