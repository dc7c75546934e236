package job

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// TestRandomWalks gives long random sequences of events, most of them aimed at
// what the record names, and holds every step to the record's own rules. All
// documented transitions must be met on the way.
func TestRandomWalks(t *testing.T) {
	met := map[Transition]bool{}
	for seed := range uint64(6000) {
		walk(t, seed, met)
	}
	met[Transition{From: Starting, On: "Silence", To: Stopping}] = neverClaims(t)
	for _, x := range Transitions {
		x.When = ""
		if !met[x] {
			t.Errorf("no walk met %s on %s to %s", x.From, x.On, x.To)
		}
	}
}

// neverClaims launches until the job gives up.
func neverClaims(t *testing.T) bool {
	l := newLife(t, Spec{Spot: true})
	for range MaxAgentFailures - 1 {
		l.launch().do(Silence{l.j.Attempt, 1, UnclaimedAfter}).state(Recovering)
	}
	l.launch().do(Silence{l.j.Attempt, 1, UnclaimedAfter}).state(Stopping)
	return l.j.Outcome.Reason == ReasonVMLost
}

func walk(t *testing.T, seed uint64, met map[Transition]bool) {
	r := rand.New(rand.NewPCG(seed, 1))
	s := Spec{Spot: r.IntN(3) > 0, Retries: r.IntN(3), RestartOnLoss: r.IntN(2) == 0, Persist: r.IntN(4) == 0, PersistBucket: r.IntN(3) == 0}
	if n := r.IntN(6); n < 3 {
		s.MaxPreemptions = &n
	}
	l := newLife(t, s)
	for range 60 {
		l.now = l.now.Add(time.Duration(r.IntN(400)) * time.Second)
		e := randomEvent(r, &l.j, l.now)
		before := l.j.Clone()
		next, _, err := Next(l.j, e, l.now)
		if !reflect.DeepEqual(&l.j, before) {
			t.Fatalf("seed %d: %s changed its input", seed, e.Kind())
		}
		if err != nil {
			continue
		}
		if next.State != before.State {
			if !documented(before.State, e.Kind(), next.State) {
				t.Fatalf("seed %d: undocumented transition: %s on %s to %s", seed, before.State, e.Kind(), next.State)
			}
			met[Transition{From: before.State, On: e.Kind(), To: next.State}] = true
		}
		checkRecord(t, seed, e, before, &next)
		l.j = next
	}
}

func checkRecord(t *testing.T, seed uint64, e Event, old, j *Job) {
	t.Helper()
	bad := func(what string) {
		t.Helper()
		t.Fatalf("seed %d: after %s in %s: %s\n%+v", seed, e.Kind(), old.State, what, j)
	}
	switch {
	case j.Revision < old.Revision || j.Attempt < old.Attempt || j.Writer < old.Writer || j.Run < old.Run:
		bad("a number went back")
	case j.Writer > j.Attempt:
		bad("the writer is above the newest attempt")
	case (j.Outcome != nil) != (j.State == Stopping || j.State.Terminal()):
		bad("outcome and state disagree")
	case (j.Launch != nil) != (j.State == Provisioning):
		bad("launch and state disagree")
	case old.State.Terminal() && j.State != old.State && e.Kind() != "Resubmitted":
		bad("a terminal state was left")
	case j.State.Terminal() && !old.State.Terminal() && len(j.Doomed) > 0:
		bad("ended with a VM not confirmed gone")
	case old.Bucket != nil && old.Bucket.State == BucketDisposing && j.Bucket.State != BucketDisposing && j.Bucket.State != BucketDisposed:
		bad("a disposal was taken back")
	}
	for i := range j.Attempts {
		a := &j.Attempts[i]
		if i > 0 && j.Attempts[i-1].Number >= a.Number {
			bad("attempts out of order")
		}
		if a.Doomed && !a.Gone && j.DoomedVM(a.VMID) == nil {
			bad("a doomed VM was forgotten")
		}
		live := !a.Gone && !a.Doomed && !a.Kept
		if live && a.Number != j.Writer && a.Number != j.Attempt {
			bad("a VM lives for nothing") // I1
		}
	}
}

