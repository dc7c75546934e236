package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/cloud"
	"anycloud/shared/cloud/fakecloud"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

func TestCancel(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	pending := s.submit(job.Spec{})
	_, err := s.Cancel(ctx, pending, 0, api.CancelRequest{})
	s.must(err)
	s.must(s.Cleanup(ctx, pending))
	s.state(pending, job.Cancelled)

	id := s.running(job.Spec{Spot: true, Grace: job.Duration(20 * time.Second)})
	_, err = s.Cancel(ctx, id, 0, api.CancelRequest{})
	s.must(err)
	o, err := s.report(id, api.Report{})
	s.must(err)
	if o.Finish == nil || o.Finish.Now || o.Finish.Deadline.Sub(s.now) < 10*time.Minute {
		t.Errorf("the writer is told %+v", o.Finish)
	}
	s.must(s.Cleanup(ctx, id))
	if !s.alive(s.vm(id)) {
		t.Fatal("no time for the final commit")
	}
	_, err = s.Cancel(ctx, id, 0, api.CancelRequest{Now: true}) // impatient
	s.must(err)
	s.must(s.Cleanup(ctx, id))
	s.tick()
	s.state(id, job.Cancelled)
	if v, err := s.Get(ctx, id); err != nil || v.KeepUntil == nil || v.Bucket == nil {
		t.Errorf("%+v, %v", v, err)
	}
	_, err = s.Cancel(ctx, id, 0, api.CancelRequest{}) // a repeat
	s.must(err)
	_, err = s.Cancel(ctx, "ac-none-1", 0, api.CancelRequest{})
	refused(t, err, http.StatusNotFound, "list --all")
}

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

// settle lets reconcilers and sweeps work until the job has ended.
func (s *stack) settle(id string) {
	s.t.Helper()
	for range 60 {
		if s.job(id).State.Terminal() && len(s.job(id).Doomed) == 0 {
			return
		}
		s.tick()
	}
	s.t.Fatalf("still %s after 60 sweeps: %+v", s.job(id).State, s.job(id).Doomed)
}

// TestCancelInEveryState ends the job, once, with no VM left, however often and
// however it is asked.
func TestCancelInEveryState(t *testing.T) {
	for state, get := range states {
		for _, now := range []bool{false, true} {
			s := newStack(t)
			ctx := t.Context()
			id := get(s)
			s.state(id, state)
			want := job.Cancelled
			if state == job.Stopping {
				want = job.Failed // it ended by itself, before
			}
			for range 2 {
				v, err := s.Cancel(ctx, id, 0, api.CancelRequest{Now: now})
				s.must(err)
				if v.State != job.Stopping {
					t.Errorf("%s, now %v: %s after cancel", state, now, v.State)
				}
			}
			s.settle(id)
			v, err := s.Get(ctx, id)
			s.must(err)
			if v.State != want || v.EndedAt == nil || want == job.Cancelled && v.Reason != job.ReasonCancelled {
				t.Errorf("%s, now %v: %s for %q", state, now, v.State, v.Reason)
			}
			for _, vm := range s.cloud.All() {
				if vm.Alive(s.now) {
					t.Errorf("%s, now %v: %s lives", state, now, vm.ID)
				}
			}
			ended := s.job(id).Revision
			if _, err := s.Cancel(ctx, id, ended, api.CancelRequest{Now: now}); err != nil || s.job(id).Revision != ended {
				t.Errorf("%s: a cancel of the ended job changed it: %v", state, err)
			}
			if n := count(s.types(), "job.cancelled"); want == job.Cancelled && n == 0 || want != job.Cancelled && n != 0 {
				t.Errorf("%s: job.cancelled sent %d times", state, n)
			}
		}
	}
}

// TestCancelNow gives no time to save; an exit 0 that was first is a success.
func TestCancelNow(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	_, err := s.Cancel(ctx, id, s.job(id).Revision, api.CancelRequest{Now: true})
	s.must(err)
	if o, err := s.report(id, api.Report{}); err != nil || o.Finish == nil || !o.Finish.Now || o.Finish.Deadline.After(s.now) {
		t.Errorf("the writer is told %+v, %v", o.Finish, err)
	}
	s.must(s.Cleanup(ctx, id))
	if s.alive(s.vm(id)) {
		t.Error("its VM lives on")
	}
	done := s.running(job.Spec{Spot: true})
	_, err = s.Cancel(ctx, done, 0, api.CancelRequest{})
	s.must(err)
	s.end(done, 0)
	s.settle(done)
	s.state(done, job.Succeeded)
}

