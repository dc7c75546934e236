package job

import (
	"testing"
	"time"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// life drives a job by events and fails the test on a refusal.
type life struct {
	t   *testing.T
	j   Job
	now time.Time
}

func newLife(t *testing.T, s Spec) *life {
	t.Helper()
	if s.UnresponsiveAfter == 0 {
		s.UnresponsiveAfter = Duration(15 * time.Minute)
	}
	var b *Bucket
	if s.Spot {
		b = &Bucket{Name: "ac-test-1", Cloud: "fake", State: BucketIntended}
	}
	return &life{t, *New("ac-test-1", "stack", s, b, t0), t0}
}

func (l *life) do(events ...Event) *life {
	l.t.Helper()
	for _, e := range events {
		l.now = l.now.Add(time.Second)
		j, _, err := Next(l.j, e, l.now)
		if err != nil {
			l.t.Fatalf("%s: %v", e.Kind(), err)
		}
		l.j = j
	}
	return l
}

func (l *life) state(want State) *life {
	l.t.Helper()
	if l.j.State != want {
		l.t.Fatalf("state %s, want %s", l.j.State, want)
	}
	return l
}

func vmOf(attempt, launch int) VMFacts {
	return VMFacts{
		ID: "vm-" + string(rune('0'+attempt)), Cloud: "fake", Attempt: attempt, Launch: launch,
		Placement: Placement{Cloud: "fake", Zone: "z1", Type: "m"}, StartedAt: t0.Add(time.Duration(attempt) * time.Minute),
	}
}

var candidates = []Placement{{Cloud: "fake", Zone: "z1", Type: "m", Spot: true}}

func (l *life) intend() *life {
	l.now = l.now.Add(time.Hour) // past any wake_at
	return l.do(BucketReady{}, LaunchIntended{Candidates: candidates, Deadline: l.now.Add(time.Minute)})
}

func (l *life) launch() *life {
	l.intend()
	return l.do(Launched{vmOf(l.j.Launch.Attempt, l.j.Launch.Number)})
}

func (l *life) claim() *life {
	a := l.j.AttemptNo(l.j.Attempt)
	return l.do(Claimed{VM: vmOf(a.Number, a.Launch), SecretHash: "hash" + a.VMID})
}

func (l *life) start() *life {
	return l.launch().claim().do(Started{Attempt: l.j.Attempt, At: l.now, Restored: 1, CapturedAt: l.now})
}

// inState builds a job in each state, always with what makes events matter: an
// older attempt where the state can have one.
func inState(t *testing.T, s State) *life {
	l := newLife(t, Spec{Spot: true, Retries: 1})
	notice := Interrupted{VMID: "vm-1", Kind_: "interruption", Deadline: t0.Add(24 * time.Hour), At: t0}
	switch s {
	case Pending:
	case Provisioning:
		l.start().do(notice).intend()
	case Starting:
		l.start().do(notice).launch()
	case Running:
		l.start()
	case Recovering:
		l.start().do(notice)
	case Stopping:
		l.start().do(CancelRequested{})
	case Succeeded:
		l.start().do(Exited{By: 1, Attempt: 1}, VMGone{vmOf(1, 1)}, DisposalIntended{}, BucketGone{}, Finished{})
	case Failed:
		l.start().do(AgentFailed{Attempt: 1, Reason: ReasonImageNotFound, Permanent: true}, VMGone{vmOf(1, 1)}, Finished{})
	case Cancelled:
		l.start().do(CancelRequested{Now: true}, VMGone{vmOf(1, 1)}, Finished{})
	}
	return l.state(s)
}
