package job

import (
	"slices"
	"time"
)

// cancelRequested ends the job in order, or (Now) at once. On an ended job it
// releases the kept VMs; a repeat is a no-op.
func (t *step) cancelRequested(e CancelRequested) error {
	j := t.j
	if j.State.Terminal() {
		if len(j.Kept) == 0 {
			return nil
		}
		for _, k := range j.Kept {
			if a := j.AttemptOf(k.VMID); a != nil {
				a.Kept = false
				t.doom(a, t.now, "the user released it")
			}
		}
		j.Kept = nil
		t.touch()
		return nil
	}
	after := t.now.Add(j.Spec.GraceTime() + FinishSlack)
	if e.Now {
		after = t.now
	}
	if j.State == Stopping {
		if e.Now && !j.CancelNow && j.Outcome.State == Cancelled {
			for i := range j.Doomed {
				if t.now.Before(j.Doomed[i].TerminateAfter) {
					j.Doomed[i].TerminateAfter = t.now
					t.touch()
				}
			}
			j.CancelNow = true
			t.drive()
		}
		return nil // it ends already
	}
	j.CancelNow = e.Now
	t.doomWriter(EndCancelled, after, "the user cancelled the job")
	j.Outcome = nil
	t.endKeeping(Cancelled, ReasonCancelled, "")
	return nil
}

// doomWriter gives the writer's container until after to save.
func (t *step) doomWriter(why EndReason, after time.Time, evidence string) {
	w := t.j.AttemptNo(t.j.Writer)
	if w == nil || w.Gone || w.ContainerStartedAt.IsZero() || w.Sealed || w.Exited {
		return
	}
	if !w.Settled {
		w.Settled, w.EndReason = true, why
	}
	t.doom(w, after, evidence) // the sooner of this and a notice's deadline
}

// endKeeping is end for a job whose writer still has time to save: VMs doomed
// before keep their terminate_after.
func (t *step) endKeeping(s State, r Reason, message string) {
	had := map[string]time.Time{}
	for _, d := range t.j.Doomed {
		had[d.VMID] = d.TerminateAfter
	}
	t.end(s, r, message, nil)
	for i := range t.j.Doomed {
		if at, ok := had[t.j.Doomed[i].VMID]; ok && t.j.Doomed[i].VMID != "" {
			t.j.Doomed[i].TerminateAfter = at
		}
	}
}

// resubmitted starts another run of an ended job: same id, attempts and commits
// go on, limits count anew.
func (t *step) resubmitted(e Resubmitted) error {
	j := t.j
	switch {
	case !j.State.Terminal():
		return t.refuse(RefusedBusy, "the job has not ended: cancel it first, or wait")
	case j.Bucket != nil && (j.Bucket.State == BucketDisposing || j.Bucket.State == BucketDisposed) && !e.Fresh:
		return t.refuse(RefusedDisposing, "its checkpoints were disposed of: submit it anew")
	case j.Bucket != nil && j.Bucket.State != BucketCreated && j.Bucket.State != BucketIntended:
		return t.refuse(RefusedDisposing, "its bucket is being disposed of: submit it anew")
	}
	j.Spec = e.Spec
	if j.Bucket == nil {
		j.Bucket = e.Bucket
	}
	j.Run++
	j.RunAt = t.now
	j.RunFrom = j.Attempt + 1
	if e.Fresh {
		j.FreshFrom = j.Attempt + 1
		j.Checkpoint = nil
		if j.Bucket != nil {
			j.Bucket.State = BucketIntended // the user may have deleted it; creating it again does nothing to one that is there
		}
	}
	j.State = Pending
	j.Outcome = nil
	j.CancelNow = false
	j.EndedAt, j.KeepUntil = zeroTime, zeroTime
	j.RunPreemptions, j.RunFailures, j.AgentFailures, j.RefusedInRow = 0, 0, 0, 0
	j.LossNoticed, j.LossRecorded, j.NoSpotSince = zeroTime, zeroTime, zeroTime
	t.stopWaiting()
	t.send(sendSubmitted)
	return nil
}

func (t *step) saveRequested() error {
	j := t.j
	w := j.AttemptNo(j.Writer)
	switch {
	case j.Bucket == nil:
		return t.refuse(RefusedBusy, "the job has no checkpoints: it was not submitted with --spot")
	case j.State.Terminal() || j.State == Stopping:
		return t.refuse(RefusedEnded, "the job is ending or has ended")
	case w == nil || w.Gone || w.Sealed || w.ContainerStartedAt.IsZero():
		return t.refuse(RefusedBusy, "no container of the job runs now: try again when it is running")
	}
	j.SaveRequest++
	t.touch()
	return nil
}

// disposalIntended is irrevocable: from here on resubmit is refused.
func (t *step) disposalIntended() error {
	j := t.j
	if j.Bucket == nil || j.Bucket.State == BucketDisposing || j.Bucket.State == BucketDisposed {
		return nil
	}
	switch {
	case len(j.Doomed) > 0:
		return t.refuse(RefusedEarly, "a VM of the job may still live")
	case j.Spec.PersistBucket:
		return t.refuse(RefusedBusy, "the user keeps the bucket")
	case j.State == Stopping && j.Outcome.State == Succeeded:
	case j.State == Succeeded:
	case (j.State == Failed || j.State == Cancelled) && !j.KeepUntil.IsZero() && !t.now.Before(j.KeepUntil):
	default:
		return t.refuse(RefusedEarly, "the bucket is kept")
	}
	j.Bucket.State = BucketDisposing
	j.KeepUntil = zeroTime
	t.touch()
	return nil
}

func (t *step) bucketGone() error {
	j := t.j
	if j.Bucket == nil || j.Bucket.State == BucketDisposed {
		return nil
	}
	if j.Bucket.State != BucketDisposing {
		return t.refuse(RefusedBusy, "no disposal is intended")
	}
	j.Bucket.State = BucketDisposed
	t.touch()
	return nil
}

// finished makes the job terminal once every VM is confirmed gone or kept and
// its bucket has found its end.
func (t *step) finished() error {
	j := t.j
	if j.State.Terminal() {
		return nil
	}
	switch {
	case j.State != Stopping:
		return t.refuse(RefusedBusy, "the job goes on")
	case len(j.Doomed) > 0:
		return t.refuse(RefusedEarly, "a VM is not confirmed gone")
	case j.BucketDue() || (j.Bucket != nil && j.Bucket.State == BucketDisposing):
		return t.refuse(RefusedEarly, "its bucket is not disposed of")
	}
	j.State = j.Outcome.State
	j.EndedAt = t.now
	switch j.State {
	case Succeeded:
		t.send(sendSucceeded)
	case Failed:
		t.send(sendFailed)
	}
	if j.State != Succeeded && j.Bucket != nil && !j.Spec.PersistBucket {
		j.KeepUntil = t.now.Add(j.Spec.KeepTime())
	}
	t.touch()
	return nil
}

// BucketDue says whether the bucket's disposal is to be intended before the job
// ends.
func (j *Job) BucketDue() bool {
	return j.Bucket != nil && !j.Spec.PersistBucket && j.State == Stopping && j.Outcome.State == Succeeded &&
		(j.Bucket.State == BucketCreated || j.Bucket.State == BucketIntended)
}

func (t *step) outboxSent(e OutboxSent) {
	n := len(t.j.Outbox)
	t.j.Outbox = slices.DeleteFunc(t.j.Outbox, func(m Message) bool { return m.Revision <= e.Revision })
	if len(t.j.Outbox) != n {
		t.touch()
	}
}
