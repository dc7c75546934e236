package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"anycloud/shared/job"
	"anycloud/shared/store"
)

func testJobs(t *testing.T, h Harness) {
	t.Run("what is written is read", func(t *testing.T) {
		s := h.fresh(t)
		want := example(id(1))
		create(t, s, want.Clone())
		wantJob(t, s, want)
		change(t, s, want.ID, func(j *job.Job) { j.State = job.Recovering; j.Attempts[0].Doomed = true })
		want.State, want.Attempts[0].Doomed, want.Revision = job.Recovering, true, 2
		wantJob(t, s, want)
	})
	t.Run("create twice", func(t *testing.T) {
		s := h.fresh(t)
		create(t, s, example(id(1)))
		wantErr(t, "create again", s.Create(t.Context(), example(id(1))), store.ErrExists)
		change(t, s, id(1), func(j *job.Job) { j.WaitReason = "kept" })
		wantErr(t, "create over a later revision", s.Create(t.Context(), example(id(1))), store.ErrExists)
		if j, err := s.Get(t.Context(), id(1)); err != nil || j.WaitReason != "kept" {
			t.Fatalf("%+v, %v", j, err)
		}
	})
	t.Run("a new job is at revision 1", func(t *testing.T) {
		s := h.fresh(t)
		for _, rev := range []int64{0, 2} {
			j := example(id(1))
			j.Revision = rev
			if s.Create(t.Context(), j) == nil {
				t.Errorf("created at revision %d", rev)
			}
		}
		_, err := s.Get(t.Context(), id(1))
		wantErr(t, "get", err, store.ErrNotFound)
	})
	t.Run("put needs the revision before", func(t *testing.T) {
		s := h.fresh(t)
		wantErr(t, "put of nothing", s.Put(t.Context(), example(id(1))), store.ErrConflict)
		create(t, s, example(id(1)))
		change(t, s, id(1), func(*job.Job) {})
		for _, rev := range []int64{0, 1, 2, 4, 5} {
			j := example(id(1))
			j.Revision, j.State = rev, job.Failed
			wantErr(t, "put", s.Put(t.Context(), j), store.ErrConflict)
		}
		want := example(id(1))
		want.Revision = 2
		wantJob(t, s, want)
	})
	t.Run("nothing is shared", func(t *testing.T) {
		s := h.fresh(t)
		mine := create(t, s, example(id(1)))
		spoil(mine)
		wantJob(t, s, example(id(1)))
		for _, get := range []func() (*job.Job, error){
			func() (*job.Job, error) { return s.Get(t.Context(), id(1)) },
			func() (*job.Job, error) { p, _, err := s.List(t.Context(), store.Filter{}); return first(p), err },
			func() (*job.Job, error) { p, _, _, err := s.Active(t.Context(), "", 0); return first(p), err },
		} {
			got, err := get()
			if err != nil {
				t.Fatal(err)
			}
			spoil(got)
			wantJob(t, s, example(id(1)))
		}
	})
	t.Run("rivals lose no update", func(t *testing.T) { testRivals(t, h.fresh(t)) })
	t.Run("an ended context writes nothing", func(t *testing.T) {
		s := h.fresh(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if s.Create(ctx, example(id(1))) == nil {
			t.Fatal("created")
		}
		_, err := s.Get(t.Context(), id(1))
		wantErr(t, "get", err, store.ErrNotFound)
	})
}

func first(page []*job.Job) *job.Job {
	if len(page) == 0 {
		return &job.Job{}
	}
	return page[0]
}

// spoil changes a job through everything in it that points somewhere.
func spoil(j *job.Job) {
	if len(j.Attempts) == 0 {
		return
	}
	j.State = job.Failed
	j.Spec.Command[0], j.Spec.Env["K"], j.Spec.Env["new"] = "spoilt", "spoilt", "spoilt"
	*j.Spec.MaxPause = 1
	*j.Attempts[0].ExitCode, j.Attempts[0].Notice.Kind, j.Attempts[0].VMID = 99, "spoilt", "spoilt"
	j.Launch.Candidates[0].Zone, j.Launch.Token = "spoilt", "spoilt"
	j.Doomed[0].VMID, j.Outbox[0].Type = "spoilt", "spoilt"
	*j.Outcome.ExitCode, j.Bucket.Name = 99, "spoilt"
}

func wantJob(t *testing.T, s store.Store, want *job.Job) {
	t.Helper()
	got, err := s.Get(t.Context(), want.ID)
	if err != nil {
		t.Fatal(err)
	}
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Fatalf("got  %s\nwant %s", g, w)
	}
}

// testRivals has many writers count on one row, each by read and conditional
// write: every acknowledged step is in the sum.
func testRivals(t *testing.T, s store.Store) {
	const writers, steps = 8, 10
	create(t, s, example(id(1)))
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < steps; {
				j, err := s.Get(context.Background(), id(1))
				if err != nil {
					t.Error(err)
					return
				}
				j.Failures++
				j.Revision++
				switch err := s.Put(context.Background(), j); {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	j, err := s.Get(t.Context(), id(1))
	if err != nil || j.Failures != writers*steps || j.Revision != 1+writers*steps {
		t.Fatalf("%d steps at revision %d, %v; want %d", j.Failures, j.Revision, err, writers*steps)
	}
	wins := make(chan error, writers)
	for range writers {
		wg.Go(func() { wins <- s.Create(context.Background(), example(id(2))) })
	}
	wg.Wait()
	won := 0
	for range writers {
		if err := <-wins; err == nil {
			won++
		} else if !errors.Is(err, store.ErrExists) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Fatalf("%d creates of one id succeeded", won)
	}
}
