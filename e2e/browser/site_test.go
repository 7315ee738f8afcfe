// Package browser runs Stytch's real browser SDKs, unmodified from npm, in a real Chromium against backends on stytchhttp.
package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

// chromium is one browser for all tests; each has a profile of its own in it.
var chromium context.Context

// artefacts is where screenshots go, outside the tree.
var artefacts = filepath.Join(os.TempDir(), "stytchhttp-e2e")

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if err := os.MkdirAll(artefacts, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if err := npm("page"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.NoSandbox, // root has none
			chromedp.DisableGPU,
			chromedp.Flag("disable-quic", true),
		)
		if path := os.Getenv("CHROMIUM"); path != "" {
			options = append(options, chromedp.ExecPath(path))
		}
		allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
		defer cancel()
		ctx, cancel := chromedp.NewContext(allocator)
		defer cancel()
		if err := chromedp.Do(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "these tests need Chromium (Debian's package chromium, or its path in CHROMIUM):", err)
			return 1
		}
		chromium = ctx
		return m.Run()
	}())
}

// npm installs the packages that a folder's package-lock.json names, if they are not there, and builds its bundle.
func npm(folder string) error {
	commands := [][]string{{"run", "build"}}
	if _, err := os.Stat(filepath.Join(folder, "node_modules", "esbuild", "package.json")); err != nil {
		commands = append([][]string{{"ci", "--no-audit", "--no-fund"}}, commands...)
	}
	for _, args := range commands {
		cmd := exec.Command("npm", args...)
		cmd.Dir = folder
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("npm %v in %s: %w (this needs Node.js 18 or newer, and npm)\n%s", args, folder, err, out)
		}
	}
	return nil
}

// site is a backend on stytchhttp, whose pages load Stytch's SDK, and the Stytch behind both.
type site struct {
	t      *testing.T
	stytch *stytchtest.Server
	auth   *stytchhttp.Middleware
	url    string        // on localhost, where the SDK writes cookies that are not Secure
	slow   chan struct{} // closed to let /api/slow answer

	entered chan struct{} // told when /api/slow is let in

	mu     sync.Mutex
	tokens []string // all that were ever handed out
	leaks  []string // answers that carried one and could be cached
}

func newSite(t *testing.T, mode stytchhttp.CookieMode) *site {
	t.Helper()
	s := &site{t: t, stytch: stytchtest.NewServer(t), slow: make(chan struct{}), entered: make(chan struct{}, 1)}
	config := s.stytch.Config()
	config.Cookies.Mode = mode
	if mode == stytchhttp.CookiesSealed {
		config.Cookies.Keys = []stytchhttp.CookieKey{stytchhttp.GenerateCookieKey()}
	}
	var err error
	if s.auth, err = stytchhttp.New(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.auth.Close() })

	mux := http.NewServeMux()
	mux.HandleFunc("GET /sdk.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "page/dist/sdk.js") })
	mux.Handle("GET /page", s.auth.Hydrate(s.auth.AuthenticateOptional(http.HandlerFunc(s.page))))
	mux.Handle("GET /hydrated", s.auth.Hydrate(s.auth.AuthenticateOptional(http.HandlerFunc(s.hydratedPage))))
	mux.Handle("/api/me", s.auth.Hydrate(s.auth.Authenticate(http.HandlerFunc(me))))
	mux.Handle("/api/slow", s.auth.Hydrate(s.auth.Authenticate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.entered <- struct{}{}
		<-s.slow
		me(w, r)
	}))))
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		var options []stytchtest.Option
		if r.URL.Query().Has("big") {
			options = append(options, stytchtest.Claims(map[string]any{"padding": strings.Repeat("x", 3900)}))
		}
		tokens := s.login(r.URL.Query().Get("as"), options...)
		if r.URL.Query().Has("token-only") {
			tokens.SessionJWT = ""
		}
		if err := s.auth.UpdateSession(w, r, tokens); err != nil {
			stytchhttp.WriteProblem(w, r, err)
		}
	})
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		if err := s.auth.Revoke(w, r); err != nil {
			stytchhttp.WriteProblem(w, r, err)
		}
	})
	mux.Handle("/session/", s.auth.SessionHandler("/session"))
	server := httptest.NewServer(s.watched(mux))
	t.Cleanup(server.Close)
	s.url = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	t.Cleanup(func() {
		for _, leak := range s.leaks {
			t.Errorf("an answer that carries a token can be cached: %s", leak)
		}
	})
	return s
}

// login begins a session at Stytch, as a backend does by its SDK.
func (s *site) login(user string, options ...stytchtest.Option) stytchhttp.Tokens {
	tokens := s.stytch.Login(user, options...)
	s.mu.Lock()
	s.tokens = append(s.tokens, tokens.SessionToken, tokens.SessionJWT)
	s.mu.Unlock()
	return tokens
}

