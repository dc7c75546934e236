package job

import (
	"slices"
	"time"
)

func (t *step) bucketReady() error {
	if t.j.Bucket == nil || t.j.Bucket.State != BucketIntended {
		return nil
	}
	t.j.Bucket.State = BucketCreated
	t.touch()
	return nil
}

func (t *step) launchIntended(e LaunchIntended) error {
	j := t.j
	switch {
	case j.State != Pending && j.State != Recovering:
		return t.refuse(RefusedBusy, "no launch is due")
	case t.now.Before(j.WakeAt):
		return t.refuse(RefusedEarly, "the job waits until %s", j.WakeAt.Format("15:04:05"))
	case j.Bucket != nil && j.Bucket.State != BucketCreated:
		return t.refuse(RefusedBusy, "its bucket does not exist yet")
	case len(e.Candidates) == 0:
		return t.refuse(RefusedBusy, "no candidates")
	}
	// Where no offers were to be had at submit, "all" is counted here.
	j.Spec = j.Spec.CountGPUs(e.Candidates)
	j.Launches++
	j.Launch = &Launch{
		Attempt: j.Attempt + 1, Number: j.Launches,
		Token:      LaunchToken(j.ID, j.Attempt+1, j.Launches),
		Candidates: e.Candidates, Deadline: e.Deadline, Intended: t.now, From: j.State,
	}
	j.State = Provisioning
	t.stopWaiting()
	t.touch()
	return nil
}

func (t *step) stopWaiting() {
	t.j.WakeAt, t.j.WaitingFor, t.j.WaitReason = zeroTime, "", ""
}

// intended says whether that launch is the one now intended.
func (t *step) intended(attempt, number int) bool {
	l := t.j.Launch
	return t.j.State == Provisioning && l != nil && l.Attempt == attempt && l.Number == number
}

func (t *step) launchReplayed(e LaunchReplayed) error {
	if !t.intended(e.Attempt, e.Number) {
		return t.refuse(RefusedBusy, "that launch is settled")
	}
	if t.now.Before(t.j.Launch.Deadline) {
		return t.refuse(RefusedEarly, "its caller may still be at it")
	}
	t.j.Launch.Deadline = e.Deadline
	t.j.Launch.Replays++
	t.touch()
	return nil
}

func (t *step) launchRefused(e LaunchRefused) error {
	if !t.intended(e.Attempt, e.Number) {
		return nil // answered otherwise meanwhile, or given up
	}
	j := t.j
	from := j.Launch.From
	if j.Launch.Replays > 0 {
		// An earlier call of this launch was never answered: what refuses its
		// replay does not prove that it made no VM.
		t.doomLaunch("launch was never answered, and its replay was refused")
	}
	j.Launch = nil
	j.State = from
	j.RefusedLaunches++
	j.RefusedInRow++
	t.touch()
	if e.Fatal {
		t.end(Failed, ReasonLaunchRefused, e.Message, nil)
		return nil
	}
	if e.For == WaitCapacity {
		t.noSpot()
	}
	wait := e.For
	if wait == WaitQuota && t.dyingVM() {
		wait = WaitPreviousVM // its room comes free when it is gone; vmGone wakes the job
	}
	t.wait(wait, e.Message)
	j.WakeAt = e.RetryAt
	if at, ok := j.FallbackAt(); ok && t.now.Before(at) && at.Before(j.WakeAt) {
		j.WakeAt = at
	}
	return nil
}

// noSpot notes since when spot capacity is wanting.
func (t *step) noSpot() {
	if t.j.Spec.Spot && t.j.NoSpotSince.IsZero() {
		t.j.NoSpotSince = t.now
	}
}

// FallbackAt is when the job may launch on-demand for want of spot capacity;
// false: never.
func (j *Job) FallbackAt() (time.Time, bool) {
	if j.Spec.Fallback == "" || j.NoSpotSince.IsZero() {
		return zeroTime, false
	}
	after, err := ParseFallback(j.Spec.Fallback)
	return j.NoSpotSince.Add(after), err == nil
}

// dyingVM says whether a VM of the job is on its way out.
func (t *step) dyingVM() bool {
	return slices.ContainsFunc(t.j.Doomed, func(d Doomed) bool { return d.VMID != "" })
}

func (t *step) wait(w Waiting, message string) {
	if t.j.WaitingFor == "" {
		t.send(sendWaiting)
	}
	t.j.WaitingFor, t.j.WaitReason = w, message
	t.touch()
}

func (t *step) launchUnanswered(e LaunchUnanswered) error {
	if !t.intended(e.Attempt, e.Number) {
		return nil
	}
	if t.now.Before(t.j.Launch.Deadline) {
		return t.refuse(RefusedEarly, "its caller may still be at it")
	}
	from := t.j.Launch.From
	t.doomLaunch("launch was never answered")
	t.j.State = from
	t.send(sendRetry)
	return nil
}

