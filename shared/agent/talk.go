package agent

import (
	"context"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/preempt"
)

// talk reports and takes orders, for ever: every Orders.ReportEvery, and at once
// when there is news. Silence of the other side changes nothing here.
func (a *agent) talk(ctx context.Context) error {
	wait := retryDelays()
	silent := time.Time{}
	for {
		every, err := a.talkOnce(ctx)
		switch {
		case err == nil:
			if !silent.IsZero() && a.Now().Sub(silent) > time.Minute {
				a.say("the control plane answers again")
			}
			silent = time.Time{}
			wait.Reset()
		case unwanted(err):
			a.Logger.Warn("not wanted any more", "err", err)
			return ErrPowerOff
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			if silent.IsZero() {
				silent = a.Now()
				a.Logger.Warn("the control plane does not answer; the job goes on", "err", err)
			}
			every = wait.NextBackOff()
		}
		t := time.NewTimer(every)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-a.kick:
			t.Stop()
			if err != nil && !pause(ctx, 50*time.Millisecond) {
				return ctx.Err()
			}
		case <-t.C:
		}
	}
}

func (a *agent) talkOnce(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, reportFor)
	defer cancel()
	service, err := a.connect(ctx)
	if err != nil {
		return 0, err
	}
	a.mu.Lock()
	// Time, so that it grows over restarts too; the last one is not on the disk.
	a.report.Seq = max(a.report.Seq+1, a.Now().UnixMilli())
	r := a.report
	r.Checkpoint = a.health.checkpoint(a.Now())
	a.mu.Unlock()
	o, err := service.Report(ctx, a.claim.JobID, a.claim.Attempt, a.secret, r)
	if err != nil {
		if !unwanted(err) {
			a.disconnect(service)
		}
		return 0, err
	}
	a.mu.Lock()
	a.orders = o
	if o.Notice != nil {
		a.take(o.Notice)
	}
	a.change()
	a.mu.Unlock()
	if o.Role == api.Stop {
		return 0, api.Errorf(403, api.CodeSuperseded, "told to stop")
	}
	return max(10*time.Millisecond, o.ReportEvery.D()), nil
}

// take notes a notice; called with the lock held. The earlier deadline holds.
func (a *agent) take(n *preempt.Notice) bool {
	if n.Kind != preempt.Interruption && n.Kind != preempt.Rebalance {
		return false
	}
	old := a.notice
	switch {
	case old == nil:
	case old.Kind == preempt.Interruption && (n.Kind == preempt.Rebalance || !n.Deadline.Before(old.Deadline)):
		return false
	case old.Kind == preempt.Rebalance && n.Kind == preempt.Rebalance && !n.At.After(old.At):
		return false
	}
	cp := *n
	a.notice = &cp
	return true
}

// listen hears the notice from the VM's own metadata: no event, no control plane
// is in between.
func (a *agent) listen(ctx context.Context) error {
	wait := retryDelays()
	for {
		n, err := a.Metadata.Notice(ctx, 30*time.Second)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if !pause(ctx, wait.NextBackOff()) {
				return ctx.Err()
			}
			continue
		case n == nil:
			wait.Reset()
			continue
		}
		wait.Reset()
		a.mu.Lock()
		news := a.take(n)
		if news {
			a.change()
		}
		// The control plane may have told us before the metadata did; that it is
		// there, too, is a fact of its own.
		tell := a.report.Notice == nil || *a.report.Notice != *n
		if tell && (n.Kind == preempt.Interruption || n.Kind == preempt.Rebalance) {
			cp := *n
			a.report.Notice = &cp
		}
		a.mu.Unlock()
		if tell {
			a.reportSoon()
		}
		if !pause(ctx, time.Second) { // the same notice is answered at once
			return ctx.Err()
		}
	}
}

// fact changes the report and sends it soon. It is on the disk first, for a
// restarted agent to repeat; if the disk does not take it (the job may have
// filled it), it is told all the same.
func (a *agent) fact(change func(*api.Report)) {
	a.factMu.Lock()
	defer a.factMu.Unlock()
	a.mu.Lock()
	r := a.report
	a.mu.Unlock()
	change(&r)
	if err := a.disk.put(func(s *state) { s.Report = r }); err != nil {
		a.Logger.Error("fact not kept on disk", "err", err)
	}
	a.mu.Lock()
	r.Seq, r.Notice = a.report.Seq, a.report.Notice
	a.report = r
	a.mu.Unlock()
	a.reportSoon()
}

func (a *agent) reportSoon() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// look is what the agent knows at this moment, and a channel that is closed when
// any of it changes.
func (a *agent) look() (api.Orders, *preempt.Notice, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.orders, a.notice, a.changed
}