// watched looks at every answer of the backend: what carries a token must not be cacheable, whatever the browser makes of it.
func (s *site) watched(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		carries := false
		for _, c := range rec.Result().Cookies() {
			carries = carries || c.Value != ""
		}
		s.mu.Lock()
		for _, token := range s.tokens {
			carries = carries || bytes.Contains(rec.Body.Bytes(), []byte(token))
		}
		if carries && rec.Header().Get("Cache-Control") != "private, no-store" {
			s.leaks = append(s.leaks, fmt.Sprintf("%s %s: Cache-Control %q", r.Method, r.URL.Path, rec.Header().Get("Cache-Control")))
		}
		s.mu.Unlock()
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
}

func me(w http.ResponseWriter, r *http.Request) {
	session, _ := stytchhttp.SessionFrom(r.Context())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{"user": session.UserID(), "via": stytchhttp.ViaFrom(r.Context())})
}

const pageHTML = `<!doctype html><meta charset="utf-8"><title>page</title><link rel="icon" href="data:,">%s
<script src="/sdk.js" data-public-token="%s" data-api-url="%s"></script><body>`

func (s *site) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	fmt.Fprintf(w, pageHTML, "", s.stytch.PublicToken, s.stytch.URL)
}

func (s *site) hydratedPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Security-Policy", "script-src 'self' 'nonce-c3R5dGNo'")
	script, err := stytchhttp.HydrationScript(r.Context(), "c3R5dGNo")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, pageHTML, script, s.stytch.PublicToken, s.stytch.URL)
}

// visitor is a browser profile: tabs share its cookies.
type visitor struct {
	t   *testing.T
	ctx context.Context
}

// tab is one page of a visitor.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func newVisitor(t *testing.T) (*visitor, *tab) {
	t.Helper()
	ctx, cancel := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return &visitor{t, ctx}, &tab{t, ctx}
}

// tab opens another tab.
func (v *visitor) tab() *tab {
	v.t.Helper()
	ctx, cancel := chromedp.NewContext(v.ctx)
	v.t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		v.t.Fatal(err)
	}
	return &tab{v.t, ctx}
}

// do runs one action with a time limit.
func do[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

func (b *tab) open(url string) {
	b.t.Helper()
	do(b, chromedp.Navigate(url))
}

// eval runs JavaScript, an expression or the body of an async function that returns, and decodes what comes out into T.
func eval[T any](b *tab, js string) T {
	b.t.Helper()
	if !strings.Contains(js, "return ") {
		js = "return " + js
	}
	out := do(b, chromedp.Evaluate[string]("(async () => { const v = await (async () => { "+js+" })(); return JSON.stringify(v ?? null) })()",
		chromedp.EvalAwaitPromise))
	var value T
	if err := json.Unmarshal([]byte(out), &value); err != nil {
		b.t.Fatalf("%s gives %s: %v", js, out, err)
	}
	return value
}

// waitFor waits until a JavaScript condition holds.
func (b *tab) waitFor(condition string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 15*time.Second)
	defer cancel()
	poll := chromedp.Poll[chromedp.Void](condition, chromedp.WithPollingInterval(20*time.Millisecond))
	if _, err := chromedp.Run(ctx, poll); err != nil {
		b.screenshot("failed")
		b.t.Fatalf("waiting for %s: %v", condition, err)
	}
}

// arrive waits until the tab has navigated to a URL. A script that is under way when a page goes is lost, so it asks anew.
func (b *tab) arrive(url string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 15*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		there, err := chromedp.Run(ctx, chromedp.Evaluate[bool](fmt.Sprintf(`location.href === %q && document.readyState === 'complete'`, url)))
		if err == nil && there {
			return
		}
	}
	b.t.Fatalf("the tab does not arrive at %s", url)
}

func (b *tab) screenshot(name string) {
	b.t.Helper()
	file := filepath.Join(artefacts, strings.ReplaceAll(b.t.Name(), "/", "-")+"-"+name+".png")
	if err := os.WriteFile(file, do(b, chromedp.CaptureScreenshot()), 0o644); err != nil {
		b.t.Error(err)
	}
}

// answer is what fetch in a page got.
type answer struct {
	Status          int
	User, Via, Code string
}

// fetch calls the backend from the page's script.
func (b *tab) fetch(method, path string) answer {
	b.t.Helper()
	return eval[answer](b, fmt.Sprintf(`const r = await fetch(%q, {method: %q}); const text = await r.text();
		return {status: r.status, ...(text.startsWith('{') ? JSON.parse(text) : {})}`, path, method))
}

// want fails the test unless a fetch of /api/me gives this user, or this code of refusal.
func (b *tab) want(userOrCode string) answer {
	b.t.Helper()
	got := b.fetch("GET", "/api/me")
	if got.User+got.Code != userOrCode {
		b.t.Fatalf("the backend says %+v, want %s", got, userOrCode)
	}
	return got
}

// sdkUser is the user that the page's SDK says is logged in.
func (b *tab) sdkUser() string {
	b.t.Helper()
	return eval[string](b, `stytch.session.getSync() && stytch.user.getSync() ? stytch.user.getSync().user_id : ''`)
}