// TestCancelSeesWhatItSaw: a revision of before a loss is stale, one of before a
// mere report is not.
func TestCancelSeesWhatItSaw(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	seen := s.job(id).Revision
	_, err := s.report(id, api.Report{Checkpoint: &job.Checkpoint{Latest: 1}})
	s.must(err)
	if s.job(id).Revision == seen {
		t.Fatal("the report was not written")
	}
	if !s.job(id).Guard(seen) {
		t.Error("a report makes what a user saw stale")
	}
	s.cloud.Vanish(s.vm(id))
	s.tick()
	_, err = s.Cancel(ctx, id, seen, api.CancelRequest{})
	refused(t, err, http.StatusPreconditionFailed, "it is starting at revision")
	_, err = s.Cancel(ctx, id, s.job(id).Revision+1, api.CancelRequest{})
	refused(t, err, http.StatusPreconditionFailed, "look again")
	if s.job(id).Outcome != nil {
		t.Error("a stale cancel was carried out")
	}
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
	s.buckets.Dispose(ctx, id) //nolint:errcheck // by hand
	_, err = s.CheckpointAccess(ctx, id)
	refused(t, err, http.StatusConflict, "somebody deleted it")
	done := s.running(job.Spec{Spot: true})
	s.end(done, 0)
	_, err = s.CheckpointAccess(ctx, done)
	refused(t, err, http.StatusConflict, "--persist-bucket")
	_, err = s.CheckpointAccess(ctx, "ac-none-1")
	refused(t, err, http.StatusNotFound, "list --all")
}

// TestListAndGet: ended jobs only if asked for, but those whose VM is kept; a
// newer version's row is not guessed at; values of variables are shown nowhere.
func TestListAndGet(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	live := s.submit(job.Spec{Env: map[string]string{"TOKEN": "hunter2"}})
	ended := s.running(job.Spec{})
	s.end(ended, 1)
	kept := s.running(job.Spec{Persist: true})
	s.end(kept, 0)
	ids := func(q api.ListQuery) (out []string) {
		for {
			p, err := s.List(ctx, q)
			s.must(err)
			for _, j := range p.Jobs {
				out = append(out, j.ID)
			}
			if q.After = p.Next; p.Next == "" {
				return out
			}
		}
	}
	for q, want := range map[api.ListQuery][]string{
		{}: {live, kept}, {Limit: 1}: {live, kept}, {All: true, Limit: 2}: {live, ended, kept}, {State: job.Failed}: {ended}, {State: job.Running}: nil,
	} {
		if got := ids(q); !slices.Equal(got, want) {
			t.Errorf("%+v: %v, want %v", q, got, want)
		}
	}
	v, err := s.Get(ctx, live)
	s.must(err)
	if b, err := json.Marshal(v); err != nil || strings.Contains(string(b), "hunter2") || !slices.Equal(v.Env, []string{"TOKEN"}) {
		t.Errorf("%s, %v", b, err)
	}
	newer := s.job(live)
	newer.Format++
	s.store.PutRaw(newer)
	_, err = s.Get(ctx, live)
	refused(t, err, http.StatusConflict, "upgrade")
	_, err = s.Cancel(ctx, live, 0, api.CancelRequest{})
	refused(t, err, http.StatusConflict, "upgrade")
}

// TestTimesAreUTC whatever zone the machine and its agents are in.
func TestTimesAreUTC(t *testing.T) {
	s := newStack(t)
	zone := time.FixedZone("", 2*60*60)
	s.ControlPlane = New(Options{Store: s.store, Clouds: s.Clouds, Buckets: s.Buckets, Logs: s.Options.Logs, Bus: s, NewID: s.NewID, Config: s.Config,
		Now: func() time.Time { return s.now.In(zone) }})
	id := s.running(job.Spec{Spot: true})
	_, err := s.report(id, api.Report{
		Phases: job.Phases{ImageReady: s.now.In(zone)}, Checkpoint: &job.Checkpoint{Latest: 1, CommittedAt: s.now.In(zone)},
		Notice: &preempt.Notice{Kind: preempt.Interruption, At: s.now.In(zone), Deadline: s.now.In(zone)}, StoppedAt: s.now.In(zone),
	})
	s.must(err)
	v, err := s.Get(t.Context(), id)
	s.must(err)
	b, err := json.Marshal([]any{v, s.job(id)})
	s.must(err)
	if strings.Contains(string(b), "+02:00") {
		t.Errorf("%s", b)
	}
}
