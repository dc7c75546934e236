package job

import (
	"errors"
	"testing"
	"time"
)

func refusedAs(t *testing.T, l *life, e Event, code string) {
	t.Helper()
	_, _, err := Next(l.j, e, l.now)
	var r *Refused
	if !errors.As(err, &r) || r.Code != code {
		t.Errorf("%s in %s: %v, want refused %s", e.Kind(), l.j.State, err, code)
	}
}

// TestNoticeWindow: the writer stays N while it dies on notice and N+1 boots,
// and moves when N sealed.
func TestNoticeWindow(t *testing.T) {
	l := newLife(t, Spec{Spot: true}).start()
	deadline := l.now.Add(2 * time.Minute)
	l.do(Interrupted{VMID: "vm-1", Kind_: "interruption", Deadline: deadline, At: l.now}).state(Recovering)
	if got := l.j.DoomedVM("vm-1").TerminateAfter; !got.Equal(deadline) {
		t.Fatalf("terminate_after %v, want the deadline %v", got, deadline)
	}
	l.do(LaunchIntended{candidates, l.now.Add(time.Minute)}).state(Provisioning)
	l.do(Launched{vmOf(2, 2)}).claim().state(Starting)
	if l.j.Writer != 1 {
		t.Fatalf("writer %d while attempt 1 still works, want 1", l.j.Writer)
	}
	refusedAs(t, l, Started{Attempt: 2, At: l.now}, RefusedSuperseded)
	l.do(Sealed{1})
	if l.j.Writer != 2 {
		t.Fatalf("writer %d after the seal, want 2", l.j.Writer)
	}
	if got := l.j.DoomedVM("vm-1").TerminateAfter; got.After(l.now) {
		t.Errorf("sealed VM waits until %v", got)
	}
	l.do(Started{Attempt: 2, At: l.now, Restored: 5, CapturedAt: l.now}).state(Running)
	if l.j.Preemptions != 1 {
		t.Errorf("preemptions %d, want 1", l.j.Preemptions)
	}
}

// TestExitInsideTheWindow: an exit 0 of the dying writer succeeds the job and
// dooms the replacement, wherever that one is.
func TestExitInsideTheWindow(t *testing.T) {
	for _, s := range []State{Recovering, Provisioning, Starting} {
		l := inState(t, s).do(Exited{By: 1, Attempt: 1}).state(Stopping)
		if l.j.Outcome.State != Succeeded {
			t.Errorf("%s: outcome %s", s, l.j.Outcome.State)
		}
		want := map[State]int{Recovering: 1, Provisioning: 2, Starting: 2}[s]
		if len(l.j.Doomed) != want {
			t.Errorf("%s: doomed %+v, want %d", s, l.j.Doomed, want)
		}
	}
}

// TestSuccessorReportsExit: N exited and committed, but could not report.
func TestSuccessorReportsExit(t *testing.T) {
	l := newLife(t, Spec{Spot: true}).start().do(VMGone{vmOf(1, 1)}).launch().claim()
	refusedAs(t, l, Exited{By: 1, Attempt: 1}, RefusedSuperseded)
	l.do(Exited{By: 2, Attempt: 1}).state(Stopping)
	if l.j.Outcome.State != Succeeded {
		t.Fatalf("outcome %+v", l.j.Outcome)
	}
	l = newLife(t, Spec{Spot: true, Retries: 1}).start().do(VMGone{vmOf(1, 1)}).launch().claim()
	l.do(Exited{By: 2, Attempt: 1, Code: 3}).state(Starting).do(Started{Attempt: 2, At: l.now}).state(Running)
}

// TestExitBeatsCancel: work that was done when the wish to end it arrived counts.
func TestExitBeatsCancel(t *testing.T) {
	l := newLife(t, Spec{Spot: true}).start().do(CancelRequested{}, Exited{By: 1, Attempt: 1}, VMGone{vmOf(1, 1)}, DisposalIntended{}, BucketGone{}, Finished{})
	l.state(Succeeded)
	l = newLife(t, Spec{Spot: true}).start().do(CancelRequested{}, Exited{By: 1, Attempt: 1, Code: 9}, VMGone{vmOf(1, 1)}, Finished{})
	l.state(Cancelled)
	if l.j.KeepUntil.IsZero() {
		t.Error("a cancelled job's bucket has no keep_until")
	}
}

