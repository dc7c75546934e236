package job

import (
	"fmt"
	"slices"
	"time"
)

// end records how the job ends and dooms (or keeps) everything that it has.
func (t *step) end(s State, reason Reason, message string, code *int) {
	j := t.j
	if j.Outcome != nil {
		return
	}
	j.Outcome = &Outcome{State: s, Reason: reason, Message: message, ExitCode: code, At: t.now}
	j.State = Stopping
	t.stopWaiting()
	t.doomLaunch("the job ended")
	for i := range j.Attempts {
		a := &j.Attempts[i]
		if a.Gone || a.Kept || a.Number < j.RunFrom {
			continue
		}
		if j.Spec.Persist && a.Number == j.Writer && !a.Doomed && s != Cancelled {
			a.Kept = true
			if !a.Settled {
				a.Settled, a.EndReason = true, EndExited
			}
			j.Kept = append(j.Kept, Kept{VMID: a.VMID, Attempt: a.Number, Cloud: a.Placement.Cloud, Since: t.now, Watch: a.Watch})
			continue
		}
		if !a.Settled {
			a.Settled = true
			a.EndReason = EndSuperseded
			if a.Number == j.Writer {
				a.EndReason = EndExited
			}
		}
		t.doom(a, t.now, "the job ended")
	}
	if s == Cancelled {
		t.send(sendCancelled)
	} else {
		t.send(sendExited)
	}
}

// doom puts the attempt's VM on the list of those to terminate, at the earlier
// of the times given.
func (t *step) doom(a *Attempt, after time.Time, evidence string) {
	if a.Gone || a.Kept {
		return
	}
	a.Doomed = true
	if d := t.j.DoomedVM(a.VMID); d != nil {
		if after.Before(d.TerminateAfter) {
			d.TerminateAfter, d.Evidence = after, evidence
			t.touch()
		}
		return
	}
	t.touch()
	t.j.Doomed = append(t.j.Doomed, Doomed{
		VMID: a.VMID, Attempt: a.Number, Launch: a.Launch, Cloud: a.Placement.Cloud, TerminateAfter: after,
		StartedAt: a.StartedAt, Evidence: evidence, Watch: a.Watch,
	})
}

// lose records that an attempt's VM is lost (or will be at after), once, and
// moves the job on if it was the one that mattered.
func (t *step) lose(a *Attempt, why EndReason, after time.Time, evidence string) {
	j := t.j
	if !a.Gone {
		t.doom(a, after, evidence)
	}
	if a.Settled {
		return
	}
	t.touch()
	a.Settled, a.EndReason = true, why
	if why == EndPreempted || why == EndVanished {
		j.Preemptions++
		j.RunPreemptions++
	}
	if a.Number != j.Attempt || (j.State != Starting && j.State != Running) {
		return
	}
	if j.overPreemptions() {
		t.limitReached(ReasonMaxPreemptions, fmt.Sprintf("preempted %d times, and max_preemptions is %d", j.RunPreemptions, *j.Spec.MaxPreemptions))
		return
	}
	j.LossNoticed, j.LossRecorded = t.now, t.now
	if a.Notice != nil {
		j.LossNoticed = a.Notice.At
	}
	if j.Bucket == nil && !a.ContainerStartedAt.IsZero() && !j.Spec.RestartOnLoss {
		j.RunFailures++
		if j.RunFailures > j.Spec.Retries {
			t.end(Failed, ReasonVMLost, "its VM was lost and nothing allows a restart from the beginning", nil)
			return
		}
	}
	j.State = Recovering
	t.send(sendPreempted)
}

// again makes the job recover after a while.
func (t *step) again(w Waiting, after time.Duration) {
	if t.j.State == Stopping {
		return
	}
	t.j.State = Recovering
	t.wait(w, "")
	t.j.WakeAt = t.now.Add(after)
	t.send(sendRetry)
}

func (t *step) interrupted(e Interrupted) {
	a := t.j.AttemptOf(e.VMID)
	if a == nil || a.Gone || a.Kept {
		return
	}
	if a.Notice == nil {
		a.Notice = &NoticeInfo{Kind: e.Kind_, Deadline: e.Deadline, At: e.At, Drill: e.Drill}
		t.touch()
	}
	after, why := e.Deadline, EndPreempted
	switch e.Kind_ {
	case "impaired":
		after, why = t.now, EndVanished
	case "going":
		after = t.now
	}
	if after.IsZero() {
		after = t.now
	}
	if t.j.Outcome != nil {
		return // it is being disposed of already, with the time that this takes
	}
	t.lose(a, why, after, "the cloud's notice: "+e.Kind_)
}

func (t *step) rebalanceAdvised(e RebalanceAdvised) {
	a := t.j.AttemptOf(e.VMID)
	if a == nil || a.Doomed || a.Gone || a.Kept || !a.Rebalance.IsZero() {
		return
	}
	a.Rebalance = e.At
	t.touch()
}

// vmGone takes the cloud's word that a VM is terminated.
func (t *step) vmGone(e VMGone) {
	j, vm := t.j, e.VM
	a := j.AttemptOf(vm.ID)
	if a == nil && j.DoomedVM(vm.ID) == nil {
		if slices.ContainsFunc(j.Others, func(o OtherVM) bool { return o.VMID == vm.ID }) {
			return
		}
		if vm.Attempt == 0 {
			return
		}
		a = t.vmKnown(vm, false) // the answer of our launch, or a VM found late
	}
	t.gone(a, vm)
}

