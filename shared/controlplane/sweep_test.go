package controlplane

import (
	"context"
	"errors"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

// TestLogIsAVoice: an agent that cannot reach the control plane and commits is
// not silent; once its log rests, it is.
func TestLogIsAVoice(t *testing.T) {
	s := newStack(t)
	id := s.running(job.Spec{Spot: true, UnresponsiveAfter: job.Duration(2 * time.Minute)})
	commits, looks := true, 0
	s.NewestEntry = func(context.Context, bucket.Objects) (time.Time, error) {
		looks++
		if !commits {
			return time.Time{}, errors.New("not readable")
		}
		return s.now.Add(-5 * time.Second), nil
	}
	s.tick()
	_, err := s.report(id, api.Report{})
	s.must(err)
	if before := looks; before == 0 {
		t.Fatal("the log was not asked")
	}
	for range 20 {
		s.tick()
	}
	if s.state(id, job.Running); s.job(id).Attempts[0].SilentSweeps != 0 {
		t.Errorf("%d silent sweeps", s.job(id).Attempts[0].SilentSweeps)
	}
	commits = false
	for range 4 {
		s.tick()
	}
	if got := s.job(id).AttemptNo(1).EndReason; got != job.EndUnresponsive {
		t.Errorf("end reason %q", got)
	}
}

// TestNotices of every kind, by VM id, for jobs with and without that VM alive.
func TestNotices(t *testing.T) {
	for kind, want := range map[preempt.Kind]job.State{
		preempt.Interruption: job.Recovering, preempt.Going: job.Recovering, preempt.Impaired: job.Recovering, preempt.Gone: job.Recovering, preempt.Rebalance: job.Running,
	} {
		s := newStack(t)
		id := s.running(job.Spec{Spot: true})
		n := preempt.Notice{VMID: s.vm(id), Kind: kind, At: s.now, Deadline: s.now.Add(time.Minute)}
		for range 2 {
			s.must(s.Notice(t.Context(), n))
			s.state(id, want)
		}
		if j := s.job(id); j.Preemptions > 1 || (want == job.Recovering) != (j.Preemptions == 1) {
			t.Errorf("%s: %d preemptions", kind, j.Preemptions)
		}
		if kind == preempt.Rebalance {
			place := s.job(id).Attempts[0].Placement.Pool()
			offers, err := s.candidates(t.Context(), s.job(id))
			s.must(err)
			if offers[0].Pool() == place {
				t.Error("the pool at risk is still the first choice")
			}
		}
	}
}
