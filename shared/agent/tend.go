package agent

import (
	"context"
	"time"

	"anycloud/shared/agent/runtime"
	"anycloud/shared/api"
	"anycloud/shared/preempt"
)

const (
	// defaultInterval between saves, for a record that names none.
	defaultInterval = time.Minute
	// noticedPause is the least between two saves in the notice window.
	noticedPause = time.Second
	// lookEvery is how soon the estimate is looked at again in the notice window:
	// it changes as the job writes.
	lookEvery = 500 * time.Millisecond
	// askAgainAfter is when a request whose save failed is tried again.
	askAgainAfter = time.Second
)

// tending is the care of a running container.
type tending struct {
	*agent
	engine    Engine // nil: a job without a bucket
	exit      <-chan runtime.Exit
	running   *saving         // nil: no save runs
	began     time.Time       // of that save
	next      time.Time       // next save of the schedule
	askAgain  time.Time       // next try of a request
	savedFor  time.Time       // the rebalance notice that was saved for
	advised   bool            // the control plane's advice was saved for
	commits   int             // since the last prune
	noticed   bool            // an interruption is coming
	announced preempt.Notice  // what the notice file says
	requested int64           // newest request that is done
	told      map[string]bool // warnings
}

// tend keeps the container's work safe until its end: saves on schedule and on
// request, and ends it when a notice, an order or its own exit says so.
func (a *agent) tend(ctx context.Context, engine Engine) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	exit := make(chan runtime.Exit, 1)
	go func() {
		for ctx.Err() == nil {
			x, err := a.run.Wait(ctx)
			if err == nil {
				exit <- x
				return
			}
			if ctx.Err() == nil {
				a.Logger.Warn("wait for the container", "err", err)
			}
			if !pause(ctx, time.Second) {
				return
			}
		}
	}()
	go a.mirrorLoop(ctx, engine)
	s := a.disk.get()
	t := &tending{agent: a, engine: engine, exit: exit, next: a.Now().Add(a.interval()), requested: s.Report.SaveDone, told: map[string]bool{}}
	if engine != nil {
		a.mu.Lock()
		a.health.begin(a.interval(), s.Report.Checkpoint, a.Now())
		a.mu.Unlock()
	}
	if s.Ending != nil {
		return t.end(ctx, *s.Ending) // the agent before us had begun it
	}
	for {
		done, err := t.round(ctx)
		if done || err != nil {
			return err
		}
	}
}

func (a *agent) interval() time.Duration {
	if d := a.claim.Spec.CheckpointInterval.D(); d > 0 {
		return d
	}
	return defaultInterval
}

// round does the one thing that is due, or waits until something is; done means
// that the container's story is over and reported.
func (t *tending) round(ctx context.Context) (done bool, err error) {
	orders, notice, changed := t.look()
	if n := notice; n != nil && n.Kind == preempt.Interruption && *n != t.announced {
		if !t.noticed {
			t.next = t.Now() // begin at once to have little left for the last save
		}
		t.noticed, t.announced = true, *n
		t.announce(n)
	}
	select {
	case x := <-t.exit:
		return true, t.ended(ctx, x)
	default:
	}
	now := t.Now()
	switch {
	case orders.Finish != nil:
		f := orders.Finish
		return true, t.end(ctx, ending{Why: string(f.Why), Deadline: f.Deadline, Now: f.Now})
	case t.noticed && !now.Before(t.stopAt(notice)):
		return true, t.end(ctx, ending{Why: "hand-over", Deadline: notice.Deadline})
	case t.engine == nil, t.running != nil:
	case orders.SaveRequest > t.requested && !now.Before(t.askAgain):
		t.startSave(ctx, orders.SaveRequest, nil)
	case t.moveAdvised(orders, notice):
		t.say("the cloud advises to move: saving")
		t.startSave(ctx, 0, nil)
	case !now.Before(t.next):
		t.startSave(ctx, 0, nil)
	}
	return t.await(ctx, changed, t.nextLook(orders, notice))
}

// moveAdvised says, once per advice, that a save is due for it.
func (t *tending) moveAdvised(o api.Orders, n *preempt.Notice) bool {
	switch {
	case n != nil && n.Kind == preempt.Rebalance && n.At.After(t.savedFor):
		t.savedFor, t.advised = n.At, true
	case o.SaveNow && !t.advised:
		t.advised = true
	default:
		return false
	}
	return true
}

// await waits for the next thing to look at.
func (t *tending) await(ctx context.Context, changed <-chan struct{}, d time.Duration) (done bool, err error) {
	timer := time.NewTimer(max(time.Millisecond, d))
	defer timer.Stop()
	var saved <-chan struct{}
	asks := t.saves
	if t.running != nil {
		saved, asks = t.running.done, nil // who asks now waits for a save that begins later
	}
	if t.engine == nil {
		asks = nil
	}
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case x := <-t.exit:
		return true, t.ended(ctx, x)
	case <-saved:
		return false, t.endSave()
	case ask := <-asks:
		t.startSave(ctx, 0, &ask)
	case <-changed:
	case <-timer.C:
	}
	return false, nil
}

// nextLook is how long nothing is due.
func (t *tending) nextLook(o api.Orders, n *preempt.Notice) time.Duration {
	now := t.Now()
	d := time.Minute
	if t.engine != nil && t.running == nil {
		d = min(d, t.next.Sub(now))
		if o.SaveRequest > t.requested {
			d = min(d, t.askAgain.Sub(now))
		}
	}
	if t.noticed {
		d = min(d, t.stopAt(n).Sub(now), lookEvery)
	}
	return d
}
