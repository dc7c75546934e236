package sim

import (
	"fmt"
	"time"

	"anycloud/shared/job"
)

// Violation is a broken invariant.
type Violation struct {
	Rule string
	What string
	At   time.Duration // since the schedule began
}

func (v *Violation) Error() string { return fmt.Sprintf("%s after %s: %s", v.Rule, v.At, v.What) }

// break_ records the first violation; the schedule ends with it.
func (w *world) violate(rule, format string, args ...any) {
	if w.broken == nil {
		w.broken = &Violation{rule, fmt.Sprintf(format, args...), w.s.now.Sub(epoch)}
	}
}

// truth is what the simulation knows of a VM and the control plane may not.
type truth struct {
	noticed    bool          // the cloud said interruption, going or impaired, at whatever door
	lastHeard  time.Time     // last answered call
	heardFor   time.Duration // time since then in which the control plane could hear
	born       time.Time
	claimed    bool
	done       bool // its agent sealed, exited, failed, or powered off
	terminated bool // a Terminate call was made
	silent     bool // it was doomed for its silence, and had been silent: what it says after is too late
}

// rowChecks look at every row that changed since the last step: I3, I6.
func (w *world) checkRow(old, j *job.Job) {
	if old == nil {
		return
	}
	for _, d := range j.Doomed {
		if d.VMID == "" {
			w.givenUp[launchKey{j.ID, d.Attempt, d.Launch}] = true
		}
	}
	for _, d := range j.Doomed {
		tr := w.truth[d.VMID]
		if tr != nil && old.DoomedVM(d.VMID) == nil && tr.heardFor >= j.Spec.UnresponsiveAfter.D()-time.Minute {
			tr.silent = true
		}
	}
	switch {
	case j.Revision <= old.Revision || j.Attempt < old.Attempt || j.Writer < old.Writer:
		w.violate("I3", "%s: revision %d→%d attempt %d→%d writer %d→%d", j.ID, old.Revision, j.Revision, old.Attempt, j.Attempt, old.Writer, j.Writer)
	case old.State.Terminal() && j.State != old.State && j.Run == old.Run:
		w.violate("I3", "%s left %s for %s without resubmit", j.ID, old.State, j.State)
	}
	if j.Outcome != nil && old.Outcome == nil && endedByLimit(j) {
		w.count(faultLimit)
	}
	if len(j.Attempts) > len(old.Attempts) && j.Spec.Spot && !j.Attempts[len(j.Attempts)-1].Placement.Spot {
		w.count(faultFallback)
	}
	if j.State.Terminal() && !old.State.Terminal() {
		for id, vm := range w.live {
			if vm.Job == j.ID && j.KeptVM(id) == nil {
				w.violate("I6", "%s ended as %s while %s still lives", j.ID, j.State, id)
			}
		}
		if j.State == job.Succeeded {
			w.succeeded[runKey{j.ID, j.Run}]++
			if w.exits0[runKey{j.ID, j.Run}] == 0 {
				w.violate("I6", "%s succeeded, but no container of run %d exited with 0", j.ID, j.Run)
			}
			if n := w.succeeded[runKey{j.ID, j.Run}]; n > 1 {
				w.violate("I6", "%s succeeded %d times in run %d", j.ID, n, j.Run)
			}
		}
	}
}

func endedByLimit(j *job.Job) bool {
	switch j.Outcome.Reason {
	case job.ReasonMaxRuntime, job.ReasonMaxPreemptions, job.ReasonDeadline, job.ReasonMaxCost:
		return true
	}
	return false
}

type launchKey struct {
	job             string
	attempt, launch int
}

type runKey struct {
	job string
	run int
}

// checkVMs is I1: every live VM has a reason in its job's row.
func (w *world) checkVMs() {
	for id, vm := range w.live {
		j := w.rows[vm.Job]
		if j == nil {
			w.violate("I1", "%s lives for %q, which has no row", id, vm.Job)
			continue
		}
		if named(j, id, vm.Attempt, vm.Launch) {
			continue
		}
		w.violate("I1", "%s (attempt %d, launch %d) lives, and %s in %s (attempt %d, writer %d) names it in no way", id, vm.Attempt, vm.Launch, j.ID, j.State, j.Attempt, j.Writer)
	}
}

func named(j *job.Job, id string, attempt, launch int) bool {
	if a := j.AttemptOf(id); a != nil && !a.Gone && (a.Number == j.Writer || a.Number == j.Attempt) {
		return true
	}
	if j.DoomedVM(id) != nil || j.KeptVM(id) != nil || j.DoomedLaunch(attempt, launch) != nil {
		return true
	}
	l := j.Launch
	return l != nil && l.Attempt == attempt && l.Number == launch
}

