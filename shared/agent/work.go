package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dustin/go-humanize"

	"anycloud/shared/agent/runtime"
	"anycloud/shared/api"
	"anycloud/shared/checkpoint"
	"anycloud/shared/checkpoint/wal"
	"anycloud/shared/job"
)

// Directories on the VM's disk, and what they are in the container.
const (
	checkpointRoot = "checkpoint"
	outputRoot     = "output"
)

// work is the attempt's course: stand by, take over, start, tend, end.
func (a *agent) work(ctx context.Context) error {
	if err := makeDirs(a.dir(checkpointRoot), a.dir(outputRoot), a.dir("run"), a.dir("container")); err != nil {
		return err
	}
	status, err := a.run.Status(ctx)
	if err != nil {
		return fmt.Errorf("look at the container: %w", err)
	}
	s := a.disk.get()
	switch {
	case s.Sealed:
		return a.idle(ctx)
	case status.State != runtime.StateNone:
		a.say("agent restarted; taking over the container")
		return a.course(ctx, a.resume(ctx, s))
	}
	return a.course(ctx, a.begin(ctx))
}

// course turns the errors of the way into what the agent does about them.
func (a *agent) course(ctx context.Context, err error) error {
	var f *failure
	switch {
	case errors.Is(err, wal.ErrFenced):
		a.Logger.Warn("fenced: stopping the container")
		return ErrPowerOff
	case errors.As(err, &f):
		a.say("giving up: %s", f.message)
		if perr := a.fact(func(r *api.Report) {
			r.Failure = &api.Failure{Reason: f.reason, Message: f.message, Permanent: f.permanent}
		}); perr != nil {
			a.Logger.Error("failure not kept", "err", perr)
		}
		return a.idle(ctx)
	}
	return err
}

// failure is reported to the control plane; the agent does nothing more.
type failure struct {
	reason    job.Reason
	message   string
	permanent bool
}

func (f *failure) Error() string { return f.message }

// idle waits to be terminated, or told to go.
func (a *agent) idle(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// begin is the way of an attempt that has no container yet.
func (a *agent) begin(ctx context.Context) error {
	pulled := make(chan error, 1)
	go func() { pulled <- a.pull(ctx) }()
	engine, err := a.openEngine(ctx)
	if err != nil {
		return err
	}
	if err := a.standBy(ctx, engine); err != nil {
		return err
	}
	from := checkpoint.Restored{}
	if engine != nil {
		if from, err = a.takeOver(ctx, engine); err != nil {
			return err
		}
	}
	orders, _, _ := a.look()
	if from.Exit != nil && !slices.Contains(orders.ExitsKnown, from.Attempt) {
		return a.reportFound(ctx, from)
	}
	if err := <-pulled; err != nil {
		return err
	}
	if err := a.start(ctx, from); err != nil {
		return err
	}
	return a.tend(ctx, engine)
}

// openEngine opens the job's bucket; nil for a job without one.
func (a *agent) openEngine(ctx context.Context) (Engine, error) {
	if !a.claim.Spec.Spot {
		return nil, a.access.ready(ctx, a)
	}
	if err := a.access.ready(ctx, a); err != nil {
		return nil, err
	}
	pause := time.Duration(0)
	if p := a.claim.Spec.MaxPause; p != nil {
		pause = p.D()
	}
	return a.Engine(checkpoint.Options{
		Objects: a.access.checkpoint(a), Attempt: a.claim.Attempt,
		Roots:    map[string]string{checkpointRoot: a.dir(checkpointRoot), outputRoot: a.dir(outputRoot)},
		StateDir: a.dir("state/checkpoint"), MaxPause: pause, Freezer: a.run, BeforeAppend: a.ship.beforeAppend, Now: a.Now, Logger: a.Logger,
	})
}

// pull brings the image. A standby keeps trying; only the writer gives up.
func (a *agent) pull(ctx context.Context) error {
	wait := retryDelays()
	a.say("getting image %s", a.claim.Spec.Image)
	last := time.Now()
	for tries := 0; ; tries++ {
		err := a.run.Pull(ctx, a.containerSpec(), func(done, total int64, note string) {
			if time.Since(last) > 5*time.Second {
				last = time.Now()
				a.say("image: %s of %s %s", humanize.IBytes(uint64(done)), humanize.IBytes(uint64(total)), note)
			}
		})
		if err == nil {
			return a.fact(func(r *api.Report) { r.Phases.ImageReady = a.Now() })
		}
		var f *failure
		var p *runtime.ErrPull
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, runtime.ErrImageNotFound):
			f = &failure{job.ReasonImageNotFound, err.Error(), true}
		case errors.Is(err, runtime.ErrImageDenied):
			f = &failure{job.ReasonImageDenied, err.Error(), true}
		case errors.As(err, &p) && p.Unreachable && tries >= unreachableTries:
			f = &failure{job.ReasonImageNotFound, fmt.Sprintf("no registry answers for %s: %v", a.claim.Spec.Image, err), true}
		case errors.As(err, &p) && !p.Temporary && !p.Unreachable:
			f = &failure{"", err.Error(), false}
		}
		a.Logger.Warn("image not pulled", "err", err)
		if o, _, _ := a.look(); f != nil && o.Role == api.Writer {
			return f
		}
		if !pause(ctx, wait.NextBackOff()) {
			return ctx.Err()
		}
	}
}

