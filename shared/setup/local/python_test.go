package local_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"anycloud/shared/internal/suite"
)

// TestPython runs the Python package's own tests, on the package as pip installs
// it, against these same binaries' sources.
func TestPython(t *testing.T) {
	for _, need := range []string{"python", "docker", "busybox", "registry"} {
		suite.Need(t, need)
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	// Building leaves files beside the sources, which are not ours to litter.
	source, installed := filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "installed")
	if err := os.CopyFS(source, os.DirFS(filepath.Join(root, "clients/python"))); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(filepath.Join(root, ".cache/venv/bin", name), args...)
		cmd.Dir = filepath.Join(root, "clients/python")
		cmd.Env = append(os.Environ(), "PYTHONPATH="+installed, "PYTHONDONTWRITEBYTECODE=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		} else {
			t.Logf("%s", out)
		}
	}
	run("pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", installed, source)
	if _, err := os.Stat(filepath.Join(installed, "anycloud", "py.typed")); err != nil {
		t.Error("the installed package does not say that it is typed")
	}
	run("mypy", "--strict", "--cache-dir", t.TempDir(), "src", "tests")
	// They wait more than they compute.
	run("pytest", "-q", "-n", "4", "-p", "no:cacheprovider", "tests")
}
