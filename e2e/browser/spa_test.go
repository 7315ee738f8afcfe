package browser

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// startSPA runs examples/spa as a process and returns its address.
func startSPA(t *testing.T, mode, web string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "spa")
	build := exec.Command("go", "build", "-o", binary, "./examples/spa")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	spa := exec.Command(binary, "-addr", "localhost:0", "-cookies", mode, "-web", web)
	spa.Stderr = os.Stderr
	out, err := spa.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := spa.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = spa.Process.Signal(syscall.SIGINT)
		if err := spa.Wait(); err != nil {
			t.Errorf("spa: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "Open ")
	if err != nil || !ok {
		t.Fatalf("spa says %q, %v", line, err)
	}
	return url
}
