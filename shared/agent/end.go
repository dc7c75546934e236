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

const (
	// noticeFile appears in the container's run directory when a notice arrives.
	noticeFile = "notice.json"
	// stopLook is how often a stopping container is looked at: its last writes
	// may bring the SIGKILL forward.
	stopLook = 200 * time.Millisecond
	// lastCommitFor bounds the tries of a last commit without a deadline: the end
	// must be reported even if the bucket does not answer.
	lastCommitFor = 10 * time.Minute
	// goneFor bounds them if the bucket answers that it is not there.
	goneFor = 20 * time.Second
	// lostFor bounds the save of what a lost container left.
	lostFor = time.Minute
	// flushFor bounds how long the last lines may hold the report of the end up.
	flushFor = 3 * time.Second
)

// announce tells the container of the notice.
func (t *tending) announce(n *preempt.Notice) {
	if n.Deadline.IsZero() {
		t.say("notice: the cloud takes the VM")
	} else {
		t.say("notice: the cloud takes the VM in %s", max(0, n.Deadline.Sub(t.Now())).Round(100*time.Millisecond))
	}
	b, err := json.Marshal(struct {
		Deadline time.Time    `json:"deadline,omitzero"`
		Kind     preempt.Kind `json:"kind"`
	}{n.Deadline, n.Kind})
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

func (t *tending) grace() time.Duration { return t.claim.Spec.GraceTime() }

func (t *tending) stopAt(n *preempt.Notice) time.Time {
	return stopTime(n.Deadline, t.estimate(), t.grace())
}

// end stops the container in order, makes its last commit, and reports it.
func (t *tending) end(ctx context.Context, e ending) error {
	if err := t.disk.put(func(s *state) { s.Ending = &e }); err != nil {
		t.Logger.Error("stop not noted on disk", "err", err)
	}
	if err := t.dropSave(); err != nil {
		return err
	}
	if err := t.stop(ctx, e); err != nil {
		return err
	}
	x, err := t.run.Wait(ctx)
	if err != nil {
		return fmt.Errorf("wait for the container: %w", err)
	}
	if x.ByItself {
		return t.ended(ctx, x) // it was quicker than our signal
	}
	t.fact(func(r *api.Report) { r.StoppedAt = x.FinishedAt })
	if !e.Now && t.engine != nil {
		if err := t.lastCommit(ctx, checkpoint.SaveRequest{Stopped: true, Sealed: true}, t.deadline(e)); err != nil {
			return err
		}
	}
	if orders, notice, _ := t.look(); !e.Now && orders.Finish != nil && (notice == nil || notice.Kind != preempt.Interruption) {
		// Nobody comes after us to mirror it. It is no reason to stay for ever.
		if err := t.lastMirror(ctx, t.deadline(e)); ctx.Err() == nil && err != nil {
			t.say("the output is not whole: %v", err)
		}
	}
	return t.seal(ctx, t.deadline(e), func(r *api.Report) { r.Sealed = true })
}

// deadline is the earlier of the end's own and a notice's that came since.
func (t *tending) deadline(e ending) time.Time {
	d := e.Deadline
	if _, n, _ := t.look(); n != nil && n.Kind == preempt.Interruption && !n.Deadline.IsZero() && (d.IsZero() || n.Deadline.Before(d)) {
		d = n.Deadline
	}
	return d
}

// stop sends SIGTERM and waits for the exit; SIGKILL follows after the grace,
// or as soon as only the last commit's time is left.
func (t *tending) stop(ctx context.Context, e ending) error {
	grace := time.Duration(0)
	if !e.Now {
		grace = graceLeft(t.Now(), t.deadline(e), t.estimate(), t.grace())
		t.say("stopping the container (%s), grace %s", e.Why, grace.Round(100*time.Millisecond))
	}
	stopped := make(chan error, 1)
	go func() { stopped <- t.run.Stop(ctx, grace) }()
	tick := time.NewTicker(stopLook)
	defer tick.Stop()
	killed := e.Now
	for {
		select {
		case err := <-stopped:
			if err != nil {
				return fmt.Errorf("stop the container: %w", err)
			}
			return nil
		case ask := <-t.saves:
			ask.reply <- saveReply{err: errEnding}
		case <-tick.C:
			orders, _, _ := t.look()
			now := orders.Finish != nil && orders.Finish.Now
			if killed || !now && graceLeft(t.Now(), t.deadline(e), t.estimate(), time.Hour) > 0 {
				continue
			}
			killed = true
			t.say("killing the container: no time is left")
			if err := t.run.Kill(ctx); err != nil && ctx.Err() == nil {
				t.Logger.Warn("container not killed", "err", err)
				killed = false
			}
		}
	}
}

// lastCommit tries until the deadline, or for a while without one. What cannot
// be saved in time is lost, and the newest commit before it stays the truth.
func (t *tending) lastCommit(ctx context.Context, ask checkpoint.SaveRequest, deadline time.Time) error {
	ask.Progress = t.progress(ofSave)
	began := t.Now()
	until := deadline
	if until.IsZero() {
		until = began.Add(lastCommitFor)
	}
	// With the deadline past, the VM lives on borrowed time: one short try.
	dctx, cancel := context.WithTimeout(ctx, max(time.Second, until.Sub(began)))
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
		case errors.Is(err, bucket.ErrNoBucket) && t.Now().Sub(began) > goneFor, !pause(dctx, wait.NextBackOff()):
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t.say("the last commit could not be made: %v", err)
			return nil
		}
	}
}

