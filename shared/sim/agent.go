package sim

import (
	"context"
	"fmt"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/job"
)

// container is the user's program: it works for a known time and remembers how
// far it is in its checkpoint.
type container struct {
	job       string
	attempt   int
	base      time.Duration // progress restored
	startedAt time.Time
	stoppedAt time.Time // zero while it runs
	exitCode  int       // valid if byItself
	byItself  bool
}

// progress of the container at a moment.
func (c *container) progress(now time.Time) time.Duration {
	if !c.stoppedAt.IsZero() && c.stoppedAt.Before(now) {
		now = c.stoppedAt
	}
	return c.base + now.Sub(c.startedAt)
}

// agent is the model of one VM's agent. Its disk (secret, claim, container)
// is in its fields and goes with the VM.
type agent struct {
	w          *world
	vmID       string
	skew       time.Duration
	task       *task
	jobID      string
	attempt    int
	secret     string
	spec       job.Spec
	orders     api.Orders
	report     api.Report
	c          *container
	log        *storage
	nextSave   time.Time
	deadline   time.Time // of the notice
	noticed    bool
	cutOff     time.Time // cannot reach the control plane until then
	hungUntil  time.Time // does nothing until then
	neverClaim bool
	finished   bool // sealed or exited, and reported
	saves      int
}

// reportEvery is the agent's pace; the real one is quicker, which would only
// make more steps of the same kind.
const (
	reportEvery  = 20 * time.Second
	saveInterval = 25 * time.Second
	sealMargin   = 12 * time.Second // of the notice: when to stop the container
	rpcTimeout   = 10 * time.Second
)

func (a *agent) now() time.Time { return a.w.s.now.Add(a.skew) }

// run is the agent's life from boot to power-off.
func (a *agent) run() {
	if a.neverClaim {
		a.w.count(faultNeverClaims)
		a.w.s.pause(job.UnclaimedAfter)
		a.powerOff()
		return
	}
	if !a.claim() {
		a.powerOff()
		return
	}
	for a.work() {
	}
	a.powerOff()
}

// powerOff ends the VM from inside.
func (a *agent) powerOff() {
	a.kill("power off")
	a.w.powerOff(a.vmID)
	a.w.s.pause(time.Hour)
}

// kill ends the container, if it runs.
func (a *agent) kill(string) {
	if a.c != nil && a.c.stoppedAt.IsZero() {
		a.c.stoppedAt = a.w.s.now
	}
	a.w.containerEnded(a.c)
}

func (a *agent) claim() bool {
	a.secret = fmt.Sprintf("secret-%s-%d", a.vmID, a.w.s.rng.Int64())
	born := a.w.s.now
	for a.w.s.now.Sub(born) < job.UnclaimedAfter {
		var reply api.ClaimReply
		err := a.rpc("claim", func(ctx context.Context) (err error) {
			reply, err = a.w.cp.Claim(ctx, api.ClaimRequest{Proof: "fake:" + a.vmID, Cloud: "fake", SecretHash: hashOf(a.secret), Version: "sim"})
			return err
		})
		if err == nil {
			a.jobID, a.attempt, a.spec, a.orders = reply.JobID, reply.Attempt, reply.Spec, reply.Orders
			a.w.claimed(a)
			return true
		}
		if ends(err) {
			return false
		}
		a.w.s.pause(a.w.s.between(time.Second, 10*time.Second))
	}
	return false
}

// ends says whether an answer means that nobody wants this agent.
func ends(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeSuperseded, api.CodeUnknownVM, api.CodeEnded:
		return true
	}
	return false
}

// work is one round; false means power off.
func (a *agent) work() bool {
	if d := a.hungUntil.Sub(a.w.s.now); d > 0 {
		a.w.s.pause(d)
	}
	if !a.talk() || a.orders.Role == api.Stop {
		a.kill("told to stop")
		return false
	}
	if a.log != nil && a.log.fenced {
		a.w.count(faultStaleWriter)
		a.kill("fenced")
		return false
	}
	switch {
	case a.finished:
		a.w.s.pause(reportEvery)
	case a.orders.Role == api.Standby:
		a.w.s.pause(2 * time.Second)
	case a.c == nil:
		return a.begin()
	case !a.c.stoppedAt.IsZero() && a.c.byItself:
		a.exited()
	case a.orders.Finish != nil:
		a.seal(!a.orders.Finish.Now)
	case a.noticed && (a.deadline.IsZero() || !a.now().Before(a.deadline.Add(-sealMargin))):
		a.seal(true)
	default:
		a.tend()
	}
	return true
}

// tend waits for what comes next while the container runs, and saves.
func (a *agent) tend() {
	asked := a.orders.SaveRequest > a.report.SaveDone
	if a.log != nil && (asked || a.orders.SaveNow && a.saves == 0 || !a.now().Before(a.nextSave)) {
		request := a.orders.SaveRequest
		a.nextSave = a.now().Add(saveInterval)
		if n, ok := a.save(false, nil); ok && asked {
			a.report.SaveDone, a.report.SaveDoneAs = request, n
		}
		return
	}
	wait := reportEvery
	if a.noticed {
		wait = min(wait, max(time.Second, a.deadline.Add(-sealMargin).Sub(a.now())))
	}
	a.w.s.pause(wait)
}

