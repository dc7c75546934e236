package runtimetest

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycloud/shared/agent/runtime"
)

func testExit(t *testing.T, h Harness) {
	f := SetUp(t, h)
	if got := f.State(); got != runtime.StateNone {
		t.Errorf("before: %s", got)
	}
	if _, err := f.R.Wait(f.Ctx); !errors.Is(err, runtime.ErrNotStarted) {
		t.Errorf("wait before start: %v", err)
	}
	before := time.Now().Add(-time.Second)
	f.Start("echo out; echo err >&2; echo again; exit 7")
	exit := f.Wait()
	if exit.Code != 7 || !exit.ByItself || exit.OOM || exit.Reason != "" {
		t.Errorf("exit: %+v", exit)
	}
	if exit.StartedAt.Before(before) || exit.FinishedAt.Before(exit.StartedAt) || exit.FinishedAt.After(time.Now()) {
		t.Errorf("times: %s to %s", exit.StartedAt, exit.FinishedAt)
	}
	if out, err := f.Printed(runtime.Stdout), f.Printed(runtime.Stderr); out != "out\nagain\n" || err != "err\n" {
		t.Errorf("printed %q and %q", out, err)
	}
	// The end is the end, for whoever asks.
	r := f.Agent()
	f.Must(r.Start(f.Ctx, h.Spec(f.Dir, "echo twice")))
	again, err := r.Wait(f.Ctx)
	f.Must(err)
	s, err := r.Status(f.Ctx)
	f.Must(err)
	if again != exit || s.State != runtime.StateExited || s.Exit == nil || *s.Exit != exit {
		t.Errorf("later: %+v, %+v", again, s)
	}
	if strings.Contains(f.Printed(runtime.Stdout), "twice") {
		t.Error("it ran twice")
	}
}

// What is printed last is in the log when Wait returns.
func testOutputBeforeWait(t *testing.T, h Harness) {
	f := SetUp(t, h)
	f.Start("seq 1 3000; echo last")
	f.Wait()
	if out := f.Printed(runtime.Stdout); !strings.HasSuffix(out, "3000\nlast\n") {
		t.Errorf("%d bytes, at the end %q", len(out), out[max(0, len(out)-20):])
	}
}

func testEnvironment(t *testing.T, h Harness) {
	f := SetUp(t, h)
	f.Start(`env; echo "<$GREETING>"; test -w "$ANYCLOUD_CHECKPOINT_DIR" && echo writable; test -d "${ANYCLOUD_NOTICE_FILE%/*}" && echo run dir`)
	f.Wait()
	out := f.Printed(runtime.Stdout)
	for _, want := range []string{"ANYCLOUD_ATTEMPT=3\n", "ANYCLOUD_JOB_ID=j-", "<a 'b' \"c\"\n$d>\n", "writable\n", "run dir\n", "PATH="} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	if strings.Contains(out, secretEnv) || strings.Contains(out, "GOCACHE") {
		t.Errorf("the agent's environment leaked: %q", out)
	}
}

func testPaths(t *testing.T, h Harness) {
	f := SetUp(t, h)
	f.Must(os.WriteFile(f.Dir+"/input/data", []byte("input\n"), 0o644))
	if !h.OwnPaths {
		f.Start(`echo saved > "$ANYCLOUD_CHECKPOINT_DIR/state"`)
	} else {
		f.Start(`test "$ANYCLOUD_CHECKPOINT_DIR" = /mnt/checkpoint && echo saved > /mnt/checkpoint/state
			cat /mnt/input/data; echo x > /mnt/input/no || echo read-only`)
	}
	if exit := f.Wait(); exit.Code != 0 {
		t.Fatalf("exit: %+v, %q", exit, f.Printed(runtime.Stderr))
	}
	if b, err := os.ReadFile(f.Dir + "/checkpoint/state"); err != nil || string(b) != "saved\n" {
		t.Errorf("saved %q, %v", b, err)
	}
	if out := f.Printed(runtime.Stdout); h.OwnPaths && !strings.HasSuffix(out, "read-only\n") {
		t.Errorf("the input can be written to: %q", out)
	}
}

func testWorkdir(t *testing.T, h Harness) {
	f := SetUp(t, h)
	s := h.Spec(f.Dir, "pwd")
	s.Workdir = "/tmp"
	f.Must(f.R.Start(f.Ctx, s))
	f.Wait()
	if out := f.Printed(runtime.Stdout); out != "/tmp\n" {
		t.Errorf("works in %q", out)
	}
}

func testSecondAgent(t *testing.T, h Harness) {
	f := SetUp(t, h)
	script := `echo begun; read line < "$ANYCLOUD_CHECKPOINT_DIR/go"; exit 5`
	f.Must(exec.Command("mkfifo", f.Dir+"/checkpoint/go").Run())
	f.Start(script)
	f.Must(f.R.Close())
	f.R = f.Agent()
	if got := f.State(); got != runtime.StateRunning {
		t.Errorf("the second agent sees %s", got)
	}
	f.Must(f.R.Start(f.Ctx, h.Spec(f.Dir, script)))
	f.Must(os.WriteFile(f.Dir+"/checkpoint/go", []byte("on\n"), 0))
	if exit := f.Wait(); exit.Code != 5 || !exit.ByItself {
		t.Errorf("exit: %+v", exit)
	}
	if out := f.Printed(runtime.Stdout); out != "begun\n" {
		t.Errorf("printed %q", out)
	}
}

