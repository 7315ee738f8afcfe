package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
)

// visitor is a browser on the running demo.
type visitor struct {
	t   *testing.T
	url string
	*http.Client
}

func newVisitor(t *testing.T) *visitor {
	t.Helper()
	t.Setenv("STYTCH_PROJECT_ID", "")
	t.Setenv("STYTCH_SECRET", "")
	ctx, stop := context.WithCancel(context.Background())
	address, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", func(url string) { address <- url }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	jar, _ := cookiejar.New(nil)
	v := &visitor{t: t, Client: &http.Client{Jar: jar}}
	select {
	case v.url = <-address:
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(v.CloseIdleConnections)
	return v
}

// get returns the status, and the rung or the problem's code.
func (v *visitor) get(path string) (int, string) {
	v.t.Helper()
	resp, err := v.Client.Get(v.url + path)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body struct{ Via, Code string }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		v.t.Fatal(err)
	}
	if !strings.HasPrefix(resp.Header.Get("Server-Timing"), "auth;dur=") {
		v.t.Errorf("%s: Server-Timing %q", path, resp.Header.Get("Server-Timing"))
	}
	return resp.StatusCode, body.Via + body.Code
}

func (v *visitor) post(path string, fields url.Values) int {
	v.t.Helper()
	resp, err := v.PostForm(v.url+path, fields)
	if err != nil {
		v.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestTheDemoShowsEveryRung(t *testing.T) {
	v := newVisitor(t)
	steps := []struct {
		post   string
		as     string
		get    string
		status int
		want   string
	}{
		{"", "", "/api/me", 401, "no_session"},
		{"/login", "user", "/api/me", 200, "cache"}, // UpdateSession has verified the JWT
		{"", "", "/api/admin", 403, "forbidden"},
		{"/demo/expire", "", "/api/me", 200, "remote"},
		{"", "", "/api/me", 200, "exchanged"},
		{"", "", "/api/now", 200, "remote"},
		{"/demo/renew", "", "/api/me", 200, "local"}, // this JWT was never seen here
		{"/login", "admin", "/api/admin", 200, "cache"},
		{"/demo/rotate", "", "/api/me", 200, "cache"},
		{"/login", "admin", "/api/admin", 200, "cache"},
		{"/demo/down", "", "/api/me", 200, "cache"},
		{"", "", "/api/now", 503, "unavailable"},
		{"/demo/up", "", "/api/me", 200, "cache"},
		{"/demo/revoke", "", "/api/me", 200, "cache"}, // the JWT outlives its session
		{"", "", "/api/now", 401, "invalid_session"},  // unless Stytch is asked
		{"/login", "user", "/api/me", 200, "cache"},
		{"/logout", "", "/api/me", 401, "no_session"},
	}
	for i, s := range steps {
		if s.post != "" {
			if status := v.post(s.post, url.Values{"as": {s.as}}); status != http.StatusNoContent {
				t.Fatalf("step %d: POST %s: %d", i, s.post, status)
			}
		}
		if status, got := v.get(s.get); status != s.status || got != s.want {
			t.Fatalf("step %d: GET %s: %d %s, want %d %s", i, s.get, status, got, s.status, s.want)
		}
	}
}

func TestThePageIsSelfContained(t *testing.T) {
	v := newVisitor(t)
	for path, kind := range map[string]string{"/": "text/html", "/app.js": "text/javascript", "/style.css": "text/css"} {
		resp, err := v.Client.Get(v.url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), kind) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, resp.Header.Get("Content-Type"))
		}
		rest := strings.ReplaceAll(string(body), "http://www.w3.org/2000/svg", "")
		if strings.Contains(rest, "http://") || strings.Contains(rest, "https://") || strings.Contains(rest, "//cdn") {
			t.Errorf("%s names an external resource", path)
		}
	}
}

func TestALoginMustNameSomebody(t *testing.T) {
	v := newVisitor(t)
	if status := v.post("/login", url.Values{"as": {"root"}}); status != http.StatusUnauthorized {
		t.Errorf("got %d", status)
	}
	if status := v.post("/demo/other", nil); status != http.StatusNotFound {
		t.Errorf("an unknown action: %d", status)
	}
}
