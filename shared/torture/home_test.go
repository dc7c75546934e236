package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycloud/shared/api"
)

// build makes the binaries, once.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, pkg := range map[string]string{"anycloud": "cmd/anycloud", "anycloud-agent": "cmd/anycloud-agent", "digits": "examples/digits"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), "anycloud/"+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	return dir
}

// home is one home directory with its control plane.
type home struct {
	t      *testing.T
	bin    string
	dir    string
	ids    []string // its jobs
	flags  []string // of serve
	server *exec.Cmd
	log    *os.File
}

func newHome(t *testing.T, bin string) *home {
	t.Helper()
	dir, err := os.MkdirTemp("", "anycloud-torture-")
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "serve.log"))
	if err != nil {
		t.Fatal(err)
	}
	h := &home{t: t, bin: bin, dir: dir, log: log}
	t.Cleanup(func() {
		h.killServe()
		for _, p := range h.processes() {
			syscall.Kill(p.pid, syscall.SIGKILL) //nolint:errcheck // it may be gone
		}
		log.Close()
		os.RemoveAll(dir)
	})
	return h
}

// command runs the CLI on this home.
func (h *home) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(h.bin, "anycloud"), args...)
	cmd.Env = append(os.Environ(), "ANYCLOUD_HOME="+h.dir, "ANYCLOUD_ENDPOINT=", "ANYCLOUD_TOKEN=")
	return cmd
}

// serve starts the control plane and waits until it answers.
func (h *home) serve() {
	h.t.Helper()
	from := strings.Count(h.tail(), "anycloud serves")
	h.server = h.command(context.Background(), append([]string{"serve"}, h.flags...)...)
	h.server.Stdout, h.server.Stderr = h.log, h.log
	if err := h.server.Start(); err != nil {
		h.t.Fatal(err)
	}
	// Not by the CLI: it would start a control plane of its own.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if strings.Count(h.tail(), "anycloud serves") > from {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("serve does not answer:\n%s", h.tail())
		}
	}
}

// serveMemory is what the control plane has in memory, in MiB.
func (h *home) serveMemory() float64 {
	h.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.server.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		h.t.Fatal(err)
	}
	return kib / 1024
}

func (h *home) killServe() {
	if h.server != nil {
		h.server.Process.Kill() //nolint:errcheck // Wait tells
		h.server.Wait()         //nolint:errcheck // it was killed
		h.server = nil
	}
}

func (h *home) ensureServe() {
	if h.server == nil {
		h.serve()
	}
}

// run returns the CLI's stdout and exit code.
func (h *home) run(args ...string) (string, int) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := h.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return stdout.String() + stderr.String(), exit.ExitCode()
	case err != nil:
		return err.Error(), -1
	}
	return stdout.String(), 0
}

func (h *home) must(args ...string) string {
	h.t.Helper()
	out, code := h.run(args...)
	if code != 0 {
		h.t.Fatalf("anycloud %s: exit %d: %s\n%s", strings.Join(args, " "), code, out, h.tail())
	}
	return out
}

func (h *home) status(id string) api.Job {
	h.t.Helper()
	var j api.Job
	if err := json.Unmarshal([]byte(h.must("status", id, "--json")), &j); err != nil {
		h.t.Fatal(err)
	}
	return j
}

// sleepWhileRunning waits, and says whether a job is still to be disturbed.
func (h *home) sleepWhileRunning(d time.Duration, ids []string) bool {
	time.Sleep(d)
	h.ensureServe()
	for _, id := range ids {
		if !h.status(id).State.Terminal() {
			return true
		}
	}
	return false
}

// tail is the control plane's log.
func (h *home) tail() string {
	b, _ := os.ReadFile(h.log.Name())
	return string(b)
}
