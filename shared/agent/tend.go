package agent

import (
	"context"
	"errors"
	"time"

	"anycloud/shared/agent/runtime"
	"anycloud/shared/api"
	"anycloud/shared/checkpoint"
	"anycloud/shared/checkpoint/wal"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

// saveAsk is a commit asked for through the socket.
type saveAsk struct{ reply chan saveReply }

type saveReply struct {
	saved checkpoint.Result
	err   error
}

// pruneEvery commits, old packs are let go of.
const pruneEvery = 10

// tend keeps the container's work safe until its end: saves on schedule and on
// request, and ends it when a notice, an order or its own exit says so.
func (a *agent) tend(ctx context.Context, engine Engine) error {
	exit := make(chan runtime.Exit, 1)
	go func() {
		for ctx.Err() == nil {
			x, err := a.run.Wait(ctx)
			if err == nil {
				exit <- x
				return
			}
			a.Logger.Warn("wait for the container", "err", err)
			if !pause(ctx, time.Second) {
				return
			}
		}
	}()
	t := &tending{agent: a, engine: engine, exit: exit, next: a.Now().Add(a.interval())}
	for {
		done, err := t.round(ctx)
		if done || err != nil {
			return err
		}
	}
}

func (a *agent) interval() time.Duration { return a.claim.Spec.CheckpointInterval.D() }

// tending is the state of a running container's care.
type tending struct {
	*agent
	engine    Engine // nil: a job without a bucket
	exit      <-chan runtime.Exit
	next      time.Time // next save of the schedule
	savedFor  time.Time // the rebalance that was saved for
	commits   int
	noticed   bool // the notice file is written
	requested int64
}

// round does the one thing that is due; done means that the container's story is
// over and reported.
func (t *tending) round(ctx context.Context) (done bool, err error) {
	orders, notice, changed := t.look()
	now := t.Now()
	if n := notice; n != nil && n.Kind == preempt.Interruption {
		if !t.noticed {
			t.noticed = true
			t.announce(n)
		}
	}
	select {
	case x := <-t.exit:
		return true, t.ended(ctx, x)
	default:
	}
	switch {
	case orders.Finish != nil:
		return true, t.finish(ctx, *orders.Finish)
	case t.noticed && !now.Before(t.stopAt(notice)):
		return true, t.handOver(ctx, notice)
	case t.engine != nil && orders.SaveRequest > t.requested:
		return false, t.saveRequested(ctx, orders.SaveRequest)
	case t.engine != nil && notice != nil && notice.Kind == preempt.Rebalance && notice.At.After(t.savedFor):
		t.savedFor = notice.At
		t.say("the cloud advises to move; saving")
		return false, t.saveNow(ctx)
	case t.engine != nil && !now.Before(t.next):
		return false, t.saveNow(ctx)
	}
	timer := time.NewTimer(max(time.Millisecond, t.nextLook(now, notice)))
	defer timer.Stop()
	saves := t.saves
	if t.engine == nil {
		saves = nil
	}
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case x := <-t.exit:
		return true, t.ended(ctx, x)
	case <-changed:
	case ask := <-saves:
		saved, err := t.save(ctx, checkpoint.SaveRequest{})
		ask.reply <- saveReply{saved, err}
		return false, fencedOnly(err)
	case <-timer.C:
	}
	return false, nil
}

// nextLook is how long nothing is due.
func (t *tending) nextLook(now time.Time, notice *preempt.Notice) time.Duration {
	d := time.Minute
	if t.engine != nil {
		d = t.next.Sub(now)
	}
	if t.noticed {
		// The estimate changes as the job writes: look at it again soon.
		d = min(d, t.stopAt(notice).Sub(now), 500*time.Millisecond)
	}
	return d
}

// saveNow saves on schedule. In the notice window saves follow each other, so
// that little is left for the last one.
func (t *tending) saveNow(ctx context.Context) error {
	began := t.Now()
	_, err := t.save(ctx, checkpoint.SaveRequest{})
	every := t.interval()
	if t.noticed {
		every = min(every, 2*t.Now().Sub(began)+time.Second)
	}
	t.next = t.Now().Add(every)
	return fencedOnly(err)
}

func (t *tending) saveRequested(ctx context.Context, request int64) error {
	saved, err := t.save(ctx, checkpoint.SaveRequest{})
	if err != nil {
		if pause(ctx, time.Second) {
			return fencedOnly(err) // asked for until done
		}
		return ctx.Err()
	}
	t.requested = request
	return t.fact(func(r *api.Report) { r.SaveDone, r.SaveDoneAs = request, saved.Number })
}

// fencedOnly drops the errors of a save that the next one may not have: the
// container works on, and the health says why.
func fencedOnly(err error) error {
	if errors.Is(err, wal.ErrFenced) {
		return err
	}
	return nil
}

// save makes one commit and notes its result.
func (t *tending) save(ctx context.Context, ask checkpoint.SaveRequest) (checkpoint.Result, error) {
	saved, err := t.engine.Save(ctx, ask)
	if ctx.Err() != nil && err != nil {
		return saved, err
	}
	t.mu.Lock()
	t.health.saved(t.claim.Attempt, saved, err, t.Now())
	t.mu.Unlock()
	t.reportSoon()
	if err != nil {
		t.say("save failed: %v; the job works on", err)
		return saved, err
	}
	for _, n := range saved.Warnings {
		t.say("%s", n)
	}
	if saved.Committed {
		t.Logger.Info("committed", "commit", saved.Number, "clean", saved.Clean, "sent", saved.SentBytes, "pause", saved.Pause)
		if t.commits++; t.commits%pruneEvery == 0 && !t.noticed && !ask.Sealed {
			if _, err := t.engine.Prune(ctx); err != nil {
				if errors.Is(err, wal.ErrFenced) {
					return saved, err
				}
				t.Logger.Warn("not pruned; the next time", "err", err)
			}
		}
	}
	return saved, nil
}

// health is what the record knows of the saves.
type health struct {
	last     job.Checkpoint
	pauses   []float64 // seconds, newest last
	okAt     time.Time // last save that went well, whether it committed or not
	interval time.Duration
	known    bool
}

// keepPauses bounds what percentiles are computed from.
const keepPauses = 1000

func (h *health) saved(attempt int, s checkpoint.Result, err error, now time.Time) {
	h.known = true
	if err != nil {
		h.last.Health, h.last.Problem = "failing", err.Error()
		return
	}
	h.okAt = now
	h.last.Health, h.last.Problem = "ok", ""
	if !s.Committed && s.Number == 0 {
		return
	}
	h.last.Latest, h.last.Attempt, h.last.Clean = s.Number, attempt, s.Clean
	h.last.Files, h.last.Bytes = s.Files, s.Bytes
	if s.Committed {
		h.last.CommittedAt = now
	}
	if s.Pause > 0 {
		h.pauses = append(h.pauses, s.Pause.Seconds())
		if len(h.pauses) > keepPauses {
			h.pauses = h.pauses[1:]
		}
		h.last.PauseP50, h.last.PauseP99, h.last.PauseMax = percentiles(h.pauses)
	}
}

// checkpoint is the report's part; nil until the first save.
func (h *health) checkpoint(now time.Time) *job.Checkpoint {
	if !h.known {
		return nil
	}
	c := h.last
	if c.Health == "ok" && h.interval > 0 && now.Sub(h.okAt) > 3*h.interval {
		c.Health = "late"
	}
	return &c
}
