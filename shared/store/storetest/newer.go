package storetest

import (
	"errors"
	"slices"
	"testing"

	"anycloud/shared/job"
	"anycloud/shared/store"
)

func testNewer(t *testing.T, h Harness) {
	s := h.fresh(t)
	for n := 1; n <= 4; n++ {
		if n%2 == 1 {
			create(t, s, example(id(n)))
			continue
		}
		j := example(id(n))
		j.Format = job.Format + 1
		h.PutRaw(t, s, j)
	}
	_, err := s.Get(t.Context(), id(2))
	wantErr(t, "get", err, store.ErrNewer)

	over := example(id(2))
	over.Revision = 2
	if err := s.Put(t.Context(), over); !errors.Is(err, store.ErrNewer) && !errors.Is(err, store.ErrConflict) {
		t.Errorf("put over it: %v", err)
	}
	wantErr(t, "create over it", s.Create(t.Context(), example(id(2))), store.ErrExists)
	_, err = s.Get(t.Context(), id(2))
	wantErr(t, "get after the tries to write", err, store.ErrNewer)

	mine := example(id(5))
	mine.Format = job.Format + 1
	wantErr(t, "write one", s.Create(t.Context(), mine), store.ErrNewer)

	for _, limit := range []int{0, 1, 2, 3} {
		var got []string
		total, after := 0, ""
		for {
			page, next, skipped, err := s.Active(t.Context(), after, limit)
			if err != nil {
				t.Fatal(err)
			}
			got, total = append(got, ids(page)...), total+skipped
			if after = next; next == "" {
				break
			}
		}
		if !slices.Equal(got, []string{id(1), id(3)}) || total != 2 {
			t.Errorf("active by %d: %q and %d skipped", limit, got, total)
		}
	}
	page, _, err := s.List(t.Context(), store.Filter{})
	if got := ids(page); err != nil || len(got) != 2 {
		t.Errorf("list: %q, %v", got, err)
	}
}