// checkTerminate is I5: a Terminate call needs evidence in the world, not only
// in the row.
func (w *world) checkTerminate(vmID string) {
	vm, live := w.live[vmID]
	if !live {
		return
	}
	tr := w.truth[vmID]
	if tr.terminated {
		return
	}
	tr.terminated = true
	j := w.rows[vm.Job]
	switch {
	case j == nil:
		w.violate("I5", "%s was terminated, and its job has no row", vmID)
	case j.Outcome != nil || tr.noticed || tr.done:
	case vm.Attempt < j.Writer: // superseded by one that may commit
	case w.givenUp[launchKey{vm.Job, vm.Attempt, vm.Launch}]: // never answered, found late
	case j.AttemptOf(vmID) == nil: // never an attempt's VM
	case !tr.claimed && w.s.now.Sub(tr.born) >= job.UnclaimedAfter:
	case !tr.claimed && vm.Attempt < j.Attempt: // never worked, superseded
	case tr.silent:
	default:
		why := "not doomed"
		if d := j.DoomedVM(vmID); d != nil {
			why = d.Evidence
		}
		w.violate("I5", "%s (attempt %d of %s, %s) was terminated without evidence (the row says: %s); silent for %s of hearing time", vmID, vm.Attempt, j.ID, j.State, why, tr.heardFor)
	}
}

// unresponsiveAfter is what the simulated users ask for.
const unresponsiveAfter = 15 * time.Minute

// startContainer is I8, and the restore half of I2: nothing acknowledged may be
// missing from what is restored.
func (w *world) startContainer(a *agent, from restored) *container {
	for _, c := range w.running {
		if c.job == a.jobID {
			w.violate("I8", "attempt %d of %s starts while attempt %d still runs", a.attempt, a.jobID, c.attempt)
		}
	}
	j := w.rows[a.jobID]
	if want := w.acked[a.jobID]; a.spec.Spot && want.attempt >= j.FreshFrom && from.progress < want.progress {
		w.violate("I2", "attempt %d of %s restored %s (commit %d), but commit %d of attempt %d with %s was acknowledged",
			a.attempt, a.jobID, from.progress, from.number, want.number, want.attempt, want.progress)
	}
	c := &container{job: a.jobID, attempt: a.attempt, base: from.progress, startedAt: w.s.now}
	w.running[a.vmID] = c
	w.scheduleExit(a, c)
	return c
}

// commit is what the simulation knows of an acknowledged commit.
type commit struct {
	number   int
	attempt  int
	progress time.Duration
	exit     *int
}

// checkEnd is I4, I7 and the rest of I6, once faults have stopped and the
// world came to rest.
func (w *world) checkEnd() {
	for _, id := range w.jobs {
		j := w.rows[id]
		if !j.State.Terminal() {
			w.violate("I4", "%s is still %s (waiting for %q until %s; doomed %d)", id, j.State, j.WaitingFor, j.WakeAt.Sub(epoch), len(j.Doomed))
			continue
		}
		if last := w.acked[id]; last.exit != nil && *last.exit == 0 && last.attempt >= j.RunFrom && j.State == job.Failed && !endedByLimit(j) {
			w.violate("I6", "%s: attempt %d committed exit 0, and the job ended as %s", id, last.attempt, j.State)
		}
		w.checkSeconds(j)
		if j.Bucket != nil {
			exists := w.bucketExists(id)
			kept := j.Spec.PersistBucket || j.State != job.Succeeded && j.Bucket.State != job.BucketDisposed
			if exists && !kept {
				w.violate("I4", "%s leaked its bucket (%s)", id, j.Bucket.State)
			}
		}
	}
	for id, vm := range w.live {
		if j := w.rows[vm.Job]; j == nil || j.KeptVM(id) == nil {
			w.violate("I4", "%s of %s leaked", id, vm.Job)
		}
	}
}

// checkSeconds is I7: the job's VM-seconds are the cloud's own.
func (w *world) checkSeconds(j *job.Job) {
	var want, got time.Duration
	for _, vm := range w.cloud.All() {
		if vm.Job == j.ID && !vm.Ends.IsZero() {
			want += vm.Ends.Sub(vm.Created)
		}
	}
	for i := range j.Attempts {
		if a := &j.Attempts[i]; a.Gone {
			got += a.EndedAt.Sub(a.StartedAt)
		}
	}
	for _, o := range j.Others {
		got += o.EndedAt.Sub(o.StartedAt)
	}
	if d := (want - got).Abs(); d > time.Second {
		w.violate("I7", "%s: the record counts %s of VMs, the cloud %s", j.ID, got, want)
	}
}