// ended is the container's end that we had not asked for.
func (t *tending) ended(ctx context.Context, x runtime.Exit) error {
	if err := t.dropSave(); err != nil {
		return err
	}
	switch {
	case x.Reason == runtime.ReasonCommandNotFound, x.Reason == runtime.ReasonNotExecutable:
		return &failure{job.ReasonCommandNotFound, x.Message, true}
	case !x.ByItself:
		// Nobody saw it end: no exit of the job's. Another VM goes on, from what
		// is on this disk if it can still be saved.
		t.fact(func(r *api.Report) { r.StoppedAt = x.FinishedAt })
		if t.engine != nil {
			if err := t.lastCommit(ctx, checkpoint.SaveRequest{Stopped: true}, t.deadline(ending{Deadline: t.Now().Add(lostFor)})); err != nil {
				return err
			}
		}
		return &failure{"", "the container was lost: " + x.Message, false}
	}
	t.say("the container ended with code %d", x.Code)
	t.fact(func(r *api.Report) { r.StoppedAt = x.FinishedAt })
	deadline := t.deadline(ending{})
	// Under a notice the commit goes first: who restores it mirrors the rest.
	warned := !deadline.IsZero()
	if !warned {
		if err := t.mirrorAtExit(ctx); err != nil {
			return err
		}
	}
	if t.engine != nil {
		mark := &checkpoint.Exit{Code: x.Code, OOM: x.OOM, StoppedAt: x.FinishedAt}
		if err := t.lastCommit(ctx, checkpoint.SaveRequest{Stopped: true, Sealed: true, Exit: mark}, deadline); err != nil {
			return err
		}
	}
	if warned {
		if err := t.mirrorAtExit(ctx); err != nil {
			return err
		}
	}
	return t.seal(ctx, deadline, func(r *api.Report) {
		r.Exit = &api.Exit{Attempt: t.claim.Attempt, Code: x.Code, OOM: x.OOM, StoppedAt: x.FinishedAt}
	})
}

// seal reports the end after the last line of the log was shipped, and waits for
// the VM's own end.
func (t *tending) seal(ctx context.Context, deadline time.Time, fact func(*api.Report)) error {
	within := flushFor
	if !deadline.IsZero() {
		within = max(200*time.Millisecond, min(within, deadline.Sub(t.Now())/2))
	}
	fctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := t.ship.flush(fctx); err != nil {
		t.Logger.Warn("last lines not shipped in time", "err", err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	t.fact(fact)
	return t.idle(ctx)
}

// isFull says whether an error is a disk without room.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, bucket.ErrFull)
}
