package controlplane

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/bucket/membucket"
	"anycloud/shared/cloud/fakecloud"
	"anycloud/shared/job"
	"anycloud/shared/store/memstore"
)

func TestResubmit(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true, Retries: 1, Env: map[string]string{"A": "1"}})
	_, err := s.Resubmit(ctx, id, 0, api.ResubmitRequest{})
	refused(t, err, http.StatusConflict, "cancel it first")
	s.end(id, 3) // retried
	s.must(s.Recover(ctx, id))
	s.pass(time.Hour)
	s.must(s.Recover(ctx, id))
	_, err = s.claim(s.vm(id))
	s.must(err)
	_, err = s.report(id, api.Report{Started: &api.ContainerStarted{At: s.now}})
	s.must(err)
	s.end(id, 3)
	s.state(id, job.Failed)
	seen := s.job(id)
	if seen.Failures != 2 || seen.Attempt != 2 {
		t.Fatalf("failures %d, attempt %d", seen.Failures, seen.Attempt)
	}

	// Only what is named changes; a repeat that arrives late hits no later run.
	ask := api.ResubmitRequest{Spec: &job.Spec{Image: "acme/fixed"}, Set: []string{"image", "retries"}}
	v, err := s.Resubmit(ctx, id, seen.Revision, ask)
	s.must(err)
	j := s.job(id)
	if v.Run != 2 || j.Spec.Image != "acme/fixed" || j.Spec.Retries != 0 || j.Spec.Env["A"] != "1" || j.RunFailures != 0 || j.Failures != 2 {
		t.Errorf("%+v", j.Spec)
	}
	_, err = s.Resubmit(ctx, id, seen.Revision, ask)
	refused(t, err, http.StatusPreconditionFailed, "look again")
	s.must(s.Recover(ctx, id))
	if a := s.job(id).Attempt; a != 3 {
		t.Errorf("attempts go on: %d", a)
	}
	_, err = s.Cancel(ctx, id, seen.Revision, api.CancelRequest{})
	refused(t, err, http.StatusPreconditionFailed, "look again")
}

func TestResubmitWithoutABucket(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	disposed := s.running(job.Spec{Spot: true})
	s.end(disposed, 0)
	s.state(disposed, job.Succeeded)
	_, err := s.Resubmit(ctx, disposed, 0, api.ResubmitRequest{})
	refused(t, err, http.StatusConflict, "submit it anew")

	byHand := s.running(job.Spec{Spot: true, PersistBucket: true})
	s.end(byHand, 0)
	s.state(byHand, job.Succeeded)
	for {
		done, err := s.buckets.Dispose(ctx, byHand) // the user's own clean-up
		s.must(err)
		if done {
			break
		}
	}
	_, err = s.Resubmit(ctx, byHand, 0, api.ResubmitRequest{})
	refused(t, err, http.StatusConflict, "--fresh")
	_, err = s.Resubmit(ctx, "ac-none-1", 0, api.ResubmitRequest{})
	refused(t, err, http.StatusNotFound, "list --all")
}

// TestResubmitGoesOn: attempts, commits and what was reported go on; the new
// attempt is told what to restore, or from where on to start afresh.
func TestResubmitGoesOn(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	_, err := s.report(id, api.Report{Checkpoint: &job.Checkpoint{Latest: 7, Health: "ok"}})
	s.must(err)
	s.end(id, 1)
	s.state(id, job.Failed)
	for run, fresh := range []bool{false, true} {
		attempt := run + 2
		v, err := s.Resubmit(ctx, id, 0, api.ResubmitRequest{Fresh: fresh})
		s.must(err)
		if v.State != job.Pending || v.Run != attempt || v.EndedAt != nil || v.KeepUntil != nil || v.Reason != "" || v.Message != "" {
			t.Errorf("run %d: %+v", run+2, v)
		}
		s.must(s.Recover(ctx, id))
		r, err := s.claim(s.vm(id))
		s.must(err)
		wantCommit, wantFrom := 7, 0
		if fresh {
			wantCommit, wantFrom = 0, attempt
		}
		if r.Attempt != attempt || r.Orders.Role != api.Writer || r.Orders.NewestCommit != wantCommit || r.Orders.FreshFrom != wantFrom ||
			!slices.Contains(r.Orders.ExitsKnown, attempt-1) {
			t.Errorf("attempt %d is told %+v", r.Attempt, r.Orders)
		}
		_, err = s.report(id, api.Report{Started: &api.ContainerStarted{At: s.now}})
		s.must(err)
		s.end(id, 1)
	}
	if n := count(s.types(), "job.failed"); n != 3 {
		t.Errorf("job.failed sent %d times", n)
	}
}

