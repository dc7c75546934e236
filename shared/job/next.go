package job

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
)

// Next applies an event to a job. It is pure and total: the result is the
// changed job with its revision one up and its effects in the outbox, or the
// unchanged job with the same revision (a documented no-op), or a *Refused.
func Next(j Job, e Event, now time.Time) (Job, []Effect, error) {
	t := &step{j: j.Clone(), now: now, event: e.Kind()}
	before := keyOf(&j)
	if err := t.apply(e); err != nil {
		return j, nil, err
	}
	if !t.touched {
		return j, nil, nil
	}
	t.advanceWriter()
	t.j.Revision = j.Revision + 1
	t.j.UpdatedAt = now
	if keyOf(t.j) != before {
		t.j.Changed = t.j.Revision
	}
	for _, f := range t.effects {
		m := Message{Type: f.Type, Revision: t.j.Revision, At: now}
		if t.j.State == Stopping && t.j.Outcome != nil && (f.Type == sendExited || f.Type == sendCancelled) {
			if t.j.Outcome.Revision == 0 {
				t.j.Outcome.Revision = t.j.Revision
			}
			m.Revision = t.j.Outcome.Revision // re-driving cleanup repeats the occurrence, it is no new one
		}
		if !slices.ContainsFunc(t.j.Outbox, func(o Message) bool { return o.Type == m.Type && o.Revision == m.Revision }) {
			t.j.Outbox = append(t.j.Outbox, m)
		}
	}
	return *t.j, t.effects, nil
}

// key is what a person looks at: when it changes, an If-Match of before is stale.
type key struct {
	state           State
	attempt, writer int
	run             int
	ending          bool
}

func keyOf(j *Job) key { return key{j.State, j.Attempt, j.Writer, j.Run, j.Outcome != nil} }

// Guard says whether a caller that saw revision seen may act: nothing that a
// person would care about changed since. 0 means no condition.
func (j *Job) Guard(seen int64) bool {
	return seen == 0 || (seen >= j.Changed && seen <= j.Revision)
}

// New makes the row of a job that was just submitted, at revision 1.
func New(id, stack string, s Spec, b *Bucket, now time.Time) *Job {
	return &Job{
		Format: Format, ID: id, Stack: stack, Spec: s, State: Pending, Revision: 1, Changed: 1,
		Run: 1, RunFrom: 1, CreatedAt: now, UpdatedAt: now, RunAt: now, Bucket: b,
		Outbox: []Message{{Type: sendSubmitted, Revision: 1, At: now}},
	}
}

