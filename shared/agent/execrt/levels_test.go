//go:build linux

package execrt_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"anycloud/shared/agent/execrt"
	"anycloud/shared/agent/runtime"
	"anycloud/shared/agent/runtimetest"
	"anycloud/shared/internal/suite"
)

// at is the harness of one isolation; it cannot be asked of agents that get
// killed, which therefore take the best.
func at(level string, signals bool) runtimetest.Harness {
	return runtimetest.Harness{
		New:      func(dir string) (runtime.Runtime, error) { return execrt.NewAt(dir, level, signals), nil },
		OwnPaths: level != "", OwnProc: level == "private",
	}
}

func TestMountsWithoutProcesses(t *testing.T) {
	suite.Need(t, "linux")
	t.Parallel()
	suite.Need(t, "mountns")
	runtimetest.Run(t, at("mounts", false))
}

// Without any right: no namespaces, and SIGSTOP instead of a cgroup.
func TestBare(t *testing.T) {
	suite.Need(t, "linux")
	t.Parallel()
	runtimetest.Run(t, at("", true))
}

func TestPrivateWithSignals(t *testing.T) {
	suite.Need(t, "linux")
	t.Parallel()
	suite.Need(t, "mountns")
	runtimetest.Run(t, at("private", true))
}

// Nobody runs the suite in user namespaces, where they are to be had, and bare.
func TestUnprivileged(t *testing.T) {
	suite.Need(t, "linux")
	t.Parallel()
	suite.Need(t, "root") // to become another
	suite.Need(t, "userns")
	dir, err := os.MkdirTemp("", "unprivileged") // t.TempDir's parents are closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const nobody = 65534
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "execrt.test")
	copyProgram(t, bin)
	cmd := exec.Command(bin, "-test.run=^(TestSuite|TestBare|TestKeeperDies)$", "-test.v", "-test.timeout=2m")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"--- PASS: TestSuite/Paths", "--- PASS: TestBare/Freeze", "--- PASS: TestKeeperDies/best"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

// copyProgram copies by another process: a file that is open for writing here
// might still be, in a child that another test just forked, when it is run.
func copyProgram(t *testing.T, to string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", self, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(to, 0o755); err != nil {
		t.Fatal(err)
	}
}

// A container must not run on without its keeper, however little the system
// helps with that.
func TestKeeperDies(t *testing.T) {
	suite.Need(t, "linux")
	t.Parallel()
	for name, h := range map[string]runtimetest.Harness{"best": harness(), "mounts": at("mounts", false), "bare": at("", true)} {
		t.Run(name, func(t *testing.T) {
			if name == "mounts" {
				suite.Need(t, "mountns")
			}
			t.Parallel()
			f := runtimetest.SetUp(t, h)
			// A child in a session of its own, which nothing ties to the command.
			f.Start("(setsid sh -c '" + runtimetest.Ticking + "' &); " + runtimetest.Ticking)
			f.TicksOn()
			f.KillKeeper()
			exit := f.Wait()
			if exit.Code != 137 || exit.ByItself || exit.Reason != runtime.ReasonKeeperDied || exit.StartedAt.IsZero() {
				t.Errorf("exit: %+v", exit)
			}
			f.Still()
			s := h.Spec(f.Dir, runtimetest.Ticking)
			f.Must(f.R.Start(f.Ctx, s))
			f.Still()
			f.Must(execrt.RemoveByVM(s.VMID))
		})
	}
}

// The death of a keeper that froze leaves nothing frozen behind either.
func TestKeeperDiesFrozen(t *testing.T) {
	suite.Need(t, "linux")
	t.Parallel()
	f := runtimetest.SetUp(t, harness())
	f.Start("sh -c '" + runtimetest.Ticking + "' & " + runtimetest.Ticking)
	f.TicksOn()
	f.Must(f.R.Freeze(f.Ctx))
	f.KillKeeper()
	if exit := f.Wait(); exit.Reason != runtime.ReasonKeeperDied {
		t.Errorf("exit: %+v", exit)
	}
	f.Still()
	if err := f.R.Thaw(f.Ctx); err == nil {
		t.Error("the freeze was not ended by us, and thaw says so not")
	}
}

// A socket's path must be short, a directory's need not.
func TestLongPath(t *testing.T) {
	suite.Need(t, "linux")
	f := runtimetest.SetUp(t, harness())
	s := harness().Spec(f.Dir, "exit 5")
	f.Dir = filepath.Join(f.Dir, strings.Repeat("long", 40))
	f.R = f.Agent()
	f.Must(f.R.Start(f.Ctx, s))
	if exit := f.Wait(); exit.Code != 5 {
		t.Errorf("exit: %+v", exit)
	}
}

// What the machine has at the mounts' parent stays visible, and untouched.
func TestMachineIsUntouched(t *testing.T) {
	suite.Need(t, "linux")
	suite.Need(t, "mountns")
	f := runtimetest.SetUp(t, harness())
	parent := t.TempDir()
	f.Must(os.WriteFile(filepath.Join(parent, "file"), []byte("content\n"), 0o644))
	f.Must(os.Mkdir(filepath.Join(parent, "dir"), 0o755))
	f.Must(os.Symlink("file", filepath.Join(parent, "link")))
	s := harness().Spec(f.Dir, `cd "$0"; cat link; echo more >> file; echo x > dir/new; echo saved > deep/er/state; ls`)
	s.Command = append(s.Command, parent)
	s.Mounts = []runtime.Mount{{Source: filepath.Join(f.Dir, "checkpoint"), Target: filepath.Join(parent, "deep", "er")}}
	f.Must(f.R.Start(f.Ctx, s))
	f.Wait()
	if out := f.Printed(runtime.Stdout); out != "content\ndeep\ndir\nfile\nlink\n" {
		t.Errorf("printed %q, %q", out, f.Printed(runtime.Stderr))
	}
	for path, want := range map[string]string{
		filepath.Join(parent, "file"): "content\nmore\n", filepath.Join(parent, "dir", "new"): "x\n", filepath.Join(f.Dir, "checkpoint", "state"): "saved\n",
	} {
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	if _, err := os.Stat(filepath.Join(parent, "deep")); err == nil {
		t.Error("a mount point was made on the machine")
	}
}
