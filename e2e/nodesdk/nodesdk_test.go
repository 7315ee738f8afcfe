// Package nodesdk holds stytchtest against Stytch's real Node SDK, unmodified from npm.
package nodesdk

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stytchhttp/stytchhttp"
	"github.com/stytchhttp/stytchhttp/stytchtest"
)

func TestTheNodeSDKTakesStytchtestForStytch(t *testing.T) {
	install(t)
	srv := stytchtest.NewServer(t)
	ada := srv.Login("user-test-ada", stytchtest.Roles("admin"), stytchtest.Claims(map[string]any{"plan": "gold"}))
	gone := srv.Login("user-test-bob")
	srv.Revoke(srv.SessionID(gone))
	tokens, err := json.Marshal(map[string]any{
		"ada":     plain(ada),
		"gone":    plain(gone),
		"over":    plain(srv.Login("user-test-eve", stytchtest.Duration(time.Nanosecond))),
		"foreign": plain(stytchtest.NewServer(t).Login("user-test-mallory")),
	})
	if err != nil {
		t.Fatal(err)
	}
	node := exec.CommandContext(t.Context(), "node", "sdk.mjs")
	node.Env = append(os.Environ(),
		"STYTCH_URL="+srv.URL, "STYTCH_PROJECT_ID="+srv.ProjectID, "STYTCH_SECRET="+srv.Secret, "TOKENS="+string(tokens))
	var problems bytes.Buffer
	node.Stderr = &problems
	out, err := node.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s\n%s", err, out, &problems)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if lines[len(lines)-1] != "done" || len(lines) < 20 {
		t.Fatalf("the checks did not all run:\n%s\n%s", out, &problems)
	}
	for _, line := range lines[:len(lines)-1] {
		name, failed := strings.CutPrefix(line, "not ok ")
		if !failed {
			name = strings.TrimPrefix(line, "ok ")
		}
		short, why, _ := strings.Cut(name, ": ")
		t.Run(short, func(t *testing.T) {
			if failed {
				t.Error(why)
			}
		})
	}
}

// plain returns the tokens for the SDK: they marshal redacted.
func plain(t stytchhttp.Tokens) map[string]string {
	return map[string]string{"session_token": t.SessionToken, "session_jwt": t.SessionJWT}
}

// install fetches the packages that package-lock.json names, if they are not there.
func install(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("node_modules/stytch/package.json"); err == nil {
		return
	}
	npm := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund")
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v (this test needs Node.js 18 or newer, and npm)\n%s", err, out)
	}
}
