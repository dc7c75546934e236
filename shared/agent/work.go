package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"anycloud/shared/agent/runtime"
	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint"
	"anycloud/shared/checkpoint/wal"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

// Directories on the VM's disk, and what they are in the container.
const (
	checkpointRoot = "checkpoint"
	outputRoot     = "output"
	inputRoot      = "input"
)

// work is the attempt's course: stand by, take over, start, tend, end.
func (a *agent) work(ctx context.Context) error {
	if err := makeDirs(a.dir(checkpointRoot), a.dir(outputRoot), a.dir(inputRoot), a.dir("run"), a.dir("container")); err != nil {
		return err
	}
	status, err := a.run.Status(ctx)
	if err != nil {
		return fmt.Errorf("look at the container: %w", err)
	}
	s := a.disk.get()
	r := s.Report
	switch {
	case r.Sealed, r.Failure != nil, r.Exit != nil && r.Exit.Attempt == a.claim.Attempt:
		return a.idle(ctx) // the story is over, and the reports go on telling it
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
		fctx, cancel := context.WithTimeout(ctx, flushFor)
		defer cancel()
		if err := a.ship.flush(fctx); err != nil {
			a.Logger.Warn("last lines not shipped in time", "err", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.fact(func(r *api.Report) {
			r.Failure = &api.Failure{Reason: f.reason, Message: f.message, Permanent: f.permanent}
		})
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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pulled := make(chan error, 1)
	go func() { pulled <- a.pull(ctx) }()
	select {
	case <-a.access.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	fetched := make(chan error, 1)
	go func() { fetched <- a.fetchInput(ctx) }()
	engine, err := a.openEngine()
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
		if from.Exit != nil {
			if err := a.reportFound(ctx, from); err != nil {
				return err
			}
		}
	}
	for _, ready := range []chan error{pulled, fetched} {
		if err := <-ready; err != nil {
			return err
		}
	}
	if err := a.start(ctx, from); err != nil {
		return err
	}
	return a.tend(ctx, engine)
}

// openEngine opens the job's bucket; nil for a job without one.
func (a *agent) openEngine() (Engine, error) {
	if !a.claim.Spec.Spot {
		return nil, nil
	}
	return a.Engine(checkpoint.Options{
		Objects: a.access.checkpoint(), Attempt: a.claim.Attempt,
		Roots: map[string]string{checkpointRoot: a.dir(checkpointRoot), outputRoot: a.dir(outputRoot)},
		Skip:  a.skipMirrored(), StateDir: a.dir("state/checkpoint"), MaxPause: a.maxPause(), Freezer: a.run, BeforeAppend: a.ship.beforeAppend, Now: a.Now, Logger: a.Logger,
	})
}

// defaultMaxPause is the longest freeze for a clean commit, for a record that
// names none.
const defaultMaxPause = 200 * time.Millisecond

func (a *agent) maxPause() time.Duration {
	if p := a.claim.Spec.MaxPause; p != nil {
		return p.D()
	}
	return defaultMaxPause
}

// pull brings the image. A standby keeps trying; only the writer gives up.
func (a *agent) pull(ctx context.Context) error {
	wait := retryDelays()
	if !strings.HasPrefix(a.claim.Spec.Image, "exec:") {
		a.say("getting image %s", a.claim.Spec.Image)
	}
	spec := a.containerSpec()
	var err error
	if spec.RegistryAuth, err = a.registryAuth(); err != nil {
		return err
	}
	tell := a.progress(ofImage)
	for tries := 0; ; tries++ {
		err = a.run.Pull(ctx, spec, func(done, total int64, _ string) { tell(done, total) })
		if err == nil {
			a.fact(func(r *api.Report) { r.Phases.ImageReady = a.Now() })
			return nil
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
	pctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running chan error // of the prefetch; nil: none runs
	fetched := -1          // newest commit that was fetched for
	for {
		orders, _, changed := a.look()
		if orders.Role == api.Writer {
			if running == nil {
				return nil
			}
			// An almost finished prefetch is worth more than its cancellation.
			select {
			case err := <-running:
				return fencedOnly(err)
			case <-time.After(lateStart):
			case <-ctx.Done():
			}
			cancel()
			return fencedOnly(<-running)
		}
		if engine != nil && running == nil && orders.NewestCommit > fetched {
			fetched = orders.NewestCommit
			running = make(chan error, 1)
			go func() { running <- a.prefetch(pctx, engine) }()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case err := <-running:
			if err := fencedOnly(err); err != nil {
				return err
			}
			running = nil
		}
	}
}

// lateStart is how long a new writer waits for a prefetch that runs.
const lateStart = 300 * time.Millisecond

// fencedOnly drops the errors that another try may not meet.
func fencedOnly(err error) error {
	if errors.Is(err, wal.ErrFenced) {
		return err
	}
	return nil
}

func (a *agent) prefetch(ctx context.Context, engine Engine) error {
	got, err := engine.Restore(ctx, a.restoreAsk())
	if err != nil {
		if ctx.Err() == nil {
			a.Logger.Info("not restored ahead; the take-over restores", "err", err)
		}
		return err
	}
	if got.Number > 0 {
		a.say("restored commit %d ahead (%s)", got.Number, humanize.IBytes(uint64(got.Bytes)))
		a.fact(func(r *api.Report) { r.Phases.Prefetched = a.Now() })
	}
	return nil
}

func (a *agent) restoreAsk() checkpoint.RestoreOptions {
	o, _, _ := a.look()
	return checkpoint.RestoreOptions{FreshFrom: o.FreshFrom, Known: o.NewestCommit, AcceptMixed: a.claim.Spec.AcceptMixed, Progress: a.progress(ofRestore)}
}

// takeOver makes the log ours and restores its newest commit. What is refused or
// not answered is tried again, for as long as it takes: never from nothing.
func (a *agent) takeOver(ctx context.Context, engine Engine) (checkpoint.Restored, error) {
	wait := retryDelays()
	refused := 0
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
				if err := a.ship.inherit(got.Attachment); err != nil {
					return checkpoint.Restored{}, err
				}
			}
			a.fact(func(r *api.Report) { r.Phases.Restored = a.Now() })
			return got, nil
		case errors.Is(err, wal.ErrFenced), ctx.Err() != nil:
			return checkpoint.Restored{}, err
		case unrestorable(err):
			if refused++; refused == unrestorableTries {
				return checkpoint.Restored{}, &failure{job.ReasonRestoreFailed, err.Error(), true}
			}
		case isFull(err):
			return checkpoint.Restored{}, &failure{"", "the VM's disk is full: " + err.Error(), false}
		}
		a.Logger.Warn("take-over not done; again", "err", err)
		if !pause(ctx, wait.NextBackOff()) {
			return checkpoint.Restored{}, ctx.Err()
		}
	}
}

// unrestorable says whether an error is a log whose commits cannot be had here,
// now or later.
func unrestorable(err error) bool {
	for _, final := range []error{checkpoint.ErrNoRestorable, checkpoint.ErrNewer, wal.ErrNewer, wal.ErrDamaged, bucket.ErrNoBucket} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// unrestorableTries, some seconds apart, before a job is given up for its log.
const unrestorableTries = 4

// reportFound tells of an exit that the log has and the record has not: the
// attempt before ended its work and could not say so. It returns when the record
// knows it and wants a container all the same (a retry, a resubmit).
func (a *agent) reportFound(ctx context.Context, from checkpoint.Restored) error {
	told := false
	for {
		orders, _, changed := a.look()
		if slices.Contains(orders.ExitsKnown, from.Attempt) && orders.Finish == nil && orders.Role == api.Writer {
			if told {
				a.fact(func(r *api.Report) { r.Exit = nil })
			}
			return nil
		}
		if !told {
			told = true
			a.say("attempt %d had ended with code %d; reporting it", from.Attempt, from.Exit.Code)
			fctx, cancel := context.WithTimeout(ctx, flushFor)
			if err := a.ship.flush(fctx); err != nil {
				a.Logger.Warn("log not shipped in time", "err", err)
			}
			cancel()
			if err := a.lastMirror(ctx, a.Now().Add(lastMirrorFor)); err != nil {
				return err
			}
			a.fact(func(r *api.Report) {
				r.Exit = &api.Exit{Attempt: from.Attempt, Code: from.Exit.Code, OOM: from.Exit.OOM, StoppedAt: from.Exit.StoppedAt}
			})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// start starts the container, once in the attempt's life.
func (a *agent) start(ctx context.Context, from checkpoint.Restored) error {
	orders, notice, _ := a.look()
	if orders.Finish != nil || notice != nil && notice.Kind == preempt.Interruption {
		// It is over before it began: let the next one go on.
		a.say("not starting the container: this VM is about to end")
		a.fact(func(r *api.Report) { r.Sealed = true })
		return a.idle(ctx)
	}
	// Durable before the container can be: whatever happens from here on, this
	// attempt has had its container.
	err := a.disk.put(func(s *state) {
		s.Started, s.Restored = true, restoredState{from.Number, from.CapturedAt}
		s.Report.Checkpoint = nil
		if from.Number > 0 {
			s.Report.Checkpoint = &job.Checkpoint{
				Latest: from.Number, Attempt: from.Attempt, Clean: from.Clean, CommittedAt: from.CapturedAt, Files: from.Files, Bytes: from.Bytes, Health: "ok",
			}
		}
	})
	if err != nil {
		return &failure{"", err.Error(), false}
	}
	spec := a.containerSpec()
	if spec.Env, err = a.environment(); err != nil {
		return err
	}
	wait := retryDelays()
	for tries := 1; ; tries++ {
		err = a.run.Start(ctx, spec)
		switch {
		case err == nil:
			return a.started(ctx)
		case errors.Is(err, runtime.ErrCommandNotFound), errors.Is(err, runtime.ErrNotExecutable):
			return &failure{job.ReasonCommandNotFound, err.Error(), true}
		case ctx.Err() != nil:
			return ctx.Err()
		case tries == startTries:
			return &failure{"", "container not started: " + err.Error(), false}
		}
		a.Logger.Warn("container not started; again", "err", err)
		if !pause(ctx, wait.NextBackOff()) {
			return ctx.Err()
		}
	}
}

// startTries of a container engine that does not do it, before the VM is given up.
const startTries = 4

// started reports the start with the container's own time.
func (a *agent) started(ctx context.Context) error {
	status, err := a.run.Status(ctx)
	if err != nil {
		return fmt.Errorf("look at the container: %w", err)
	}
	s := a.disk.get()
	a.fact(func(r *api.Report) {
		r.Started = &api.ContainerStarted{At: status.StartedAt, Restored: s.Restored.Number, CapturedAt: s.Restored.CapturedAt}
		r.Checkpoint = s.Report.Checkpoint
	})
	return nil
}

// resume takes over the container that an agent before us started.
func (a *agent) resume(ctx context.Context, s state) error {
	engine, err := a.openEngine()
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
		ShmSize: int64(s.ShmSize), GPUs: c.GPUs, CPUs: s.CPUs, Memory: int64(s.Memory), Labels: map[string]string{"anycloud.stack": c.Stack},
		Mounts: []runtime.Mount{
			{Source: a.dir(outputRoot), Target: runtime.OutputDir, Env: map[string]string{"ANYCLOUD_OUTPUT_DIR": ""}},
			{Source: a.dir("run"), Target: runtime.RunDir, Env: map[string]string{"ANYCLOUD_NOTICE_FILE": noticeFile, "ANYCLOUD_SOCKET": socketFile}},
		},
	}
	if a.PretendGPUs {
		spec.GPUs = 0
	}
	if s.Input != "" {
		spec.Mounts = append(spec.Mounts, runtime.Mount{
			Source: a.dir(inputRoot), Target: runtime.InputDir, ReadOnly: true, Env: map[string]string{"ANYCLOUD_INPUT_DIR": ""},
		})
	}
	if s.Spot {
		spec.MaxPause = a.maxPause()
		spec.Mounts = append(spec.Mounts, runtime.Mount{
			Source: a.dir(checkpointRoot), Target: runtime.CheckpointDir, Env: map[string]string{"ANYCLOUD_CHECKPOINT_DIR": ""},
		})
	}
	return spec
}
