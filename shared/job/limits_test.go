package job

import (
	"testing"
	"time"
)

func TestLimits(t *testing.T) {
	two := 2
	l := newLife(t, Spec{Spot: true, MaxRuntime: Duration(time.Hour), MaxPreemptions: &two, Deadline: t0.Add(1000 * time.Hour), MaxCost: 10})
	l.start()
	used := func(r Reason, at time.Time) float64 {
		t.Helper()
		for _, x := range l.j.Limits(at) {
			if x.Reason == r {
				return x.Used
			}
		}
		t.Fatalf("no limit %s", r)
		return 0
	}
	begun := l.j.Attempts[0].ContainerStartedAt
	if u := used(ReasonMaxRuntime, begun.Add(48*time.Minute)); u < 0.799 || u > 0.801 {
		t.Errorf("48 min of an hour are %g", u)
	}
	if d := l.j.LimitDue(begun.Add(59 * time.Minute)); d != nil {
		t.Errorf("due: %+v", d)
	}
	if d := l.j.LimitDue(begun.Add(61 * time.Minute)); d == nil || d.Reason != ReasonMaxRuntime {
		t.Errorf("due: %+v", d)
	}
	// Time without a container does not count, time on every attempt does.
	l.do(VMGone{VMFacts{ID: "vm-1", EndedAt: begun.Add(30 * time.Minute)}})
	if d := l.j.LimitDue(begun.Add(10 * time.Hour)); d != nil {
		t.Errorf("due: %+v", d)
	}
	l.start()
	begun = l.j.Attempts[1].ContainerStartedAt
	if d := l.j.LimitDue(begun.Add(31 * time.Minute)); d == nil || d.Reason != ReasonMaxRuntime {
		t.Errorf("due: %+v", d)
	}
	l.j.Attempts[1].Placement.Price = 20 // USD an hour
	if d := l.j.LimitDue(l.j.Attempts[1].StartedAt.Add(31 * time.Minute)); d == nil || d.Reason != ReasonMaxRuntime && d.Reason != ReasonMaxCost {
		t.Errorf("due: %+v", d)
	}
	if u := used(ReasonMaxCost, l.j.Attempts[1].StartedAt.Add(15*time.Minute)); u < 0.499 || u > 0.501 {
		t.Errorf("5 USD of 10 are %g", u)
	}
	if d := l.j.LimitDue(t0.Add(1001 * time.Hour)); d == nil {
		t.Error("the deadline passed")
	}
	l.do(LimitReached{ReasonDeadline, "its deadline"}).state(Stopping)
	w := l.j.AttemptNo(2)
	if w.EndReason != EndLimit || l.j.DoomedVM(w.VMID).TerminateAfter.Sub(l.now) != 20*time.Second+FinishSlack {
		t.Errorf("no time for the final commit: %+v", l.j.Doomed)
	}
	if l.j.Outcome.State != Failed || l.j.Outcome.Reason != ReasonDeadline {
		t.Errorf("%+v", l.j.Outcome)
	}
	// A container that ends well in that time has done its work.
	l.do(Exited{By: 2, Attempt: 2}, VMGone{vmOf(2, 2)}, DisposalIntended{}, BucketGone{}, Finished{}).state(Succeeded)
}

func TestMaxPreemptions(t *testing.T) {
	one := 1
	l := newLife(t, Spec{Spot: true, MaxPreemptions: &one})
	warned := func(id string) Interrupted {
		return Interrupted{VMID: id, Kind_: "interruption", Deadline: l.now.Add(10 * time.Hour), At: l.now}
	}
	l.start().do(warned("vm-1")).state(Recovering).do(VMGone{vmOf(1, 1)})
	l.start().do(warned("vm-2")).state(Stopping)
	if l.j.Outcome.Reason != ReasonMaxPreemptions {
		t.Errorf("%+v", l.j.Outcome)
	}
	// Counted anew after a resubmit.
	l.do(Sealed{2}, VMGone{vmOf(2, 2)}, Finished{}, Resubmitted{Spec: l.j.Spec})
	l.start().do(warned("vm-3")).state(Recovering)
}

func TestFallback(t *testing.T) {
	l := newLife(t, Spec{Spot: true, Fallback: "on-demand=10m"})
	l.intend()
	refused := l.now
	l.do(LaunchRefused{Attempt: 1, Number: 1, For: WaitCapacity, RetryAt: l.now.Add(2 * time.Hour)})
	at, ok := l.j.FallbackAt()
	if !ok || at.Sub(refused) > 11*time.Minute || !l.j.WakeAt.Equal(at) {
		t.Fatalf("falls back at %s, wakes at %s, refused at %s", at, l.j.WakeAt, refused)
	}
	l.intend().do(LaunchRefused{Attempt: 1, Number: 2, For: WaitCapacity, RetryAt: l.now.Add(time.Minute)})
	if again, _ := l.j.FallbackAt(); !again.Equal(at) {
		t.Errorf("another refusal puts it off to %s", again)
	}
	l.launch()
	if _, ok := l.j.FallbackAt(); ok {
		t.Error("the next loss does not look for spot capacity")
	}
}

func TestParseFallback(t *testing.T) {
	for s, want := range map[string]time.Duration{"on-demand": FallbackAfter, "on-demand=10m": 10 * time.Minute, "on-demand=0s": 0} {
		if d, err := ParseFallback(s); err != nil || d != want {
			t.Errorf("%s: %s, %v", s, d, err)
		}
	}
	for _, s := range []string{"", "spot", "on-demand=", "on-demand=-5m", "ondemand", "on-demand=soon"} {
		if d, err := ParseFallback(s); err == nil {
			t.Errorf("%q is read as %s", s, d)
		}
	}
}