// LaunchToken derives a launch's idempotency token from what it is for, so that
// a replay by anybody repeats the same call. It has the shape of a UUID, which
// every cloud accepts.
func LaunchToken(jobID string, attempt, number int) string {
	h := sha256.Sum256(fmt.Appendf(nil, "anycloud launch %s %d %d", jobID, attempt, number))
	h[6] = h[6]&0x0f | 0x50
	h[8] = h[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// step is one application of Next.
type step struct {
	j       *Job
	now     time.Time
	event   string
	touched bool
	effects []Effect
}

func (t *step) touch() { t.touched = true }

func (t *step) send(typ string) {
	for _, e := range t.effects {
		if e.Type == typ {
			return
		}
	}
	t.effects = append(t.effects, Effect{typ})
	t.touch()
}

func (t *step) refuse(code, format string, args ...any) error {
	return &Refused{State: t.j.State, Event: t.event, Code: code, Why: fmt.Sprintf(format, args...)}
}

func (t *step) apply(e Event) error {
	switch e := e.(type) {
	case BucketReady:
		return t.bucketReady()
	case LaunchIntended:
		return t.launchIntended(e)
	case LaunchReplayed:
		return t.launchReplayed(e)
	case Launched:
		t.vmKnown(e.VM, false)
		return nil
	case LaunchRefused:
		return t.launchRefused(e)
	case LaunchUnanswered:
		return t.launchUnanswered(e)
	case Postponed:
		return t.postponed(e)
	case Unlaunchable:
		return t.unlaunchable(e)
	case Claimed:
		return t.claimed(e)
	case Reported:
		return t.reported(e)
	case Started:
		return t.started(e)
	case Sealed:
		return t.sealed(e)
	case Exited:
		return t.exited(e)
	case AgentFailed:
		return t.agentFailed(e)
	case Interrupted:
		t.interrupted(e)
	case RebalanceAdvised:
		t.rebalanceAdvised(e)
	case VMGone:
		t.vmGone(e)
	case VMSeen:
		t.vmKnown(e.VM, true)
	case VMMissed:
		t.vmMissed(e)
	case LaunchMissed:
		t.launchMissed(e)
	case Silence:
		t.silence(e)
	case CancelRequested:
		return t.cancelRequested(e)
	case Resubmitted:
		return t.resubmitted(e)
	case LimitReached:
		t.limitReached(e.Reason, e.Message)
	case SaveRequested:
		return t.saveRequested()
	case DisposalIntended:
		return t.disposalIntended()
	case BucketGone:
		return t.bucketGone()
	case Finished:
		return t.finished()
	case OutboxSent:
		t.outboxSent(e)
	default:
		return t.refuse(RefusedBusy, "unknown event")
	}
	return nil
}

// advanceWriter moves the writer to the newest attempt, once that one has
// claimed and is not doomed, and the old writer cannot write or run any more.
func (t *step) advanceWriter() {
	j := t.j
	if j.Attempt <= j.Writer {
		return
	}
	n := j.AttemptNo(j.Attempt)
	if n == nil || n.SecretHash == "" || n.Doomed || n.Gone || n.Kept {
		return
	}
	if w := j.AttemptNo(j.Writer); w != nil && !w.Gone && w.Number >= j.RunFrom {
		// A job without a log has no fence: only a VM that is gone is surely quiet.
		if j.Bucket == nil || !(w.Sealed || w.Exited) {
			return
		}
	}
	j.Writer = j.Attempt
	n.Phases.Writer = t.now
	t.touch()
}

// AttemptNo returns the attempt of that number, or nil.
func (j *Job) AttemptNo(n int) *Attempt {
	for i := len(j.Attempts) - 1; i >= 0; i-- {
		if j.Attempts[i].Number == n {
			return &j.Attempts[i]
		}
	}
	return nil
}

// AttemptOf returns the attempt that runs on the VM, or nil.
func (j *Job) AttemptOf(vmID string) *Attempt {
	for i := len(j.Attempts) - 1; i >= 0; i-- {
		if vmID != "" && j.Attempts[i].VMID == vmID {
			return &j.Attempts[i]
		}
	}
	return nil
}

// DoomedVM returns the doomed entry of the VM, or nil.
func (j *Job) DoomedVM(vmID string) *Doomed {
	for i := range j.Doomed {
		if vmID != "" && j.Doomed[i].VMID == vmID {
			return &j.Doomed[i]
		}
	}
	return nil
}

// DoomedLaunch returns the doomed entry of a launch that no VM is known of, or nil.
func (j *Job) DoomedLaunch(attempt, number int) *Doomed {
	for i := range j.Doomed {
		if d := &j.Doomed[i]; d.VMID == "" && d.Attempt == attempt && d.Launch == number {
			return d
		}
	}
	return nil
}

// KeptVM returns the kept entry of the VM, or nil.
func (j *Job) KeptVM(vmID string) *Kept {
	for i := range j.Kept {
		if j.Kept[i].VMID == vmID {
			return &j.Kept[i]
		}
	}
	return nil
}

// SetRevision makes one write of several applications of Next: the job's
// revision becomes the one after from, and what those applications numbered
// above from becomes that revision too. changed is the Changed of before.
func (j *Job) SetRevision(from, changed int64) {
	if j.Revision <= from {
		return
	}
	to := from + 1
	j.Revision = to
	if j.Changed > changed {
		j.Changed = to
	}
	for i := range j.Outbox {
		j.Outbox[i].Revision = min(j.Outbox[i].Revision, to)
	}
	if j.Outcome != nil {
		j.Outcome.Revision = min(j.Outcome.Revision, to)
	}
}
