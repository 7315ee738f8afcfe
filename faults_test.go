package stytchhttp_test

import (
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

// faulty lets a fault answer instead of the server, for the paths that hold a part.
type faulty struct {
	inProcess
	mu    sync.Mutex
	part  string
	fault func(*http.Request, func() (*http.Response, error)) (*http.Response, error)
}

func (f *faulty) set(part string, fault func(*http.Request, func() (*http.Response, error)) (*http.Response, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.part, f.fault = part, fault
}

func (f *faulty) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	part, fault := f.part, f.fault
	f.mu.Unlock()
	genuine := func() (*http.Response, error) { return f.inProcess.RoundTrip(r) }
	if fault == nil || !strings.Contains(r.URL.Path, part) {
		return genuine()
	}
	return fault(r, genuine)
}

// drip hands out one byte a second, until the request's context ends.
type drip struct {
	r    *http.Request
	rest io.ReadCloser
}

func (d *drip) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		return d.rest.Read(p[:1])
	case <-d.r.Context().Done():
		return 0, d.r.Context().Err()
	}
}

func (d *drip) Close() error { return d.rest.Close() }

type roundTrip = func(*http.Request, func() (*http.Response, error)) (*http.Response, error)

func failing(err error) roundTrip {
	return func(*http.Request, func() (*http.Response, error)) (*http.Response, error) { return nil, err }
}

func answering(status int, kind, body string, header ...string) roundTrip {
	return func(r *http.Request, _ func() (*http.Response, error)) (*http.Response, error) {
		h := http.Header{"Content-Type": {kind}}
		for i := 0; i+1 < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

// changing changes the body of the genuine answer.
func changing(change func(*http.Request, *http.Response)) roundTrip {
	return func(r *http.Request, genuine func() (*http.Response, error)) (*http.Response, error) {
		resp, err := genuine()
		if err == nil {
			change(r, resp)
		}
		return resp, err
	}
}

// faultsOfEverySort is what happens on the way to a server, and there.
var faultsOfEverySort = []struct {
	name  string
	fault roundTrip
}{
	{"refuses connections", failing(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})},
	{"resets connections", failing(&net.OpError{Op: "read", Err: syscall.ECONNRESET})},
	{"no DNS", failing(&net.DNSError{Err: "no such host", Name: "stytch.invalid", IsNotFound: true})},
	{"a TLS error", failing(x509.UnknownAuthorityError{})},
	{"hangs", func(r *http.Request, _ func() (*http.Response, error)) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}},
	{"drips", changing(func(r *http.Request, resp *http.Response) { resp.Body = &drip{r, resp.Body} })},
	{"429", answering(429, "application/json", `{"error_type":"too_many_requests","status_code":429}`)},
	{"429, Retry-After", answering(429, "application/json", `{"error_type":"too_many_requests","status_code":429}`, "Retry-After", "20")},
	{"500", answering(500, "application/json", `{"error_type":"internal_server_error","status_code":500}`)},
	{"502 in HTML", answering(502, "text/html", `<h1>Bad Gateway</h1>`)},
	{"503", answering(503, "application/json", `{"error_type":"service_unavailable","status_code":503}`)},
	{"200 in HTML", answering(200, "text/html", `<h1>Welcome</h1>`)},
	{"401 in HTML", answering(401, "text/html", `<h1>Proxy login</h1>`)},
	{"404 in HTML", answering(404, "text/html", `<h1>Not found</h1>`)},
	{"302", answering(302, "text/html", ``, "Location", "https://evil.example/")},
	{"empty", answering(200, "application/json", ``)},
	{"truncated", changing(func(_ *http.Request, resp *http.Response) { resp.Body = io.NopCloser(io.LimitReader(resp.Body, 60)) })},
	{"huge", answering(200, "application/json", `{"x":"`+strings.Repeat("x", 2<<20)+`"}`)},
	{"another schema", answering(200, "application/json", `{"keys":{},"session":[]}`)},
	{"JSON null", answering(200, "application/json", `null`)},
}

