package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"anycloud/shared/agent/runtime"
)

// Fixture is one test's container.
type Fixture struct {
	*testing.T
	h   Harness
	Dir string
	Ctx context.Context // ends when the test has lasted too long
	R   runtime.Runtime
}

// SetUp prepares a container that is not started yet, and its end.
func SetUp(t *testing.T, h Harness) *Fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	f := &Fixture{T: t, h: h, Dir: t.TempDir(), Ctx: ctx}
	for _, d := range []string{"checkpoint", "input", "run"} {
		if err := os.Mkdir(filepath.Join(f.Dir, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	f.R = f.Agent()
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(f.Dir, "keeper.log"))
			t.Logf("keeper.log:\n%s", b)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := f.Agent().Remove(ctx); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	return f
}

// Agent is another agent on the same VM.
func (f *Fixture) Agent() runtime.Runtime {
	f.Helper()
	r, err := f.h.New(f.Dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { r.Close() })
	return r
}

// Must ends the test on an error.
func (f *Fixture) Must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// Start starts a script.
func (f *Fixture) Start(script string) {
	f.Helper()
	f.Must(f.R.Start(f.Ctx, f.h.Spec(f.Dir, script)))
}

// Wait waits for the exit.
func (f *Fixture) Wait() runtime.Exit {
	f.Helper()
	exit, err := f.R.Wait(f.Ctx)
	f.Must(err)
	return exit
}

// State is what Status says.
func (f *Fixture) State() runtime.State {
	f.Helper()
	s, err := f.R.Status(f.Ctx)
	f.Must(err)
	return s.State
}

// Logs reads all there is from offset on.
func (f *Fixture) Logs(r runtime.Runtime, offset int64) (lines []runtime.Line, next int64) {
	f.Helper()
	for {
		got, next, err := r.ReadLogs(f.Ctx, offset, 1000)
		f.Must(err)
		if next == offset {
			return lines, next
		}
		lines, offset = append(lines, got...), next
	}
}

// Printed is all output of one stream.
func (f *Fixture) Printed(stream string) string {
	f.Helper()
	var b []byte
	lines, _ := f.Logs(f.R, 0)
	for _, l := range lines {
		if l.Stream == stream {
			b = append(b, l.Text...)
			if !l.Partial {
				b = append(b, '\n')
			}
		}
	}
	return string(b)
}

func (f *Fixture) ticks() int64 {
	i, err := os.Stat(filepath.Join(f.Dir, "checkpoint", "ticks"))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	f.Must(err)
	return i.Size()
}

// Until waits for a condition.
func (f *Fixture) Until(what string, cond func() bool) {
	f.Helper()
	for !cond() {
		if f.Ctx.Err() != nil {
			f.Fatalf("waited too long until %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// TicksOn waits for another sign of life.
func (f *Fixture) TicksOn() {
	f.Helper()
	was := f.ticks()
	f.Until("the container works", func() bool { return f.ticks() > was+2 })
}

// Still watches for long enough to see that nothing happens.
func (f *Fixture) Still() {
	f.Helper()
	was := f.ticks()
	for end := time.Now().Add(60 * time.Millisecond); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if now := f.ticks(); now != was {
			f.Fatalf("it works: %d ticks, then %d", was, now)
		}
	}
}

// Keeper is the pid of the container's keeper.
func (f *Fixture) Keeper() int {
	f.Helper()
	self, err := os.Executable()
	f.Must(err)
	want := []byte(self + "\x00keeper\x00" + f.Dir + "\x00")
	entries, err := os.ReadDir("/proc")
	f.Must(err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if b, err := os.ReadFile("/proc/" + e.Name() + "/cmdline"); err == nil && bytes.Equal(b, want) {
			return pid
		}
	}
	f.Fatal("no keeper runs")
	return 0
}

// KillKeeper kills the keeper, as nobody ever should, and returns when it is dead.
func (f *Fixture) KillKeeper() {
	f.Helper()
	pid := f.Keeper()
	p, err := os.FindProcess(pid)
	f.Must(err)
	f.Must(p.Kill())
	f.Until("the keeper is dead", func() bool {
		_, err := os.Stat("/proc/" + strconv.Itoa(pid))
		return err != nil
	})
}
