package job

import "time"

var zeroTime time.Time

// claimed fixes the VM and the secret of an attempt. Only the newest attempt
// may be claimed, once, by the VM that its launch made.
func (t *step) claimed(e Claimed) error {
	j := t.j
	if j.State.Terminal() {
		t.vmKnown(e.VM, true) // an unknown VM of an ended job is doomed
		if t.touched {
			return nil
		}
		return t.refuse(RefusedEnded, "the job has ended")
	}
	a := t.vmKnown(e.VM, true)
	if a != nil && a.SecretHash != "" && a.SecretHash == e.SecretHash && !a.Gone {
		if t.now.Sub(a.LastHeard) >= HearEvery {
			t.hear(a) // the same pair may repeat for ever: lost answers, restarts
		}
		return nil
	}
	if a == nil || a.Number != j.Attempt || a.Doomed || a.Kept || a.Gone || j.State == Provisioning || j.State == Stopping {
		if t.touched {
			return nil // recorded as doomed; the next try is refused
		}
		return t.refuse(RefusedSuperseded, "attempt %d is not wanted any more", e.VM.Attempt)
	}
	if a.SecretHash != "" {
		return t.refuse(RefusedSuperseded, "attempt %d was claimed by another agent", a.Number)
	}
	a.SecretHash = e.SecretHash
	a.Phases.Claimed = t.now
	t.hear(a)
	return nil
}

// hear resets silence.
func (t *step) hear(a *Attempt) {
	a.LastHeard = t.now
	a.SilentSweeps, a.SilentSince = 0, zeroTime
	t.touch()
}

// from finds the attempt that an agent's report speaks for.
func (t *step) from(n int) (*Attempt, error) {
	if a := t.j.AttemptNo(n); a != nil && a.SecretHash != "" {
		return a, nil
	}
	return nil, t.refuse(RefusedSuperseded, "attempt %d has not claimed", n)
}

func (t *step) reported(e Reported) error {
	a, err := t.from(e.Attempt)
	if err != nil {
		return err
	}
	if a.SilentSweeps > 0 || t.now.Sub(a.LastHeard) >= HearEvery {
		t.hear(a)
	}
	t.first(&a.Phases.ImageReady, e.Phases.ImageReady)
	t.first(&a.Phases.Prefetched, e.Phases.Prefetched)
	t.first(&a.Phases.Restored, e.Phases.Restored)
	t.first(&a.ContainerStoppedAt, e.StoppedAt)
	j := t.j
	if c := e.Checkpoint; c != nil && e.Attempt == j.Writer && (j.Checkpoint == nil || c.Latest >= j.Checkpoint.Latest && *c != *j.Checkpoint) {
		cp := *c
		j.Checkpoint = &cp
		t.touch()
	}
	if e.SaveDone > j.SaveDone && e.Attempt == j.Writer {
		j.SaveDone, j.SaveDoneAs = e.SaveDone, e.SaveDoneAs
		t.touch()
	}
	if t.touched {
		a.LastHeard = t.now
	}
	return nil
}

// first keeps the first report of a time.
func (t *step) first(have *time.Time, got time.Time) {
	if have.IsZero() && !got.IsZero() {
		*have = got
		t.touch()
	}
}

func (t *step) started(e Started) error {
	a, err := t.from(e.Attempt)
	if err != nil {
		return err
	}
	j := t.j
	if !a.ContainerStartedAt.IsZero() {
		return nil // doubled
	}
	if e.Attempt != j.Writer {
		return t.refuse(RefusedSuperseded, "attempt %d is not the writer", e.Attempt)
	}
	a.ContainerStartedAt = e.At
	a.Phases.Started = e.At
	a.Restored, a.RestoredCaptured = e.Restored, e.CapturedAt
	a.LostSeconds = t.lost(a)
	j.AgentFailures = 0
	t.touch()
	first := true
	for i := range j.Attempts {
		if o := &j.Attempts[i]; o.Number < a.Number && !o.ContainerStartedAt.IsZero() {
			first = false
		}
	}
	if first {
		t.send(sendStarted)
	} else {
		t.send(sendRecovered)
	}
	if j.State == Starting && j.Attempt == e.Attempt {
		j.State = Running
	}
	return nil
}

// lost is the work that attempt a has to do again, in seconds: from the capture
// of what it restored to the end of the container before it.
func (t *step) lost(a *Attempt) float64 {
	for i := len(t.j.Attempts) - 1; i >= 0; i-- {
		p := &t.j.Attempts[i]
		if p.Number >= a.Number || p.ContainerStartedAt.IsZero() {
			continue
		}
		if p.Number < t.j.FreshFrom {
			return 0 // thrown away on the user's wish
		}
		stop := p.ContainerStoppedAt
		if stop.IsZero() {
			stop = p.EndedAt
		}
		from := a.RestoredCaptured
		if a.Restored == 0 {
			from = p.ContainerStartedAt
		}
		return max(0, stop.Sub(from).Seconds())
	}
	return 0
}