func randomEvent(r *rand.Rand, j *Job, now time.Time) Event {
	n := max(1, j.Attempt-r.IntN(2))
	vm := VMFacts{ID: "vm-none", Cloud: "fake", Attempt: n, Launch: r.IntN(j.Launches + 1), StartedAt: now}
	if a := j.AttemptNo(n); a != nil && r.IntN(8) > 0 {
		vm = VMFacts{ID: a.VMID, Cloud: "fake", Attempt: n, Launch: a.Launch, StartedAt: a.StartedAt}
	}
	ln, num := n, vm.Launch
	if l := j.Launch; l != nil && r.IntN(6) > 0 {
		ln, num = l.Attempt, l.Number
		if r.IntN(2) == 0 {
			vm = VMFacts{ID: "vm-" + l.Token[:6], Cloud: "fake", Attempt: ln, Launch: num, StartedAt: now}
		}
	}
	kinds := []string{"interruption", "going", "impaired"}
	switch r.IntN(32) {
	case 0, 1, 2:
		return BucketReady{}
	case 3, 4, 5:
		return LaunchIntended{candidates, now.Add(time.Minute)}
	case 6:
		return LaunchReplayed{ln, num, now.Add(time.Minute)}
	case 7, 8:
		return Launched{vm}
	case 9:
		return LaunchRefused{Attempt: ln, Number: num, For: []Waiting{WaitQuota, WaitCapacity}[r.IntN(2)], RetryAt: now.Add(time.Minute), Fatal: r.IntN(4) == 0}
	case 10:
		return LaunchUnanswered{ln, num}
	case 11:
		return []Event{Postponed{WaitCapacity, "none", now.Add(time.Minute)}, Unlaunchable{"never"}}[r.IntN(2)]
	case 12, 13, 14:
		return Claimed{vm, "hash" + vm.ID}
	case 15:
		return Reported{Attempt: n, Checkpoint: &Checkpoint{Latest: r.IntN(20)}, SaveDone: j.SaveRequest}
	case 16, 17, 18:
		return Started{Attempt: j.Writer, At: now, Restored: r.IntN(3), CapturedAt: now}
	case 19:
		return Sealed{n}
	case 20:
		return Exited{By: n, Attempt: max(1, n-r.IntN(2)), Code: r.IntN(2), OOM: r.IntN(2) == 0, StoppedAt: now}
	case 21:
		return AgentFailed{n, ReasonImageNotFound, "no", r.IntN(3) == 0}
	case 22:
		return Interrupted{vm.ID, kinds[r.IntN(3)], now.Add(2 * time.Minute), now, false}
	case 23:
		return []Event{RebalanceAdvised{vm.ID, now}, SaveRequested{}}[r.IntN(2)]
	case 24:
		return VMGone{vm}
	case 25:
		return VMSeen{vm}
	case 26:
		a := j.AttemptOf(vm.ID)
		if a != nil && a.AbsentCount == 0 && !a.Gone {
			first, _, _ := Next(*j, VMMissed{vm.ID, now.Unix()/30 - 1}, now)
			*j = first
		}
		return VMMissed{vm.ID, now.Unix() / 30}
	case 27:
		return LaunchMissed{n, num, now.Unix() / 30}
	case 28:
		return Silence{n, now.Unix() / 30, 10 * time.Minute}
	case 29:
		return []Event{CancelRequested{r.IntN(2) == 0}, LimitReached{ReasonDeadline, "late"}}[r.IntN(2)]
	case 30:
		if len(j.Doomed) > 0 {
			if d := j.Doomed[0]; d.VMID != "" {
				return VMGone{VMFacts{ID: d.VMID, Attempt: d.Attempt, Launch: d.Launch}}
			} else {
				return LaunchMissed{d.Attempt, d.Launch, now.Unix() / 30}
			}
		}
		if j.Bucket != nil && j.Bucket.State == BucketDisposing {
			return BucketGone{}
		}
		return []Event{DisposalIntended{}, Finished{}}[r.IntN(2)]
	default:
		return []Event{Resubmitted{Spec: j.Spec, Fresh: r.IntN(3) == 0}, Finished{}}[r.IntN(2)]
	}
}