// runAgent runs an agent in another process until it has done its part, and
// returns what kills it.
func (f *Fixture) runAgent(part string) (kill func()) {
	f.Helper()
	self, err := os.Executable()
	f.Must(err)
	cmd := exec.Command(self, part, f.Dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	f.Must(err)
	f.Must(cmd.Start())
	kill = func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	f.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "done\n" {
		f.Fatalf("agent said %q, %v", line, err)
	}
	return kill
}

func testKilledAgent(t *testing.T, h Harness) {
	f := SetUp(t, h)
	kill := f.runAgent("agent-starts")
	f.TicksOn()
	kill()
	f.TicksOn()
	if got := f.State(); got != runtime.StateRunning {
		t.Errorf("the next agent sees %s", got)
	}
	f.Must(f.R.Stop(f.Ctx, 0))
	f.Still()
}

func testStopGrace(t *testing.T, h Harness) {
	f := SetUp(t, h)
	f.Start(`trap 'echo saving; sleep 0.1; exit 3' TERM; echo ready; while :; do sleep 0.01; done`)
	f.Until("it is ready", func() bool { return f.Printed(runtime.Stdout) != "" })
	f.Must(f.R.Stop(f.Ctx, 30*time.Second))
	exit := f.Wait()
	if exit.Code != 3 || exit.ByItself {
		t.Errorf("exit: %+v", exit)
	}
	if out := f.Printed(runtime.Stdout); out != "ready\nsaving\n" {
		t.Errorf("printed %q", out)
	}
	f.Must(f.R.Stop(f.Ctx, time.Hour))
}

func testStopIgnored(t *testing.T, h Harness) {
	f := SetUp(t, h)
	f.Start(`trap '' TERM; echo ready; while :; do sleep 0.01; done`)
	f.Until("it is ready", func() bool { return f.Printed(runtime.Stdout) != "" })
	begun := time.Now()
	f.Must(f.R.Stop(f.Ctx, 300*time.Millisecond))
	if d := time.Since(begun); d < 300*time.Millisecond || d > 20*time.Second {
		t.Errorf("the stop took %s", d)
	}
	if exit := f.Wait(); exit.Code != 137 || exit.ByItself || exit.OOM {
		t.Errorf("exit: %+v", exit)
	}
}

func testStopHurried(t *testing.T, h Harness) {
	f := SetUp(t, h)
	f.Start(`trap 'echo told' TERM; echo ready; while :; do sleep 0.01; done`)
	f.Until("it is ready", func() bool { return f.Printed(runtime.Stdout) != "" })
	stopped := make(chan error)
	go func() { stopped <- f.R.Stop(f.Ctx, time.Hour) }()
	f.Until("it is told", func() bool { return f.Printed(runtime.Stdout) == "ready\ntold\n" })
	f.Must(f.Agent().Kill(f.Ctx))
	f.Must(<-stopped)
	if exit := f.Wait(); exit.Code != 137 || exit.ByItself {
		t.Errorf("exit: %+v", exit)
	}
}

func testStopOfNone(t *testing.T, h Harness) {
	f := SetUp(t, h)
	f.Must(f.R.Stop(f.Ctx, time.Hour))
	f.Must(f.R.Kill(f.Ctx))
	f.Must(f.R.Thaw(f.Ctx))
	f.Must(f.R.Remove(f.Ctx))
}

// What a command leaves behind ends with it.
func testLeftovers(t *testing.T, h Harness) {
	f := SetUp(t, h)
	f.Start(`(setsid sh -c '` + Ticking + `' &); while ! test -s "$ANYCLOUD_CHECKPOINT_DIR/ticks"; do sleep 0.01; done; exit 0`)
	if exit := f.Wait(); exit.Code != 0 || !exit.ByItself {
		t.Errorf("exit: %+v", exit)
	}
	f.Still()
}

// Somebody takes off orphans that end.
func testZombies(t *testing.T, h Harness) {
	if !h.OwnProc {
		return // its processes cannot be told from the machine's here
	}
	f := SetUp(t, h)
	f.Start(`for i in 1 2 3 4 5 6 7 8 9 10; do (sleep 0.01 &); done; sleep 0.3; cat /proc/[0-9]*/stat | grep -c ') Z'; exit 0`)
	f.Wait()
	if out := f.Printed(runtime.Stdout); out != "0\n" {
		t.Errorf("zombies: %q", out)
	}
}

func testRemove(t *testing.T, h Harness) {
	f := SetUp(t, h)
	f.Start(Ticking)
	f.TicksOn()
	f.Must(f.R.Remove(f.Ctx))
	f.Still()
	f.Must(f.R.Remove(f.Ctx))
	if got := f.State(); got != runtime.StateExited {
		t.Errorf("after removal: %s", got)
	}
}

// An exit after the machine began to go down is not the job's own: whatever
// signals the keeper signals the container as well.
func testShutdown(t *testing.T, h Harness) {
	f := SetUp(t, h)
	f.Start(`while ! test -e "$ANYCLOUD_INPUT_DIR/go"; do sleep 0.01; done`)
	p, err := os.FindProcess(f.Keeper())
	f.Must(err)
	f.Must(p.Signal(syscall.SIGTERM))
	f.Until("it is noted", func() bool {
		_, err := os.Stat(f.Dir + "/stop.json")
		return err == nil
	})
	f.Must(os.WriteFile(f.Dir+"/input/go", []byte("on\n"), 0o644))
	if exit := f.Wait(); exit.ByItself {
		t.Errorf("exit: %+v", exit)
	}
}