// gone confirms the end of a VM: a is its attempt, or nil.
func (t *step) gone(a *Attempt, vm VMFacts) {
	j := t.j
	end := vm.EndedAt
	if end.IsZero() {
		end = t.now
	}
	if i := slices.IndexFunc(j.Doomed, func(d Doomed) bool { return d.VMID == vm.ID }); i >= 0 {
		j.Doomed = slices.Delete(j.Doomed, i, i+1)
		t.touch()
	}
	if i := slices.IndexFunc(j.Kept, func(k Kept) bool { return k.VMID == vm.ID }); i >= 0 {
		j.Kept = slices.Delete(j.Kept, i, i+1)
		t.touch()
	}
	if i := slices.IndexFunc(j.Others, func(o OtherVM) bool { return o.VMID == vm.ID }); i >= 0 && j.Others[i].EndedAt.IsZero() {
		j.Others[i].EndedAt = end
		t.touch()
	}
	if a != nil && !a.Gone {
		if !vm.StartedAt.IsZero() {
			a.StartedAt = vm.StartedAt
		}
		a.Gone, a.EndedAt = true, end
		a.Phases.Gone = t.now
		if !a.ContainerStartedAt.IsZero() && a.ContainerStoppedAt.IsZero() {
			a.ContainerStoppedAt = end
		}
		t.touch()
		t.lose(a, EndVanished, t.now, "gone")
	}
	if !t.touched {
		return
	}
	if j.WaitingFor == WaitPreviousVM && !t.dyingVM() {
		t.stopWaiting()
	}
	t.drive()
}

// vmMissed counts a listing that did not show the VM. Two sweeps in a row mean
// gone, but only for a VM once seen; one never seen needs SettleAfter.
func (t *step) vmMissed(e VMMissed) {
	a := t.j.AttemptOf(e.VMID)
	var w *Watch
	started := t.now
	switch d, k := t.j.DoomedVM(e.VMID), t.j.KeptVM(e.VMID); {
	case a != nil && !a.Gone:
		w, started = &a.Watch, a.StartedAt
	case d != nil:
		w, started = &d.Watch, d.StartedAt
	case k != nil:
		w = &k.Watch
	default:
		return
	}
	t.missed(w, e.Sweep)
	if w.AbsentCount < 2 || (!w.Seen && t.now.Sub(started) < SettleAfter) {
		return
	}
	t.gone(a, VMFacts{ID: e.VMID, EndedAt: w.AbsentSince})
}

func (t *step) missed(w *Watch, sweep int64) {
	if sweep <= w.AbsentSweep {
		return // a doubled tick counts once
	}
	if w.AbsentCount == 0 {
		w.AbsentSince = t.now
	}
	w.AbsentSweep = sweep
	w.AbsentCount++
	t.touch()
}

func (t *step) seen(w *Watch) {
	if !w.Seen || w.AbsentCount > 0 {
		w.Seen, w.AbsentCount = true, 0
		w.AbsentSince = zeroTime
		t.touch()
	}
}

func (t *step) launchMissed(e LaunchMissed) {
	j := t.j
	d := j.DoomedLaunch(e.Attempt, e.Number)
	if d == nil {
		return
	}
	t.missed(&d.Watch, e.Sweep)
	since := d.AbsentSince
	if since.Before(d.Deadline) {
		since = d.Deadline
	}
	if d.AbsentCount >= 2 && t.now.Sub(since) >= SettleAfter {
		j.Doomed = slices.DeleteFunc(j.Doomed, func(x Doomed) bool { return x.VMID == "" && x.Attempt == e.Attempt && x.Launch == e.Number })
		t.drive()
	}
}

// silence counts sweeps, not clock time: a deaf control plane kills nobody.
func (t *step) silence(e Silence) {
	j := t.j
	a := j.AttemptNo(e.Attempt)
	if a == nil || a.Doomed || a.Gone || a.Kept || e.Sweep <= a.SilentSweep || j.State == Stopping || j.State.Terminal() {
		return
	}
	if a.SilentSweeps == 0 {
		a.SilentSince = a.LastHeard
		if a.SilentSince.IsZero() {
			a.SilentSince = a.StartedAt
		}
	}
	a.SilentSweep = e.Sweep
	a.SilentSweeps++
	t.touch()
	silent := time.Duration(a.SilentSweeps) * e.Every
	if a.SecretHash == "" {
		if silent >= UnclaimedAfter {
			t.unclaimed(a)
		}
		return
	}
	if limit := j.Spec.UnresponsiveAfter; limit != Never && silent >= limit.D() {
		t.lose(a, EndUnresponsive, t.now, "silent for as long as the user allows")
	}
}

func (t *step) unclaimed(a *Attempt) {
	if a.Settled {
		return
	}
	a.Settled, a.EndReason = true, EndAgentFailed
	if a.Number == t.j.Attempt && t.j.State == Starting {
		t.agentGaveUp(a, "it did not claim within 15 min")
		return
	}
	t.doom(a, t.now, "unclaimed for 15 min")
	t.drive()
}
