package controlplane

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"anycloud/shared/api"
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

	id := s.running(job.Spec{Spot: true, Grace: new(job.Duration(20 * time.Second))})
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