// TestResubmitAtOnce: of two at the same moment one makes a run, whether they
// say what they saw or not.
func TestResubmitAtOnce(t *testing.T) {
	for name, guarded := range map[string]bool{"with If-Match": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t)
			ctx := t.Context()
			id := s.running(job.Spec{Spot: true})
			s.end(id, 1)
			var seen int64
			if guarded {
				seen = s.job(id).Revision
			}
			s.store.Hook = func(_ context.Context, c memstore.Call) error {
				if c.Op == memstore.OpPut && c.When == memstore.Before {
					s.store.Hook = nil
					_, err := s.Resubmit(ctx, id, seen, api.ResubmitRequest{})
					s.must(err)
				}
				return nil
			}
			_, err := s.Resubmit(ctx, id, seen, api.ResubmitRequest{})
			if guarded {
				refused(t, err, http.StatusPreconditionFailed, "look again")
			} else {
				refused(t, err, http.StatusConflict, "somebody else")
			}
			if j := s.job(id); j.Run != 2 || count(s.types(), "job.submitted") != 2 {
				t.Errorf("run %d, sent %v", j.Run, s.types())
			}
		})
	}
}

// TestResubmitSet: only what is named changes, and nothing that the next run
// could only fail with is taken.
func TestResubmitSet(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	s.Clouds["moon"] = fakecloud.New(fakecloud.Options{Name: "moon", Now: func() time.Time { return s.now }, Stack: "st"})
	id := s.running(job.Spec{Spot: true, Retries: 0, GPU: "a100", Region: []string{"fake-1"}, Env: map[string]string{"A": "1"}, Grace: new(job.Duration(time.Minute))})
	_, err := s.report(id, api.Report{Checkpoint: &job.Checkpoint{Latest: 1}})
	s.must(err)
	s.end(id, 1)
	before := s.job(id)
	for words, r := range map[string]api.ResubmitRequest{
		`"imgae"`:         {Spec: &job.Spec{}, Set: []string{"imgae"}},
		"send both":       {Set: []string{"image"}},
		"no image":        {Spec: &job.Spec{}, Set: []string{"image"}},
		"only spot jobs":  {Spec: &job.Spec{}, Set: []string{"spot"}},
		"cloud fake":      {Spec: &job.Spec{Clouds: []string{"moon"}}, Set: []string{"cloud"}},
		"region fake-1":   {Spec: &job.Spec{Region: []string{"fake-2"}}, Set: []string{"region"}},
		"no machine":      {Spec: &job.Spec{VMType: "none.such"}, Set: []string{"vm_type"}},
		"no machine can ": {Spec: &job.Spec{Zone: []string{"fake-1z"}}, Set: []string{"zone"}},
	} {
		_, err := s.Resubmit(ctx, id, 0, r)
		var p *api.Problem
		if !errors.As(err, &p) || p.Status >= 500 || !strings.Contains(p.Detail, words) {
			t.Errorf("%+v: got %v, want %q", r, err, words)
		}
	}
	if s.job(id).Revision != before.Revision {
		t.Fatal("a refused resubmit changed the job")
	}
	// Without a value a field is its default; the other chooser of a machine goes.
	_, err = s.Resubmit(ctx, id, 0, api.ResubmitRequest{
		Spec: &job.Spec{VMType: "fake.large", Env: map[string]string{"B": "2"}}, Set: []string{"vm_type", "env", "grace"},
	})
	s.must(err)
	got := s.job(id).Spec
	if got.GPU != "" || got.VMType != "fake.large" || got.Env["A"] != "" || got.Env["B"] != "2" || got.GraceTime() != job.DefaultGrace || got.Image != before.Spec.Image || !got.Spot {
		t.Errorf("%+v", got)
	}
	s.must(s.Recover(ctx, id))
	if p := s.job(id).Attempts[1].Placement; p.Type != "fake.large" {
		t.Errorf("placed on %+v", p)
	}
}