// TestCancelGivesTime: terminate_after leaves the final commit its time, and a
// notice's sooner deadline stays.
func TestCancelGivesTime(t *testing.T) {
	l := newLife(t, Spec{Spot: true}).start().do(CancelRequested{})
	if got := l.j.DoomedVM("vm-1").TerminateAfter.Sub(l.now); got != 20*time.Second+FinishSlack {
		t.Errorf("terminate_after in %v", got)
	}
	l.do(CancelRequested{Now: true})
	if l.j.DoomedVM("vm-1").TerminateAfter.After(l.now) {
		t.Error("--now does not terminate at once")
	}
	l = newLife(t, Spec{Spot: true}).start()
	soon := l.now.Add(time.Minute)
	l.do(Interrupted{VMID: "vm-1", Kind_: "interruption", Deadline: soon}, CancelRequested{})
	if got := l.j.DoomedVM("vm-1").TerminateAfter; !got.Equal(soon) {
		t.Errorf("terminate_after %v, want the notice's deadline %v", got, soon)
	}
}

// TestUnansweredLaunchStaysDoomed until found or settled.
func TestUnansweredLaunchStaysDoomed(t *testing.T) {
	l := newLife(t, Spec{Spot: true}).intend()
	refusedAs(t, l, LaunchUnanswered{1, 1}, RefusedEarly)
	l.now = l.now.Add(2 * time.Minute)
	l.do(LaunchUnanswered{1, 1}).state(Pending)
	if l.j.Attempt != 1 || l.j.DoomedLaunch(1, 1) == nil {
		t.Fatalf("attempt %d, doomed %+v", l.j.Attempt, l.j.Doomed)
	}
	found := *l
	found.do(VMSeen{vmOf(1, 1)})
	if d := found.j.DoomedVM("vm-1"); d == nil || found.j.DoomedLaunch(1, 1) != nil {
		t.Errorf("found VM not doomed: %+v", found.j.Doomed)
	}
	l.do(LaunchMissed{1, 1, 1}, LaunchMissed{1, 1, 1}, LaunchMissed{1, 1, 2})
	if len(l.j.Doomed) != 1 {
		t.Fatal("given up before 10 min of empty listings")
	}
	l.now = l.now.Add(SettleAfter)
	l.do(LaunchMissed{1, 1, 30})
	if len(l.j.Doomed) != 0 {
		t.Errorf("still doomed: %+v", l.j.Doomed)
	}
}

// TestRefusedReplay: what refuses a replay says nothing of the first call.
func TestRefusedReplay(t *testing.T) {
	l := newLife(t, Spec{Spot: true}).intend()
	l.now = l.now.Add(2 * time.Minute)
	l.do(LaunchReplayed{1, 1, l.now.Add(time.Minute)}, LaunchRefused{Attempt: 1, Number: 1, For: WaitCapacity, RetryAt: l.now}).state(Pending)
	if l.j.DoomedLaunch(1, 1) == nil || l.j.Attempt != 1 {
		t.Errorf("attempt %d, doomed %+v", l.j.Attempt, l.j.Doomed)
	}
}

// TestAbsence: two sweeps in a row for a VM once seen; never by a doubled tick.
func TestAbsence(t *testing.T) {
	l := newLife(t, Spec{Spot: true}).start()
	l.do(VMMissed{"vm-1", 5}, VMMissed{"vm-1", 5}).state(Running)
	l.do(VMSeen{vmOf(1, 1)}, VMMissed{"vm-1", 6}).state(Running)
	l.do(VMMissed{"vm-1", 7}).state(Recovering)
	if a := l.j.AttemptNo(1); !a.Gone || a.EndReason != EndVanished {
		t.Errorf("%+v", a)
	}
	// Never shown: 10 minutes.
	l = newLife(t, Spec{Spot: true}).launch()
	vm := l.j.AttemptNo(1)
	l.now = vm.StartedAt.Add(time.Minute)
	l.do(VMMissed{"vm-1", 1}, VMMissed{"vm-1", 2}, VMMissed{"vm-1", 3}).state(Starting)
	l.now = vm.StartedAt.Add(SettleAfter)
	l.do(VMMissed{"vm-1", 4}).state(Recovering)
}

// TestSilence counts sweeps: a doubled tick counts once, a word resets.
func TestSilence(t *testing.T) {
	l := newLife(t, Spec{Spot: true}).start()
	for n := range int64(29) {
		l.do(Silence{1, n + 1, 30 * time.Second}, Silence{1, n + 1, 30 * time.Second})
	}
	l.state(Running)
	heard := *l
	heard.do(Reported{Attempt: 1}, Silence{1, 31, 30 * time.Second}).state(Running)
	l.do(Silence{1, 30, 30 * time.Second}).state(Recovering)
	if l.j.AttemptNo(1).EndReason != EndUnresponsive {
		t.Errorf("%+v", l.j.AttemptNo(1))
	}
	l = newLife(t, Spec{Spot: true, UnresponsiveAfter: Never}).start()
	for n := range int64(1000) {
		l.do(Silence{1, n + 1, 30 * time.Second})
	}
	l.state(Running)
}