func (t *step) sealed(e Sealed) error {
	a, err := t.from(e.Attempt)
	if err != nil {
		return err
	}
	if a.Sealed {
		return nil
	}
	a.Sealed = true
	a.Phases.Sealed = t.now
	t.touch()
	if !a.Doomed && !a.Kept && !a.Gone {
		// An agent that sealed by itself saw a notice that we did not.
		t.lose(a, EndPreempted, t.now, "its agent sealed it")
	}
	if d := t.j.DoomedVM(a.VMID); d != nil && t.now.Before(d.TerminateAfter) {
		d.TerminateAfter = t.now
	}
	t.drive()
	return nil
}

// exited takes the one report that the container ended by itself. Only the
// writer may report, for itself or for a predecessor whose exit commit it found.
func (t *step) exited(e Exited) error {
	by, err := t.from(e.By)
	if err != nil {
		return err
	}
	a := t.j.AttemptNo(e.Attempt)
	j := t.j
	switch {
	case a == nil || e.Attempt > e.By:
		return t.refuse(RefusedSuperseded, "attempt %d never ran", e.Attempt)
	case a.Exited:
		return nil // doubled
	case j.State.Terminal():
		return t.refuse(RefusedEnded, "the job has ended")
	case by.Number != j.Writer:
		return t.refuse(RefusedSuperseded, "attempt %d is not the writer", e.By)
	case a.Number < j.RunFrom:
		return t.refuse(RefusedSuperseded, "attempt %d belongs to an earlier run", e.Attempt)
	}
	a.Exited = true
	code := e.Code
	a.ExitCode = &code
	if a.ContainerStoppedAt.IsZero() {
		a.ContainerStoppedAt = e.StoppedAt
	}
	if a.Number == e.By {
		a.Sealed = true
	}
	t.touch()

	if j.State == Stopping {
		if e.Code == 0 && j.Outcome.State != Succeeded && (j.Bucket == nil || j.Bucket.State == BucketCreated) {
			// The work was done before the wish to end it arrived.
			j.Outcome.State, j.Outcome.Reason, j.Outcome.Message = Succeeded, "", ""
		}
		if j.Outcome.ExitCode == nil {
			j.Outcome.ExitCode = &code
		}
		t.terminateNow(a)
		t.drive()
		return nil
	}
	if !a.Doomed {
		a.EndReason, a.Settled = EndExited, true
	}
	if e.Code == 0 {
		t.end(Succeeded, "", "", &code)
		return nil
	}
	j.Failures++
	j.RunFailures++
	reason := ReasonExitCode
	if e.OOM {
		reason = ReasonOutOfMemory
	}
	if j.RunFailures > j.Spec.Retries {
		t.end(Failed, reason, "", &code)
		return nil
	}
	// Retried from the last commit, by the attempt above if there is one.
	if a.Number == j.Attempt && (j.State == Running || j.State == Starting) {
		t.doom(a, t.now, "its container exited")
		t.again(WaitBackoff, backoff(j.RunFailures))
	} else {
		t.terminateNow(a)
		t.drive()
	}
	return nil
}

// terminateNow ends the wait of a doomed VM that has nothing more to save.
func (t *step) terminateNow(a *Attempt) {
	if d := t.j.DoomedVM(a.VMID); d != nil && t.now.Before(d.TerminateAfter) {
		d.TerminateAfter = t.now
	}
}

func (t *step) agentFailed(e AgentFailed) error {
	a, err := t.from(e.Attempt)
	if err != nil {
		return err
	}
	j := t.j
	if a.Settled || a.Doomed || a.Exited || j.State == Stopping || j.State.Terminal() {
		return nil
	}
	if a.Number != j.Writer || a.Number != j.Attempt {
		return t.refuse(RefusedSuperseded, "attempt %d is not the writer", e.Attempt)
	}
	a.Settled, a.EndReason, a.Sealed = true, EndAgentFailed, true
	t.touch()
	if e.Permanent {
		t.end(Failed, e.Reason, e.Message, nil)
		return nil
	}
	t.agentGaveUp(a, e.Message)
	return nil
}

// agentGaveUp replaces a VM that could not get the job going.
func (t *step) agentGaveUp(a *Attempt, message string) {
	j := t.j
	j.AgentFailures++
	t.doom(a, t.now, "its agent gave up: "+message)
	if j.AgentFailures >= MaxAgentFailures {
		t.end(Failed, ReasonVMLost, message, nil)
		return
	}
	t.again(WaitBackoff, backoff(j.AgentFailures))
	j.WaitReason = message
}

// backoff before try n+1 of something that failed n times: 5 s doubled, at most
// 5 min.
func backoff(n int) time.Duration {
	return min(5*time.Second<<min(n-1, 10), 5*time.Minute)
}