// begin is what the writer does first: fence, restore, start.
func (a *agent) begin() bool {
	if a.spec.Spot && a.log == nil {
		a.log = a.w.openStorage(a)
	}
	from := restored{}
	if a.log != nil {
		ok := false
		if from, ok = a.log.takeOver(); !ok {
			a.w.s.pause(a.w.s.between(time.Second, 5*time.Second))
			return true // refused or unanswered: tried again, never from nothing
		}
		if from.exit != nil && !contains(a.orders.ExitsKnown, from.attempt) {
			a.report.Exit = &api.Exit{Attempt: from.attempt, Code: *from.exit, StoppedAt: from.capturedAt}
			a.w.s.pause(time.Second)
			return true
		}
	}
	if a.orders.Exited {
		a.finished = true
		return true
	}
	a.report.Exit = nil
	a.c = a.w.startContainer(a, from)
	a.report.Started = &api.ContainerStarted{At: a.now(), Restored: from.number, CapturedAt: from.capturedAt}
	a.nextSave = a.now().Add(saveInterval)
	return true
}

func contains(ns []int, n int) bool {
	for _, x := range ns {
		if x == n {
			return true
		}
	}
	return false
}

// seal ends the container in order and commits for the last time.
func (a *agent) seal(commit bool) {
	if a.c.stoppedAt.IsZero() {
		a.kill("seal")
	}
	if commit && a.log != nil {
		for tries := 0; tries < 5; tries++ {
			if _, ok := a.save(true, nil); ok || a.log.fenced {
				break
			}
			a.w.s.pause(time.Second)
		}
	}
	if a.log == nil || !a.log.fenced {
		a.report.Sealed = true
		a.finished = true
	}
}

// exited commits the container's exit and then reports it.
func (a *agent) exited() {
	if a.noticed {
		a.w.count(faultExitInWindow)
	}
	code := a.c.exitCode
	if a.log != nil {
		if _, ok := a.save(true, &code); !ok {
			a.w.s.pause(a.w.s.between(time.Second, 5*time.Second))
			return
		}
	}
	a.report.Exit = &api.Exit{Attempt: a.attempt, Code: code, StoppedAt: a.c.stoppedAt}
	a.report.StoppedAt = a.c.stoppedAt
	a.finished = true
}

func (a *agent) save(sealed bool, exit *int) (int, bool) {
	a.saves++
	n, ok := a.log.commit(a.c.progress(a.w.s.now), sealed, exit)
	if ok {
		a.report.Checkpoint = &job.Checkpoint{Latest: n, Attempt: a.attempt, Clean: true, CommittedAt: a.now(), Health: "ok"}
		if !sealed && a.saves%4 == 0 && !a.noticed {
			a.log.prune()
		}
	}
	return n, ok
}

// talk reports and takes orders; false means that nobody wants this agent.
func (a *agent) talk() bool {
	a.report.Seq++
	if a.c != nil {
		a.report.StoppedAt = a.c.stoppedAt
	}
	r := a.report
	if r.Sealed || r.Exit != nil && r.Exit.Attempt == a.attempt {
		a.w.truth[a.vmID].done = true
	}
	var o api.Orders
	err := a.rpc("report", func(ctx context.Context) (err error) {
		o, err = a.w.cp.Report(ctx, a.jobID, a.attempt, a.secret, r)
		return err
	})
	switch {
	case err == nil:
		a.orders = o
		if o.Notice != nil && o.Notice.Kind != "rebalance" && !a.noticed {
			a.noticed, a.deadline = true, o.Notice.Deadline
		}
		a.w.heard(a)
	case ends(err):
		return false
	}
	return true
}

// rpc calls the control plane through the network: the call may not arrive, or
// its answer may not.
func (a *agent) rpc(what string, f func(context.Context) error) error {
	w := a.w
	if w.s.now.Before(a.cutOff) || w.s.now.Before(w.deafUntil) {
		w.s.pause(w.s.between(time.Second, rpcTimeout))
		return errUnanswered
	}
	lost := w.faulty && w.s.chance(w.p.replyLost)
	if lost && what == "claim" {
		w.count(faultClaimLost)
	} else if lost {
		w.count(faultReplyLost)
	}
	err := errUnanswered
	answered := false
	settle := func(got error) {
		if !answered {
			answered, err = true, got
			w.s.wake(a.task, 0)
		}
	}
	w.invoke("agent."+what, w.s.between(time.Millisecond, 20*time.Millisecond), f, func(got error) {
		if !lost {
			settle(got)
		}
	})
	w.s.at(rpcTimeout, func() { settle(errUnanswered) })
	w.s.pause(parked)
	return err
}