// TestQuotaWaitsForTheDying: a second VM that quota refuses waits for the first to go.
func TestQuotaWaitsForTheDying(t *testing.T) {
	l := newLife(t, Spec{Spot: true}).start().do(Interrupted{VMID: "vm-1", Kind_: "interruption", Deadline: t0.Add(time.Hour * 30)})
	l.intend().do(LaunchRefused{Attempt: 2, Number: 2, For: WaitQuota, RetryAt: l.now.Add(time.Hour)}).state(Recovering)
	if l.j.WaitingFor != WaitPreviousVM || l.j.Attempt != 1 {
		t.Fatalf("waits for %q at attempt %d", l.j.WaitingFor, l.j.Attempt)
	}
	l.do(VMGone{vmOf(1, 1)})
	if !l.j.WakeAt.IsZero() {
		t.Errorf("still waits until %v", l.j.WakeAt)
	}
	l.do(LaunchIntended{candidates, l.now}).state(Provisioning)
	if l.j.Launch.Attempt != 2 || l.j.Launch.Number != 3 {
		t.Errorf("launch %+v: a refused launch must not use the attempt's number", l.j.Launch)
	}
}

// TestWithoutBucket: no fence, so the writer moves only when the old VM is gone,
// and a loss is restarted only where that is allowed.
func TestWithoutBucket(t *testing.T) {
	l := newLife(t, Spec{}).start().do(VMGone{vmOf(1, 1)}).state(Stopping)
	if l.j.Outcome.Reason != ReasonVMLost {
		t.Errorf("reason %s", l.j.Outcome.Reason)
	}
	l = newLife(t, Spec{RestartOnLoss: true}).start().do(Interrupted{VMID: "vm-1", Kind_: "interruption", Deadline: t0.Add(time.Hour * 30)})
	l.launch().claim().do(Sealed{1})
	if l.j.Writer != 1 {
		t.Fatalf("writer %d before the old VM is gone", l.j.Writer)
	}
	l.do(VMGone{vmOf(1, 1)})
	if l.j.Writer != 2 {
		t.Errorf("writer %d", l.j.Writer)
	}
}

// TestPersist keeps the VM after the end, until cancel releases it.
func TestPersist(t *testing.T) {
	l := newLife(t, Spec{Spot: true, Persist: true}).start().do(Exited{By: 1, Attempt: 1}, DisposalIntended{}, BucketGone{}, Finished{}).state(Succeeded)
	if len(l.j.Kept) != 1 || !l.j.Active() {
		t.Fatalf("kept %+v", l.j.Kept)
	}
	l.do(CancelRequested{}).state(Succeeded)
	if len(l.j.Kept) != 0 || l.j.DoomedVM("vm-1") == nil {
		t.Errorf("kept %+v doomed %+v", l.j.Kept, l.j.Doomed)
	}
}

// TestKeptVMOfAnEarlierRun neither blocks the next run nor counts as its loss.
func TestKeptVMOfAnEarlierRun(t *testing.T) {
	l := newLife(t, Spec{Persist: true}).start().do(Exited{By: 1, Attempt: 1}, Finished{}).state(Succeeded)
	l.do(Resubmitted{Spec: l.j.Spec}).launch().claim()
	if l.j.Writer != 2 {
		t.Fatalf("writer %d", l.j.Writer)
	}
	l.do(Started{Attempt: 2, At: l.now}, VMGone{vmOf(1, 1)}).state(Running)
	if l.j.Preemptions != 0 || len(l.j.Kept) != 0 {
		t.Errorf("preemptions %d, kept %v", l.j.Preemptions, l.j.Kept)
	}
}

// TestResubmit goes on with the same numbers, counts limits anew, and guards
// against late repeats by revision.
func TestResubmit(t *testing.T) {
	l := inState(t, Failed)
	seen := l.j.Revision
	l.do(Resubmitted{Spec: l.j.Spec}).state(Pending)
	if l.j.Guard(seen) {
		t.Error("a late repeat of the same wish passes the guard")
	}
	if !l.j.Guard(l.j.Revision) || !l.j.Guard(0) {
		t.Error("the current revision does not pass")
	}
	l.start()
	if l.j.Attempt != 2 || l.j.RunFrom != 2 || l.j.Run != 2 {
		t.Errorf("attempt %d run %d from %d", l.j.Attempt, l.j.Run, l.j.RunFrom)
	}
}

// TestLostSeconds counts from the capture of what was restored to the end of
// the container before.
func TestLostSeconds(t *testing.T) {
	l := newLife(t, Spec{Spot: true}).start()
	vm := vmOf(1, 1)
	vm.EndedAt = l.now.Add(30 * time.Second)
	captured := vm.EndedAt.Add(-20 * time.Second)
	l.do(VMGone{vm}).launch().claim().do(Started{Attempt: 2, At: l.now, Restored: 4, CapturedAt: captured})
	if got := l.j.AttemptNo(2).LostSeconds; got != 20 {
		t.Errorf("lost %v s, want 20", got)
	}
}
