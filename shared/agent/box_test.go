package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"anycloud/shared/agent/runtime"
)

// fakeRuntime is a container that outlives the agent.
type fakeRuntime struct {
	mu        sync.Mutex
	starts    int
	removed   bool
	stopNoted bool
	ignore    bool          // SIGTERM
	last      time.Duration // between SIGTERM and exit
	startErr  error
	pullErr   error
	startedAt time.Time
	exit      *runtime.Exit
	ended     chan struct{}
	lines     []runtime.Line
	discarded int64
}

func (r *fakeRuntime) print(texts ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range texts {
		r.lines = append(r.lines, runtime.Line{Time: time.Now(), Stream: runtime.Stdout, Text: []byte(s)})
	}
}

// die ends the container.
func (r *fakeRuntime) die(x runtime.Exit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.exit != nil || r.startedAt.IsZero() {
		return
	}
	x.StartedAt, x.FinishedAt = r.startedAt, time.Now()
	r.exit = &x
	close(r.ended)
}

func (r *fakeRuntime) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// leave is the program's own exit.
func (r *fakeRuntime) leave(code int) {
	r.mu.Lock()
	own := !r.stopNoted
	r.mu.Unlock()
	r.die(runtime.Exit{Code: code, ByItself: own})
}

func (r *fakeRuntime) state() (running bool, exit *runtime.Exit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.startedAt.IsZero() && r.exit == nil, r.exit
}

func (r *fakeRuntime) startCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.starts
}

func (r *fakeRuntime) Pull(context.Context, runtime.Spec, func(int64, int64, string)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pullErr
}

func (r *fakeRuntime) Start(context.Context, runtime.Spec) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.startErr != nil {
		return r.startErr
	}
	if r.startedAt.IsZero() {
		r.startedAt = time.Now()
		r.starts++
	}
	return nil
}

func (r *fakeRuntime) Status(context.Context) (runtime.Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.startedAt.IsZero():
		return runtime.Status{State: runtime.StateNone}, nil
	case r.exit == nil:
		return runtime.Status{State: runtime.StateRunning, StartedAt: r.startedAt}, nil
	}
	return runtime.Status{State: runtime.StateExited, StartedAt: r.startedAt, Exit: r.exit}, nil
}

func (r *fakeRuntime) Wait(ctx context.Context) (runtime.Exit, error) {
	select {
	case <-r.ended:
		return *r.exit, nil
	case <-ctx.Done():
		return runtime.Exit{}, ctx.Err()
	}
}

func (r *fakeRuntime) Stop(ctx context.Context, grace time.Duration) error {
	if running, _ := r.state(); !running {
		return nil
	}
	r.mu.Lock()
	r.stopNoted = true
	ignore, last := r.ignore, r.last
	r.mu.Unlock()
	if !ignore {
		time.AfterFunc(min(last, grace), func() { r.die(runtime.Exit{Code: 143}) })
	}
	time.AfterFunc(grace, func() { r.die(runtime.Exit{Code: 137}) })
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *fakeRuntime) Kill(ctx context.Context) error { return r.Stop(ctx, 0) }

func (r *fakeRuntime) Freeze(context.Context) error { return nil }
func (r *fakeRuntime) Thaw(context.Context) error   { return nil }

func (r *fakeRuntime) ReadLogs(_ context.Context, offset int64, most int) ([]runtime.Line, int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if offset < r.discarded {
		panic("reading what was discarded")
	}
	end := min(int64(len(r.lines)), offset+int64(most))
	return slices.Clone(r.lines[offset:end]), end, nil
}

func (r *fakeRuntime) Discard(_ context.Context, upto int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.discarded = max(r.discarded, upto)
	return nil
}

func (r *fakeRuntime) Remove(ctx context.Context) error {
	r.mu.Lock()
	r.removed = true
	r.mu.Unlock()
	return r.Kill(ctx)
}

func (r *fakeRuntime) Close() error { return nil }
