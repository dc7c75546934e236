package memstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"anycloud/shared/job"
	"anycloud/shared/store"
	"anycloud/shared/store/storetest"
)

func TestSuite(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		New: func(_ *testing.T, now func() time.Time) store.Store {
			s := New()
			s.Now = now
			return s
		},
		PutRaw: func(_ *testing.T, s store.Store, j *job.Job) { s.(*Store).PutRaw(j) },
	})
}

func TestHookKeepsCallsAndAnswers(t *testing.T) {
	lost := errors.New("lost")
	s := New()
	for _, when := range []When{Before, After} {
		var seen []Call
		s.Hook = func(_ context.Context, c Call) error {
			seen = append(seen, c)
			if c.When == when {
				return lost
			}
			return nil
		}
		if err := s.Create(t.Context(), &job.Job{ID: "a", Revision: 1}); err != lost {
			t.Fatal(err)
		}
		s.Hook = nil
		_, err := s.Get(t.Context(), "a")
		if done := err == nil; done != (when == After) {
			t.Errorf("fault %d: done %v", when, done)
		}
		if last := seen[len(seen)-1]; last.Op != OpCreate || last.Key != "a" || last.When != when {
			t.Errorf("hook saw %+v", seen)
		}
	}
}

func TestHookMayBeARival(t *testing.T) {
	s := New()
	if err := s.Create(t.Context(), &job.Job{ID: "a", Revision: 1}); err != nil {
		t.Fatal(err)
	}
	s.Hook = func(ctx context.Context, c Call) error {
		s.Hook = nil
		return s.Put(ctx, &job.Job{ID: "a", Revision: 2})
	}
	if err := s.Put(t.Context(), &job.Job{ID: "a", Revision: 2}); !errors.Is(err, store.ErrConflict) {
		t.Fatal(err)
	}
}
