package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"anycloud/shared/agent/bucketsync"
	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint"
	"anycloud/shared/checkpoint/wal"
	"anycloud/shared/job"
)

// lastMirrorFor is how long the last mirror is tried where no deadline presses.
const lastMirrorFor = 30 * time.Minute

// fetchInput copies the job's input, until it is there or can never be.
func (a *agent) fetchInput(ctx context.Context) error {
	if a.claim.Spec.Input == "" {
		return nil
	}
	wait := retryDelays()
	a.say("copying the input")
	for refused := 0; ; {
		files, size, err := bucketsync.Fetch(ctx, a.access.input(), a.dir(inputRoot), a.progress(ofInput))
		switch {
		case err == nil:
			a.say("input: %d files, %s", files, humanize.IBytes(uint64(size)))
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, bucketsync.ErrNoRoom):
			return &failure{job.ReasonInputFailed, fmt.Sprintf("%v: give a larger --disk", err), true}
		case errors.Is(err, bucket.ErrNotFound), errors.Is(err, bucket.ErrDenied), errors.Is(err, bucket.ErrBadKey):
			if refused++; refused == inputTries {
				return &failure{job.ReasonInputFailed, fmt.Sprintf("input %s: %v", a.claim.Spec.Input, err), true}
			}
		}
		a.Logger.Warn("input not copied; again", "err", err)
		if !pause(ctx, wait.NextBackOff()) {
			return ctx.Err()
		}
	}
}

// inputTries of an input that is refused or not there.
const inputTries = 3

// openMirror opens the mirror of the job's output, if it has one.
func (a *agent) openMirror() error {
	s := a.claim.Spec
	if s.Output == "" {
		return nil
	}
	o := bucketsync.Options{
		Dir: a.dir(outputRoot), To: a.access.output(), State: a.dir("state/mirror.json"),
		Delete: s.OutputDelete, WriteOnce: s.OutputWriteOnce, Attempt: a.claim.Attempt,
	}
	if s.Spot {
		o.Journal = a.access.checkpoint()
	}
	m, err := bucketsync.Open(o)
	a.mirror = m
	return err
}

// skipMirrored leaves files that are mirrored once for all out of commits.
func (a *agent) skipMirrored() func(root, path string) bool {
	if a.mirror == nil || !a.claim.Spec.OutputWriteOnce {
		return nil
	}
	return func(root, path string) bool { return root == outputRoot && a.mirror.Mirrored(path) }
}

// mirrorLoop mirrors at the pace of saves. A writer that was replaced mirrors
// nothing: its log says so before each round.
func (a *agent) mirrorLoop(ctx context.Context, engine Engine) {
	if a.mirror == nil {
		return
	}
	told := map[string]bool{}
	failing := false
	for pause(ctx, a.interval()) {
		err := a.mirrorOnce(ctx, engine, false, told)
		switch {
		case err == nil:
			failing = false
		case ctx.Err() != nil, errors.Is(err, wal.ErrFenced):
			return
		case !failing:
			failing = true
			a.say("output not mirrored; again: %v", err)
		}
	}
}

func (a *agent) mirrorOnce(ctx context.Context, engine Engine, last bool, told map[string]bool) error {
	if engine != nil {
		if err := engine.TakeOver(ctx); err != nil {
			return err
		}
	}
	r, err := a.mirror.Sync(ctx, last)
	if err == nil && last && len(r.Restless) > 0 {
		err = fmt.Errorf("%d files still change: %q", len(r.Restless), r.Restless[:min(5, len(r.Restless))])
	}
	for _, path := range r.Skipped {
		if !told[path] && len(told) < manySkipped {
			told[path] = true
			a.say("output: %q is not mirrored: it is no regular file, or its name is none that every store takes", path)
		}
	}
	return err
}

// manySkipped are too many to name.
const manySkipped = 20

// lastMirror mirrors what is left after the container ended.
func (a *agent) lastMirror(ctx context.Context, until time.Time) error {
	if a.mirror == nil {
		return nil
	}
	wait := retryDelays()
	told := map[string]bool{}
	for {
		// The caller's commit or take-over was the fence's check.
		err := a.mirrorOnce(ctx, nil, true, told)
		if err == nil {
			a.say("output is mirrored")
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if a.Now().After(until) {
			return err
		}
		a.Logger.Warn("last mirror not done; again", "err", err)
		if !pause(ctx, wait.NextBackOff()) {
			return ctx.Err()
		}
	}
}

// mirrorAtExit is the last mirror of a container that ended by itself. If it
// cannot be done, the job has not succeeded: what it made is in its checkpoint.
func (t *tending) mirrorAtExit(ctx context.Context) error {
	if t.mirror == nil {
		return nil
	}
	if t.engine != nil {
		if err := t.engine.TakeOver(ctx); errors.Is(err, wal.ErrFenced) {
			return err
		}
	}
	err := t.lastMirror(ctx, t.Now().Add(lastMirrorFor))
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	if t.engine != nil {
		if err := t.lastCommit(ctx, checkpoint.SaveRequest{Stopped: true, Sealed: true}, t.deadline(ending{})); err != nil {
			return err
		}
	}
	return &failure{job.ReasonOutputFailed, fmt.Sprintf("output %s: %v", t.claim.Spec.Output, err), true}
}
