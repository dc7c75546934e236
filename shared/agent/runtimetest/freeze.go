package runtimetest

import (
	"errors"
	"testing"
	"time"

	"anycloud/shared/agent/runtime"
)

func testFreeze(t *testing.T, h Harness) {
	f := SetUp(t, h)
	// Two levels of processes, and ever new ones.
	f.Start(`sh -c '` + Ticking + `' & ` + Ticking)
	for range 3 {
		f.TicksOn()
		begun := time.Now()
		f.Must(f.R.Freeze(f.Ctx))
		t.Logf("frozen after %s", time.Since(begun))
		f.Still()
		f.Must(f.R.Thaw(f.Ctx))
	}
	f.TicksOn()
	f.Must(f.R.Thaw(f.Ctx))
	if got := f.State(); got != runtime.StateRunning {
		t.Errorf("after the thaw: %s", got)
	}
}

func testFreezeBounded(t *testing.T, h Harness) {
	f := SetUp(t, h)
	s := h.Spec(f.Dir, Ticking)
	s.MaxPause = time.Second // an engine under load needs some of it to freeze
	f.Must(f.R.Start(f.Ctx, s))
	f.TicksOn()
	begun := time.Now()
	f.Must(f.R.Freeze(f.Ctx))
	f.TicksOn()
	if d := time.Since(begun); d < s.MaxPause/2 {
		t.Errorf("it worked again after %s", d)
	}
	if err := f.R.Thaw(f.Ctx); !errors.Is(err, runtime.ErrFreezeEnded) {
		t.Errorf("thaw too late: %v", err)
	}
	// The next one is as good as the first.
	f.Must(f.R.Freeze(f.Ctx))
	f.Must(f.R.Thaw(f.Ctx))
	f.TicksOn()
}

func testFreezeOfDeadAgent(t *testing.T, h Harness) {
	f := SetUp(t, h)
	f.Start(Ticking)
	f.TicksOn()
	kill := f.runAgent("agent-freezes")
	f.Still()
	kill()
	f.TicksOn()
	// What an agent in trouble left is ended by the next, first thing.
	defer f.runAgent("agent-freezes")()
	f.Still()
	f.Must(f.R.Thaw(f.Ctx))
	f.TicksOn()
}

func testFreezeAndStop(t *testing.T, h Harness) {
	f := SetUp(t, h)
	f.Start(`trap 'exit 4' TERM; ` + Ticking)
	f.TicksOn()
	f.Must(f.R.Freeze(f.Ctx))
	f.Must(f.Agent().Stop(f.Ctx, time.Minute))
	if exit := f.Wait(); exit.Code != 4 {
		t.Errorf("exit: %+v", exit)
	}
	if err := f.R.Thaw(f.Ctx); err != nil && !errors.Is(err, runtime.ErrFreezeEnded) {
		t.Errorf("thaw of what has ended: %v", err)
	}
}

func testFreezeRefused(t *testing.T, h Harness) {
	f := SetUp(t, h)
	if err := f.R.Freeze(f.Ctx); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("before the start: %v", err)
	}
	s := h.Spec(f.Dir, Ticking)
	s.MaxPause = 0
	f.Must(f.R.Start(f.Ctx, s))
	f.TicksOn()
	if err := f.R.Freeze(f.Ctx); !errors.Is(err, runtime.ErrNoFreeze) {
		t.Errorf("with freezing off: %v", err)
	}
	f.TicksOn()
	f.Must(f.R.Kill(f.Ctx))
	if err := f.R.Freeze(f.Ctx); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("after the end: %v", err)
	}
}
