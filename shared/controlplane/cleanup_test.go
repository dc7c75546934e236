package controlplane

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket/membucket"
	"anycloud/shared/cloud"
	"anycloud/shared/cloud/fakecloud"
	"anycloud/shared/job"
)

// TestBucketsEnd: after success at once, after failure when its time has come,
// persisted never; an interruption halfway only delays it.
func TestBucketsEnd(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	there := func(id string) bool {
		ok, err := s.buckets.Exists(ctx, id)
		s.must(err)
		return ok
	}
	kept := s.running(job.Spec{Spot: true, PersistBucket: true})
	s.end(kept, 0)
	failed := s.running(job.Spec{Spot: true, KeepCheckpoint: new(job.Duration(time.Hour))})
	s.end(failed, 1)
	if !there(kept) || !there(failed) {
		t.Fatal("a bucket went too early")
	}
	fail := true
	s.buckets.Hook = func(_ context.Context, c membucket.Call) error {
		if c.Op == membucket.OpDispose && c.When == membucket.After && fail {
			return errors.New("not answered")
		}
		return nil
	}
	id := s.running(job.Spec{Spot: true})
	_, err := s.report(id, api.Report{Exit: &api.Exit{Attempt: 1, StoppedAt: s.now}})
	s.must(err)
	s.Cleanup(ctx, id) //nolint:errcheck // terminates
	s.pass(time.Minute)
	s.Tick(ctx, s.now) //nolint:errcheck // the hook refuses
	s.pass(time.Minute)
	s.Tick(ctx, s.now) //nolint:errcheck // likewise
	if j := s.job(id); j.State != job.Stopping || j.Bucket.State != job.BucketDisposing {
		t.Errorf("%s, bucket %s", j.State, j.Bucket.State)
	}
	_, err = s.Resubmit(ctx, id, 0, api.ResubmitRequest{})
	refused(t, err, http.StatusConflict, "")
	fail = false
	s.tick()
	s.state(id, job.Succeeded)
	s.pass(2 * time.Hour)
	s.tick()
	if !there(kept) || there(failed) || there(id) {
		t.Errorf("kept %v, failed %v, succeeded %v", there(kept), there(failed), there(id))
	}
	s.state(failed, job.Failed)
	plain := s.running(job.Spec{})
	if v, err := s.Get(ctx, plain); err != nil || v.Bucket != nil || v.Checkpoint != nil {
		t.Errorf("%+v, %v", v, err)
	}
}

// bucketCalls counts the calls that the control plane makes on buckets.
func (s *stack) bucketCalls() map[membucket.Op]int {
	calls := map[membucket.Op]int{}
	s.buckets.Hook = func(_ context.Context, c membucket.Call) error {
		if c.When == membucket.Before {
			calls[c.Op]++
		}
		return nil
	}
	return calls
}

// TestNoBucketWithoutSpot: from submit to the end no call on buckets.
func TestNoBucketWithoutSpot(t *testing.T) {
	s := newStack(t)
	calls := s.bucketCalls()
	id := s.running(job.Spec{})
	s.end(id, 0)
	s.state(id, job.Succeeded)
	if len(calls) > 0 {
		t.Errorf("calls on buckets: %v", calls)
	}
}

// TestBucketDeletedByHand is no error: not at success, not when its time has
// come, and not if it never was.
func TestBucketDeletedByHand(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	ok, failed := s.running(job.Spec{Spot: true}), s.running(job.Spec{Spot: true})
	never := s.submit(job.Spec{Spot: true})
	_, err := s.Cancel(ctx, never, 0, api.CancelRequest{})
	s.must(err)
	s.must(s.Cleanup(ctx, never))
	s.end(failed, 1)
	for _, id := range []string{ok, failed} {
		_, err := s.buckets.Dispose(ctx, id)
		s.must(err)
	}
	s.end(ok, 0)
	s.state(ok, job.Succeeded)
	s.pass(job.DefaultKeep)
	s.tick()
	for _, id := range []string{ok, failed, never} {
		if j := s.job(id); j.Bucket.State != job.BucketDisposed || j.Active() {
			t.Errorf("%s: %s, bucket %s", id, j.State, j.Bucket.State)
		}
	}
	s.state(failed, job.Failed)
	s.state(never, job.Cancelled)
}

