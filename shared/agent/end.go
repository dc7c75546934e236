package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"

	"anycloud/shared/agent/runtime"
	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint"
	"anycloud/shared/checkpoint/wal"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

// noticeFile appears in the container's run directory when a notice arrives.
const noticeFile = "notice.json"

// announce tells the container of the notice.
func (t *tending) announce(n *preempt.Notice) {
	t.say("notice: the VM is taken at %s", n.Deadline.Format(time.TimeOnly))
	b, err := json.Marshal(map[string]any{"deadline": n.Deadline, "kind": n.Kind})
	if err == nil {
		err = writeWhole(t.dir("run/"+noticeFile), append(b, '\n'), 0o644)
	}
	if err != nil {
		t.Logger.Warn("notice file not written", "err", err)
	}
}

func (t *tending) estimate() checkpoint.Estimate {
	if t.engine == nil {
		return checkpoint.Estimate{}
	}
	return t.engine.Estimate()
}

func (t *tending) stopAt(n *preempt.Notice) time.Time {
	return stopTime(n.Deadline, t.estimate(), t.claim.Spec.Grace.D())
}

// handOver ends the container as late as is safe, and makes its last commit:
// whoever comes next starts from exactly there.
func (t *tending) handOver(ctx context.Context, n *preempt.Notice) error {
	grace := graceLeft(t.Now(), n.Deadline, t.estimate(), t.claim.Spec.Grace.D())
	t.say("stopping the container for the hand-over (grace %s)", grace.Round(100*time.Millisecond))
	return t.stopAndSeal(ctx, grace, n.Deadline, true)
}

// finish ends the container because the job is to end (cancel, limit).
func (t *tending) finish(ctx context.Context, f api.Finish) error {
	if f.Now {
		if err := t.run.Kill(ctx); err != nil {
			return fmt.Errorf("kill the container: %w", err)
		}
		return t.stopAndSeal(ctx, 0, f.Deadline, false)
	}
	t.say("stopping the container (%s)", f.Why)
	return t.stopAndSeal(ctx, graceLeft(t.Now(), f.Deadline, t.estimate(), t.claim.Spec.Grace.D()), f.Deadline, true)
}

func (t *tending) stopAndSeal(ctx context.Context, grace time.Duration, deadline time.Time, commit bool) error {
	if err := t.run.Stop(ctx, grace); err != nil {
		return fmt.Errorf("stop the container: %w", err)
	}
	x, err := t.run.Wait(ctx)
	if err != nil {
		return fmt.Errorf("wait for the container: %w", err)
	}
	if x.ByItself {
		return t.ended(ctx, x) // it was quicker than our signal
	}
	if err := t.fact(func(r *api.Report) { r.StoppedAt = x.FinishedAt }); err != nil {
		return err
	}
	if commit && t.engine != nil {
		if err := t.lastCommit(ctx, checkpoint.SaveRequest{Stopped: true, Sealed: true}, deadline); err != nil {
			return err
		}
	}
	return t.seal(ctx, func(r *api.Report) { r.Sealed = true })
}

// lastCommit tries until the deadline, or for a while without one. What cannot
// be saved in time is lost, and the newest commit before it stays the truth.
func (t *tending) lastCommit(ctx context.Context, ask checkpoint.SaveRequest, deadline time.Time) error {
	if deadline.IsZero() {
		deadline = t.Now().Add(lastCommitFor)
	}
	dctx, cancel := context.WithTimeout(ctx, max(time.Second, deadline.Sub(t.Now())))
	defer cancel()
	wait := retryDelays()
	for {
		saved, err := t.save(dctx, ask)
		switch {
		case err == nil:
			t.say("last commit: %d", saved.Number)
			return nil
		case errors.Is(err, wal.ErrFenced):
			return err
		case !pause(dctx, wait.NextBackOff()):
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t.say("the last commit could not be made: %v", err)
			return nil
		}
	}
}

// lastCommitFor bounds the tries of a last commit without a deadline: the exit
// must be reported even if the bucket is gone.
const lastCommitFor = 10 * time.Minute

// ended is the container's end without our asking.
func (t *tending) ended(ctx context.Context, x runtime.Exit) error {
	switch {
	case x.Reason == runtime.ReasonCommandNotFound, x.Reason == runtime.ReasonNotExecutable:
		return &failure{job.ReasonCommandNotFound, x.Message, true}
	case !x.ByItself && t.stopping():
		// A former agent asked for it and died: its end goes on.
		return t.stopAndSeal(ctx, 0, time.Time{}, true)
	case !x.ByItself:
		// Nobody saw it end: no exit of the job's. Another VM goes on from the
		// last commit, and what is on this disk is not trusted less for it.
		if t.engine != nil {
			if err := t.lastCommit(ctx, checkpoint.SaveRequest{Stopped: true}, t.Now().Add(time.Minute)); err != nil {
				return err
			}
		}
		return &failure{"", "the container was lost: " + x.Message, false}
	}
	t.say("the container ended with code %d", x.Code)
	if err := t.fact(func(r *api.Report) { r.StoppedAt = x.FinishedAt }); err != nil {
		return err
	}
	if t.engine != nil {
		_, notice, _ := t.look()
		deadline := time.Time{}
		if notice != nil {
			deadline = notice.Deadline
		}
		mark := &checkpoint.Exit{Code: x.Code, OOM: x.OOM, StoppedAt: x.FinishedAt}
		if err := t.lastCommit(ctx, checkpoint.SaveRequest{Stopped: true, Sealed: true, Exit: mark}, deadline); err != nil {
			return err
		}
	}
	return t.seal(ctx, func(r *api.Report) {
		r.Exit = &api.Exit{Attempt: t.claim.Attempt, Code: x.Code, OOM: x.OOM, StoppedAt: x.FinishedAt}
	})
}

// stopping says whether an order or a notice is there that explains a stop.
func (t *tending) stopping() bool {
	orders, notice, _ := t.look()
	return orders.Finish != nil || notice != nil && notice.Kind == preempt.Interruption
}

// seal reports the end after the last line of the log was shipped, and waits for
// the VM's own end.
func (t *tending) seal(ctx context.Context, fact func(*api.Report)) error {
	if err := t.disk.put(func(s *state) { s.Sealed = true }); err != nil {
		return err
	}
	fctx, cancel := context.WithTimeout(ctx, flushFor)
	defer cancel()
	if err := t.ship.flush(fctx); err != nil {
		t.Logger.Warn("last lines not shipped in time", "err", err)
	}
	if err := t.fact(fact); err != nil {
		t.Logger.Error("end not kept on disk", "err", err)
	}
	return t.idle(ctx)
}

// flushFor bounds how long the last lines may hold the report of the end up.
const flushFor = 3 * time.Second

// isFull says whether an error is a disk without room.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, bucket.ErrFull)
}