// unreachableTries of a registry that does not answer, some 5 s in all, before
// the image's name is taken to be wrong.
const unreachableTries = 5

// standBy waits to become the writer, and restores ahead meanwhile, so that only
// what changes from here on is left to fetch.
func (a *agent) standBy(ctx context.Context, engine Engine) error {
	ahead := false
	for {
		orders, _, changed := a.look()
		if orders.Role == api.Writer {
			return nil
		}
		if engine != nil && !ahead {
			ahead = true
			pctx, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			go func() {
				defer close(done)
				a.prefetch(pctx, engine)
			}()
			a.awaitWriter(ctx, done)
			// What is half restored goes on with the take-over's restore.
			cancel()
			<-done
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// awaitWriter returns when this attempt is the writer, or done is closed.
func (a *agent) awaitWriter(ctx context.Context, done <-chan struct{}) {
	for {
		orders, _, changed := a.look()
		if orders.Role == api.Writer {
			// An almost finished prefetch is worth more than its cancellation.
			select {
			case <-done:
			case <-time.After(300 * time.Millisecond):
			case <-ctx.Done():
			}
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-done:
			return
		case <-changed:
		}
	}
}

func (a *agent) prefetch(ctx context.Context, engine Engine) {
	got, err := engine.Restore(ctx, a.restoreAsk())
	if err != nil {
		a.Logger.Info("not restored ahead; the take-over restores", "err", err)
		return
	}
	if got.Number > 0 {
		a.say("restored commit %d ahead (%s)", got.Number, humanize.IBytes(uint64(got.Bytes)))
		if err := a.fact(func(r *api.Report) { r.Phases.Prefetched = a.Now() }); err != nil {
			a.Logger.Warn("phase not kept", "err", err)
		}
	}
}

func (a *agent) restoreAsk() checkpoint.RestoreOptions {
	o, _, _ := a.look()
	return checkpoint.RestoreOptions{FreshFrom: o.FreshFrom, Known: o.NewestCommit, AcceptMixed: a.claim.Spec.AcceptMixed}
}

// takeOver makes the log ours and restores its newest commit. What is refused or
// not answered is tried again, for as long as it takes: never from nothing.
func (a *agent) takeOver(ctx context.Context, engine Engine) (checkpoint.Restored, error) {
	wait := retryDelays()
	for {
		err := engine.TakeOver(ctx)
		var got checkpoint.Restored
		if err == nil {
			got, err = engine.Restore(ctx, a.restoreAsk())
		}
		switch {
		case err == nil:
			for _, n := range got.Fallbacks {
				a.say("%s", n)
			}
			if got.Number > 0 {
				a.say("restored commit %d of attempt %d: %d files, %s", got.Number, got.Attempt, got.Files, humanize.IBytes(uint64(got.Bytes)))
				a.ship.inherit(got.Attachment)
			}
			return got, a.fact(func(r *api.Report) { r.Phases.Restored = a.Now() })
		case errors.Is(err, wal.ErrFenced), ctx.Err() != nil:
			return checkpoint.Restored{}, err
		case errors.Is(err, checkpoint.ErrNoRestorable):
			return checkpoint.Restored{}, &failure{job.ReasonRestoreFailed, err.Error(), true}
		case isFull(err):
			return checkpoint.Restored{}, &failure{"", "the VM's disk is full: " + err.Error(), false}
		}
		a.Logger.Warn("take-over not done; again", "err", err)
		if !pause(ctx, wait.NextBackOff()) {
			return checkpoint.Restored{}, ctx.Err()
		}
	}
}

// reportFound tells of an exit that the log has and the record has not: the
// attempt before ended its work and could not say so. Nothing is started.
func (a *agent) reportFound(ctx context.Context, from checkpoint.Restored) error {
	a.say("attempt %d had ended with code %d; reporting it", from.Attempt, from.Exit.Code)
	if err := a.ship.flush(ctx); err != nil {
		a.Logger.Warn("log not shipped", "err", err)
	}
	err := a.fact(func(r *api.Report) {
		r.Exit = &api.Exit{Attempt: from.Attempt, Code: from.Exit.Code, OOM: from.Exit.OOM, StoppedAt: from.Exit.StoppedAt}
	})
	if err != nil {
		return err
	}
	for {
		orders, _, changed := a.look()
		if slices.Contains(orders.ExitsKnown, from.Attempt) && orders.Finish == nil && orders.Role == api.Writer {
			break // it is to be retried, by us
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
	if err := a.fact(func(r *api.Report) { r.Exit = nil }); err != nil {
		return err
	}
	return a.begin(ctx)
}

// start starts the container, once in the attempt's life.
func (a *agent) start(ctx context.Context, from checkpoint.Restored) error {
	orders, _, _ := a.look()
	if orders.Finish != nil {
		return a.idle(ctx) // it is over before it began
	}
	r := restoredState{from.Number, from.CapturedAt}
	if err := a.disk.put(func(s *state) { s.Started, s.Restored = true, r }); err != nil {
		return err
	}
	err := a.run.Start(ctx, a.containerSpec())
	switch {
	case errors.Is(err, runtime.ErrCommandNotFound), errors.Is(err, runtime.ErrNotExecutable):
		return &failure{job.ReasonCommandNotFound, err.Error(), true}
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return &failure{"", "container not started: " + err.Error(), false}
	}
	return a.started(ctx)
}

// started reports the start with the container's own time.
func (a *agent) started(ctx context.Context) error {
	status, err := a.run.Status(ctx)
	if err != nil {
		return fmt.Errorf("look at the container: %w", err)
	}
	from := a.disk.get().Restored
	return a.fact(func(r *api.Report) {
		r.Started = &api.ContainerStarted{At: status.StartedAt, Restored: from.Number, CapturedAt: from.CapturedAt}
	})
}

// resume takes over the container that an agent before us started.
func (a *agent) resume(ctx context.Context, s state) error {
	engine, err := a.openEngine(ctx)
	if err != nil {
		return err
	}
	if s.Report.Started == nil {
		if err := a.started(ctx); err != nil {
			return err
		}
	}
	return a.tend(ctx, engine)
}

// containerSpec is what to run.
func (a *agent) containerSpec() runtime.Spec {
	s, c := a.claim.Spec, a.claim
	spec := runtime.Spec{
		JobID: c.JobID, Attempt: c.Attempt, VMID: a.VMID, Image: s.Image, Command: s.Command, Env: s.Env, Workdir: s.Workdir,
		ShmSize: s.ShmSize, GPUs: c.GPUs, CPUs: s.CPUs, Memory: s.Memory, Labels: map[string]string{"anycloud.stack": c.Stack},
		Mounts: []runtime.Mount{
			{Source: a.dir(outputRoot), Target: runtime.OutputDir, Env: map[string]string{"ANYCLOUD_OUTPUT_DIR": ""}},
			{Source: a.dir("run"), Target: runtime.RunDir, Env: map[string]string{"ANYCLOUD_NOTICE_FILE": noticeFile, "ANYCLOUD_SOCKET": socketFile}},
		},
	}
	if s.MaxPause != nil {
		spec.MaxPause = s.MaxPause.D()
	}
	if s.Spot {
		spec.Mounts = append(spec.Mounts, runtime.Mount{
			Source: a.dir(checkpointRoot), Target: runtime.CheckpointDir, Env: map[string]string{"ANYCLOUD_CHECKPOINT_DIR": ""},
		})
	}
	return spec
}