// TestKeptBucketGoes when its time has come and not a moment before, in as many
// steps as it takes; a resubmit in time keeps it.
func TestKeptBucketGoes(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	s.buckets.DisposeBatch = 2
	cancelled := s.running(job.Spec{Spot: true, KeepCheckpoint: new(job.Duration(time.Hour))})
	again := s.running(job.Spec{Spot: true, KeepCheckpoint: new(job.Duration(time.Hour))})
	o, err := s.buckets.Open(ctx, cancelled)
	s.must(err)
	for _, k := range []string{"a", "b", "c", "d", "e"} {
		s.must(o.PutIfAbsent(ctx, k, []byte("x")))
	}
	for _, id := range []string{cancelled, again} {
		_, err := s.Cancel(ctx, id, 0, api.CancelRequest{Now: true})
		s.must(err)
		s.settle(id)
	}
	until := s.job(cancelled).KeepUntil
	s.now = until.Add(-time.Second)
	s.must(s.Tick(ctx, s.now))
	_, err = s.Resubmit(ctx, again, 0, api.ResubmitRequest{})
	s.must(err)
	if ok, _ := s.buckets.Exists(ctx, cancelled); !ok {
		t.Fatal("it went too early")
	}

	// Interrupted between two steps: only delayed, and resubmit comes too late.
	s.now = until
	calls := 0
	s.buckets.Hook = func(_ context.Context, c membucket.Call) error {
		if c.Op == membucket.OpDispose && c.When == membucket.Before {
			if calls++; calls == 2 {
				return errors.New("time-out")
			}
		}
		return nil
	}
	if err := s.Tick(ctx, s.now); err == nil {
		t.Error("the failure was not reported")
	}
	if left, _, err := o.List(ctx, "", "", 0); err != nil || len(left) != 3 {
		t.Errorf("%d objects left, %v", len(left), err)
	}
	if j := s.job(cancelled); j.Bucket.State != job.BucketDisposing || !j.Active() {
		t.Errorf("bucket %s, swept: %v", j.Bucket.State, j.Active())
	}
	_, err = s.Resubmit(ctx, cancelled, 0, api.ResubmitRequest{})
	refused(t, err, http.StatusConflict, "submit it anew")
	s.tick()
	if ok, _ := s.buckets.Exists(ctx, cancelled); ok || s.job(cancelled).Bucket.State != job.BucketDisposed {
		t.Errorf("it is left: %v, bucket %s", ok, s.job(cancelled).Bucket.State)
	}
	s.state(cancelled, job.Cancelled)
	if ok, _ := s.buckets.Exists(ctx, again); !ok || !s.job(again).KeepUntil.IsZero() {
		t.Error("the resubmitted job's bucket went too")
	}
}

// TestDisposalSparesOthers: a bucket of that name that is not ours any more is
// left alone, and the job ends all the same.
func TestDisposalSparesOthers(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	_, err := s.buckets.Dispose(ctx, id)
	s.must(err)
	other := s.buckets.As("somebody else")
	s.must(other.Create(ctx, id))
	s.end(id, 0)
	s.state(id, job.Succeeded)
	if ok, err := other.Exists(ctx, id); !ok || err != nil {
		t.Errorf("their bucket: %v, %v", ok, err)
	}
}

// TestCleanupWaitsForVMs: nothing is disposed of, and no job ends, before the
// cloud says that its VM is gone.
func TestCleanupWaitsForVMs(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	s.Clouds["fake"] = s.cloud.WithHook(func(_ context.Context, c fakecloud.Call) error {
		if c.Op == fakecloud.OpTerminate {
			return cloud.ErrThrottled
		}
		return nil
	})
	_, err := s.report(id, api.Report{Exit: &api.Exit{Attempt: 1}})
	s.must(err)
	for range 5 {
		if err := s.Cleanup(ctx, id); !errors.Is(err, cloud.ErrThrottled) {
			t.Errorf("got %v", err)
		}
		s.pass(time.Hour)
		s.Tick(ctx, s.now) //nolint:errcheck // throttled too
	}
	s.state(id, job.Stopping)
	if ok, _ := s.buckets.Exists(ctx, id); !ok {
		t.Error("the bucket went while the VM lives")
	}
	s.Clouds["fake"] = s.cloud
	s.settle(id)
	s.state(id, job.Succeeded)
	if s.alive(s.vm(id)) {
		t.Error("the VM lives")
	}
}