// doomLaunch gives the intended launch up: its number is used, and whatever VM
// came of it is terminated when found.
func (t *step) doomLaunch(evidence string) {
	l := t.j.Launch
	if l == nil {
		return
	}
	t.j.Attempt = l.Attempt
	d := Doomed{
		Attempt: l.Attempt, Launch: l.Number, TerminateAfter: t.now, Deadline: l.Deadline, Evidence: evidence,
	}
	if len(l.Candidates) > 0 {
		d.Cloud = l.Candidates[0].Cloud
	}
	t.j.Doomed = append(t.j.Doomed, d)
	t.j.Launch = nil
	t.touch()
}

func (t *step) postponed(e Postponed) error {
	if t.j.State != Pending && t.j.State != Recovering {
		return t.refuse(RefusedBusy, "no launch is due")
	}
	if t.j.WaitingFor == e.For && t.j.WaitReason == e.Message && t.j.WakeAt.Equal(e.Until) {
		return nil // doubled
	}
	if e.For == WaitCapacity {
		t.noSpot()
	}
	t.wait(e.For, e.Message)
	t.j.WakeAt = e.Until
	return nil
}

func (t *step) unlaunchable(e Unlaunchable) error {
	if t.j.State != Pending && t.j.State != Recovering {
		return t.refuse(RefusedBusy, "no launch is due")
	}
	t.end(Failed, ReasonLaunchRefused, e.Message, nil)
	return nil
}

// vmKnown records a live VM that carries the job's tags: the answer of a
// launch (which shows nothing yet), a claim, or a listing. It returns the VM's
// attempt if it has one.
func (t *step) vmKnown(vm VMFacts, shown bool) *Attempt {
	j := t.j
	a, d := j.AttemptOf(vm.ID), j.DoomedVM(vm.ID)
	if shown && a != nil && !a.Gone {
		t.seen(&a.Watch)
	}
	if shown && d != nil {
		t.seen(&d.Watch)
	}
	if k := j.KeptVM(vm.ID); shown && k != nil {
		t.seen(&k.Watch)
	}
	if a != nil || d != nil {
		return a
	}
	if t.intended(vm.Attempt, vm.Launch) {
		l := j.Launch
		j.Launch = nil
		j.Attempt = l.Attempt
		j.State = Starting
		j.RefusedInRow, j.NoSpotSince = 0, zeroTime
		a := t.addAttempt(vm)
		a.Seen = shown
		a.Phases.LaunchCalled = l.Intended
		a.Phases.Noticed, a.Phases.Recorded = j.LossNoticed, j.LossRecorded
		j.LossNoticed, j.LossRecorded = zeroTime, zeroTime
		return j.AttemptNo(vm.Attempt)
	}
	evidence := "orphan: its job's record does not name it"
	if d := j.DoomedLaunch(vm.Attempt, vm.Launch); d != nil {
		evidence = d.Evidence
		j.Doomed = slices.DeleteFunc(j.Doomed, func(x Doomed) bool { return x.VMID == "" && x.Attempt == vm.Attempt && x.Launch == vm.Launch })
	}
	if j.AttemptNo(vm.Attempt) == nil && vm.Attempt <= j.Attempt && vm.Attempt > 0 {
		a = t.addAttempt(vm)
		a.Doomed, a.Settled, a.EndReason = true, true, EndSuperseded
	} else if !slices.ContainsFunc(j.Others, func(o OtherVM) bool { return o.VMID == vm.ID }) {
		j.Others = append(j.Others, OtherVM{VMID: vm.ID, StartedAt: vm.StartedAt})
	}
	j.Doomed = append(j.Doomed, Doomed{
		VMID: vm.ID, Attempt: vm.Attempt, Launch: vm.Launch, Cloud: vm.Cloud, TerminateAfter: t.now,
		StartedAt: vm.StartedAt, Evidence: evidence, Watch: Watch{Seen: shown},
	})
	t.drive()
	t.touch()
	return a
}

// addAttempt inserts the history entry of a VM, in order of numbers.
func (t *step) addAttempt(vm VMFacts) *Attempt {
	j := t.j
	a := Attempt{
		Number: vm.Attempt, VMID: vm.ID, Launch: vm.Launch, Placement: vm.Placement,
		StartedAt: vm.StartedAt,
	}
	a.Phases.VMCreated = vm.StartedAt
	i, _ := slices.BinarySearchFunc(j.Attempts, a.Number, func(x Attempt, n int) int { return x.Number - n })
	j.Attempts = slices.Insert(j.Attempts, i, a)
	t.touch()
	return &j.Attempts[i]
}

// drive makes recover or cleanup look at the job's doomed VMs soon.
func (t *step) drive() {
	switch {
	case t.j.State.Terminal():
		// the sweep's cleanup looks at terminal rows with doomed VMs
	case t.j.State == Stopping:
		if t.j.Outcome.State == Cancelled {
			t.send(sendCancelled)
		} else {
			t.send(sendExited)
		}
	default:
		t.send(sendRetry)
	}
}
