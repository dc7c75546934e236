package controlplane

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/cloud"
	"anycloud/shared/cloud/fakecloud"
	"anycloud/shared/job"
)

func TestDrillAndCheckpointNow(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	minus := job.Duration(-1)
	_, err := s.Preempt(ctx, id, api.PreemptRequest{Notice: &minus})
	refused(t, err, http.StatusBadRequest, "negative")
	ask, err := s.Checkpoint(ctx, id, api.CheckpointRequest{})
	s.must(err)
	o, err := s.report(id, api.Report{})
	s.must(err)
	if ask.Done || o.SaveRequest != ask.Request {
		t.Errorf("%+v, ordered %d", ask, o.SaveRequest)
	}
	_, err = s.report(id, api.Report{SaveDone: ask.Request, SaveDoneAs: 5, Checkpoint: &job.Checkpoint{Latest: 5}})
	s.must(err)
	if r, err := s.Checkpoint(ctx, id, api.CheckpointRequest{Request: ask.Request}); err != nil || !r.Done || r.Commit != 5 {
		t.Errorf("%+v, %v", r, err)
	}
	zero := job.Duration(0)
	_, err = s.Preempt(ctx, id, api.PreemptRequest{Notice: &zero})
	s.must(err)
	s.tick()
	if s.job(id).Preemptions != 1 {
		t.Error("the drill took nothing")
	}
	plain := s.running(job.Spec{})
	_, err = s.Checkpoint(ctx, plain, api.CheckpointRequest{})
	refused(t, err, http.StatusConflict, "--spot")
	_, err = s.CheckpointAccess(ctx, plain)
	refused(t, err, http.StatusConflict, "--spot")
	s.end(plain, 0)
	_, err = s.Preempt(ctx, plain, api.PreemptRequest{})
	refused(t, err, http.StatusConflict, "no VM to preempt")
}

// TestDrill: the cloud's own warning, or none; it says nothing about the pool,
// and asks for a VM.
func TestDrill(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	_, err := s.Preempt(ctx, id, api.PreemptRequest{})
	s.must(err)
	n := s.cloud.Notice(s.vm(id))
	if n == nil || !n.Drill || n.Deadline.Sub(s.now) != 10*time.Second {
		t.Fatalf("the default notice: %+v", n)
	}
	s.must(s.Notice(ctx, *n))
	if pools, _ := s.readPools(ctx); len(pools) > 0 {
		t.Errorf("a drill made pools bad: %v", pools)
	}
	_, err = s.Preempt(ctx, id, api.PreemptRequest{})
	refused(t, err, http.StatusConflict, "is recovering and has no VM to preempt: try again")
	s.must(s.Recover(ctx, id))
	if j := s.job(id); j.Attempt != 2 || j.Preemptions != 1 || j.AttemptNo(1).EndReason != job.EndPreempted {
		t.Errorf("attempt %d, preemptions %d", j.Attempt, j.Preemptions)
	}

	s.Clouds["fake"] = s.cloud.WithHook(func(_ context.Context, c fakecloud.Call) error {
		if c.Op == fakecloud.OpDrill {
			return fmt.Errorf("this cloud gives 120s only: %w", cloud.ErrUnsupported)
		}
		return nil
	})
	_, err = s.Preempt(ctx, id, api.PreemptRequest{})
	refused(t, err, http.StatusBadRequest, "120s only")
	s.Clouds["fake"] = s.cloud
	s.cloud.Forget(s.vm(id)) // and the table does not know it yet
	_, err = s.Preempt(ctx, id, api.PreemptRequest{})
	refused(t, err, http.StatusConflict, "gone already")
	_, err = s.Preempt(ctx, s.submit(job.Spec{}), api.PreemptRequest{})
	refused(t, err, http.StatusConflict, "is pending and has no VM to preempt: try again when it is running")
	ended := s.running(job.Spec{})
	s.end(ended, 0)
	_, err = s.Preempt(ctx, ended, api.PreemptRequest{})
	refused(t, err, http.StatusConflict, "has ended (succeeded)")
	_, err = s.Preempt(ctx, "ac-none-1", api.PreemptRequest{})
	refused(t, err, http.StatusNotFound, "list --all")
}

// TestCheckpointNow: a request survives the writer that it was made to; one that
// cannot be met any more says so, and one that nobody made is no request.
func TestCheckpointNow(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	_, err := s.Checkpoint(ctx, s.submit(job.Spec{Spot: true}), api.CheckpointRequest{})
	refused(t, err, http.StatusConflict, "try again when it is running")
	id := s.running(job.Spec{Spot: true})
	for _, n := range []int64{1, -1} {
		_, err = s.Checkpoint(ctx, id, api.CheckpointRequest{Request: n})
		refused(t, err, http.StatusBadRequest, "leave the number out")
	}
	first, err := s.Checkpoint(ctx, id, api.CheckpointRequest{})
	s.must(err)
	second, err := s.Checkpoint(ctx, id, api.CheckpointRequest{})
	s.must(err)
	s.cloud.Vanish(s.vm(id))
	s.tick()
	r, err := s.claim(s.vm(id))
	s.must(err)
	if r.Orders.SaveRequest != second.Request || second.Request <= first.Request {
		t.Errorf("requests %d and %d, the next writer is asked for %d", first.Request, second.Request, r.Orders.SaveRequest)
	}
	_, err = s.report(id, api.Report{SaveDone: first.Request, SaveDoneAs: 4})
	s.must(err)
	for request, done := range map[int64]bool{first.Request: true, second.Request: false} {
		if r, err := s.Checkpoint(ctx, id, api.CheckpointRequest{Request: request}); err != nil || r.Done != done || done && r.Commit != 4 {
			t.Errorf("request %d: %+v, %v", request, r, err)
		}
	}
	s.end(id, 1)
	_, err = s.Checkpoint(ctx, id, api.CheckpointRequest{Request: second.Request})
	refused(t, err, http.StatusConflict, "will not be made")
	_, err = s.Checkpoint(ctx, id, api.CheckpointRequest{})
	refused(t, err, http.StatusConflict, "has ended")
}

// TestCheckpointAccess names what is in the way.
func TestCheckpointAccess(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.submit(job.Spec{Spot: true})
	_, err := s.CheckpointAccess(ctx, id)
	refused(t, err, http.StatusConflict, "no checkpoints yet")
	s.must(s.Recover(ctx, id))
	if a, err := s.CheckpointAccess(ctx, id); err != nil || !strings.Contains(a.URL, id) {
		t.Errorf("%+v, %v", a, err)
	}
	s.Commits = func(ctx context.Context, o bucket.Objects) ([]api.Commit, error) {
		_, _, err := o.List(ctx, "", "", 0)
		return []api.Commit{{Number: 3}}, err
	}
	if p, err := s.Checkpoints(ctx, id); err != nil || len(p.Commits) != 1 || p.Commits[0].Number != 3 {
		t.Errorf("%+v, %v", p, err)
	}
	s.buckets.Dispose(ctx, id) //nolint:errcheck // by hand
	_, err = s.CheckpointAccess(ctx, id)
	refused(t, err, http.StatusConflict, "somebody deleted it: resubmit with --fresh")
	_, err = s.Checkpoints(ctx, id)
	refused(t, err, http.StatusConflict, "somebody deleted it: resubmit with --fresh")
	done := s.running(job.Spec{Spot: true})
	s.end(done, 0)
	_, err = s.CheckpointAccess(ctx, done)
	refused(t, err, http.StatusConflict, "--persist-bucket")
	_, err = s.CheckpointAccess(ctx, "ac-none-1")
	refused(t, err, http.StatusNotFound, "list --all")
}