// The fault matrix: what each credential gets while each side fails in each way. Run with -v to see it printed.
func TestFaultMatrix(t *testing.T) {
	const (
		valid = iota
		expired
		opaque
		dead
	)
	situations := []struct {
		name    string
		part    string // of the path that fails
		atStart bool
		grace   time.Duration
		want    [4]string
	}{
		{"API", "/v1/sessions/authenticate", false, 0, [4]string{"200 local", "503", "503", "503"}},
		{"API, StaleGrace", "/v1/sessions/authenticate", false, time.Hour, [4]string{"200 local", "200 stale", "503", "503"}},
		{"API at start", "/v1/sessions/authenticate", true, 0, [4]string{"200 local", "503", "503", "503"}},
		{"JWKS", "/v1/sessions/jwks", false, 0, [4]string{"200 local", "200 remote", "200 remote", "401"}},
		{"JWKS at start", "/v1/sessions/jwks", true, 0, [4]string{"503", "503", "200 remote", "401"}},
		{"both", "/v1/", false, 0, [4]string{"200 local", "503", "503", "503"}},
		{"both, StaleGrace", "/v1/", false, time.Hour, [4]string{"200 local", "200 stale", "503", "503"}},
		{"both at start", "/v1/", true, time.Hour, [4]string{"503", "503", "503", "503"}},
	}
	recovered := [4]string{"200 local", "200 remote", "200 remote", "401"}
	header := fmt.Sprintf("%-18s %-22s %-10s %-10s %-10s %-8s afterwards", "fails", "how", "valid JWT", "expired", "token", "dead")
	table := []string{header}
	for _, s := range situations {
		for _, f := range faultsOfEverySort {
			name := s.name + ": " + f.name
			synctest.Test(t, func(t *testing.T) {
				srv := stytchtest.New()
				defer srv.Close()
				srv.URL = "https://stytch.invalid"
				way := &faulty{inProcess: inProcess{srv}}
				login := func() [4]func(*http.Request) {
					old := srv.Login("user-test-ada", stytchtest.Duration(48*time.Hour))
					gone := srv.Login("user-test-ada")
					srv.Revoke(srv.SessionID(gone))
					srv.Advance(6 * time.Minute)
					return [4]func(*http.Request){
						valid:   bearer(srv.Login("user-test-ada").SessionJWT),
						expired: bearer(old.SessionJWT),
						opaque:  bearer(srv.Login("user-test-ada").SessionToken),
						dead:    bearer(gone.SessionToken),
					}
				}
				credentials := login()
				if s.atStart {
					way.set(s.part, f.fault)
				}
				config := srv.Config()
				config.StaleGrace = s.grace
				config.HTTPClient = &http.Client{Transport: way}
				auth, err := stytchhttp.New(config)
				if err != nil {
					t.Fatal(err)
				}
				defer auth.Close()
				h := auth.Authenticate(whoami)
				if !s.atStart {
					if err := auth.Ready(t.Context()); err != nil {
						t.Fatal(err)
					}
					way.set(s.part, f.fault)
				}
				ask := func(carry func(*http.Request)) string {
					a := send(t, h, get(carry))
					if a.StatusCode == 503 && a.Header.Get("Retry-After") == "" {
						t.Errorf("%s: a 503 without Retry-After", name)
					}
					if len(a.Cookies()) > 0 {
						t.Errorf("%s: cookies are written", name)
					}
					return strings.TrimSpace(fmt.Sprint(a.StatusCode, " ", a.Via))
				}
				var got [4]string
				for i, carry := range credentials {
					began := time.Now()
					got[i] = ask(carry)
					if d := time.Since(began); d > 7*time.Second {
						t.Errorf("%s: a request waits %v", name, d)
					}
				}
				way.set("", nil)
				time.Sleep(31 * time.Second)
				var after [4]string
				for i, carry := range login() {
					after[i] = ask(carry)
				}
				table = append(table, fmt.Sprintf("%-18s %-22s %-10s %-10s %-10s %-8s %s", s.name, f.name, got[0], got[1], got[2], got[3], strings.Join(after[:], ", ")))
				if got != s.want {
					t.Errorf("%s: got %q, want %q", name, got, s.want)
				}
				if after != recovered {
					t.Errorf("%s: afterwards %q, want %q", name, after, recovered)
				}
			})
		}
	}
	t.Logf("%d cases\n%s", len(table)-1, strings.Join(slices.Clip(table), "\n"))
}
