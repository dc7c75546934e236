package local_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTour runs every command of the README's tour, in order, as one session of
// a shell.
func TestTour(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok1 := strings.Cut(string(readme), "<!-- tour -->\n```\n")
	tour, _, ok2 := strings.Cut(rest, "```\n<!-- /tour -->")
	if !ok1 || !ok2 {
		t.Fatal("the README has no marked tour")
	}
	b := newBox(t)
	// A tree with binaries of its own: the real one may have others, or none.
	work := t.TempDir()
	for name, target := range map[string]string{"bin": "bin", "docs": filepath.Join(root, "docs")} {
		if name == "bin" {
			target = b.bin
		}
		if err := os.Symlink(target, filepath.Join(work, name)); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(b.bin, "digits"), "anycloud/examples/digits")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	script := "set -eux\nmake() { test \"$*\" = build; }\n" + tour
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "ANYCLOUD_HOME="+b.home, "ANYCLOUD_ENDPOINT=", "ANYCLOUD_TOKEN=", "HOME="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, want := range []string{"succeeded", "preemptions 1", "done: 30 epochs", "restored commit", "max_runtime"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the tour does not show %q:\n%s", want, out)
		}
	}
	for _, pid := range b.serving() {
		syscall.Kill(pid, syscall.SIGTERM) //nolint:errcheck // it is ours, by its home
	}
	b.until(15*time.Second, "the control plane's end", func() bool { return len(b.serving()) == 0 })
	if dirs, _ := filepath.Glob(filepath.Join(b.home, "vms", "i-*")); len(dirs) > 0 {
		t.Errorf("VMs are left: %v", dirs)
	}
}