// TestResubmitIsRefusedWhileItRuns in every state that is no end.
func TestResubmitIsRefusedWhileItRuns(t *testing.T) {
	for state, get := range states {
		s := newStack(t)
		id := get(s)
		s.state(id, state)
		_, err := s.Resubmit(t.Context(), id, 0, api.ResubmitRequest{Fresh: true})
		refused(t, err, http.StatusConflict, "job "+id+" is "+string(state)+": the job has not ended: cancel it first, or wait")
	}
}

// TestResubmitAfterTheBucketWasDeleted by hand: --fresh makes it anew before the
// first VM, also if recover is interrupted; somebody else's is left alone.
func TestResubmitAfterTheBucketWasDeleted(t *testing.T) {
	ctx := t.Context()
	failed := func(s *stack) string {
		id := s.running(job.Spec{Spot: true})
		_, err := s.report(id, api.Report{Checkpoint: &job.Checkpoint{Latest: 3}})
		s.must(err)
		s.end(id, 1)
		_, err = s.buckets.Dispose(ctx, id)
		s.must(err)
		return id
	}
	t.Run("fresh", func(t *testing.T) {
		s := newStack(t)
		id := failed(s)
		_, err := s.Resubmit(ctx, id, 0, api.ResubmitRequest{Fresh: true})
		s.must(err)
		s.buckets.Hook = func(_ context.Context, c membucket.Call) error { return errors.New("time-out") }
		if s.Recover(ctx, id) == nil || s.job(id).Attempt != 1 {
			t.Fatalf("attempt %d without a bucket", s.job(id).Attempt)
		}
		s.buckets.Hook = nil
		s.must(s.Recover(ctx, id))
		_, err = s.claim(s.vm(id))
		s.must(err)
		if c, err := s.Credentials(ctx, id, 2, secretOf(s.vm(id))); err != nil || c.Checkpoint == nil {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("somebody else's", func(t *testing.T) {
		s := newStack(t)
		id := failed(s)
		other := s.buckets.As("somebody else")
		s.must(other.Create(ctx, id))
		for _, fresh := range []bool{false, true} {
			_, err := s.Resubmit(ctx, id, 0, api.ResubmitRequest{Fresh: fresh})
			refused(t, err, http.StatusConflict, "somebody else's has its name: submit the job anew")
		}
		// It comes between the look and the run.
		_, err := other.Dispose(ctx, id)
		s.must(err)
		_, err = s.Resubmit(ctx, id, 0, api.ResubmitRequest{Fresh: true})
		s.must(err)
		s.must(other.Create(ctx, id))
		s.must(s.Recover(ctx, id))
		s.tick()
		if j := s.job(id); j.State != job.Failed || !strings.Contains(j.Outcome.Message, "not ours") || j.Attempt != 1 {
			t.Errorf("%s: %+v", j.State, j.Outcome)
		}
		if ok, err := other.Exists(ctx, id); !ok || err != nil {
			t.Errorf("their bucket: %v, %v", ok, err)
		}
	})
	t.Run("not known whether", func(t *testing.T) {
		s := newStack(t)
		id := failed(s)
		s.buckets.Hook = func(context.Context, membucket.Call) error { return bucket.ErrDenied }
		_, err := s.Resubmit(ctx, id, 0, api.ResubmitRequest{})
		if !errors.Is(err, bucket.ErrDenied) || s.job(id).Run != 1 {
			t.Errorf("run %d: %v", s.job(id).Run, err)
		}
	})
}

// TestResubmitOnSpot: a job that had no bucket gets one.
func TestResubmitOnSpot(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{})
	s.end(id, 1)
	_, err := s.Resubmit(ctx, id, 0, api.ResubmitRequest{Spec: &job.Spec{Spot: true}, Set: []string{"spot"}})
	s.must(err)
	s.must(s.Recover(ctx, id))
	if ok, err := s.buckets.Exists(ctx, id); !ok || err != nil || !s.job(id).Attempts[1].Placement.Spot {
		t.Errorf("bucket %v, %v, on %+v", ok, err, s.job(id).Attempts[1].Placement)
	}
}
