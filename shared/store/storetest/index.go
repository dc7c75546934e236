package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"anycloud/shared/job"
	"anycloud/shared/store"
)

func testIndex(t *testing.T, h Harness) {
	t.Run("the VM index follows the row", func(t *testing.T) {
		s := h.fresh(t)
		create(t, s, example(id(1)))
		create(t, s, example(id(2)))
		find := func(vm, want string) {
			t.Helper()
			h.follows(t, func() error {
				got, err := s.JobByVM(t.Context(), vm)
				if want == "" && errors.Is(err, store.ErrNotFound) || want != "" && got == want && err == nil {
					return nil
				}
				return fmt.Errorf("VM %s: job %q, %v; want %q", vm, got, err, want)
			})
		}
		find("vm-"+id(1), id(1))
		find("doomed-"+id(1), id(1))
		find("vm-"+id(2), id(2))
		find("vm-of-nobody", "")
		find("", "")
		change(t, s, id(1), func(j *job.Job) {
			j.Attempts[0].Gone = true
			j.Attempts = append(j.Attempts, job.Attempt{Number: 2, VMID: "second"})
			j.Kept = []job.Kept{{VMID: "kept"}}
		})
		find("vm-"+id(1), "")
		find("second", id(1))
		find("kept", id(1))
		find("doomed-"+id(1), id(1))
		change(t, s, id(1), func(j *job.Job) { j.Doomed = nil; j.Kept = nil })
		find("doomed-"+id(1), "")
		find("kept", "")
		find("vm-"+id(2), id(2))
	})
	t.Run("the index of active jobs follows the row", func(t *testing.T) {
		s := h.fresh(t)
		create(t, s, example(id(1)))
		create(t, s, example(id(2)))
		active := func(want ...string) {
			t.Helper()
			h.follows(t, func() error {
				page, next, skipped, err := s.Active(t.Context(), "", 0)
				if err != nil || next != "" || skipped != 0 || !slices.Equal(ids(page), want) {
					return fmt.Errorf("active %q, next %q, skipped %d, %v; want %q", ids(page), next, skipped, err, want)
				}
				return nil
			})
		}
		active(id(1), id(2))
		change(t, s, id(1), func(j *job.Job) { j.State = job.Succeeded }) // with a doomed VM
		active(id(1), id(2))
		change(t, s, id(1), func(j *job.Job) { j.Doomed, j.Outbox = nil, nil })
		active(id(2))
		change(t, s, id(1), func(j *job.Job) { j.State = job.Pending }) // resubmitted
		active(id(1), id(2))
		if page, _, _, err := s.Active(t.Context(), "", 0); err != nil || page[0].Revision != 4 {
			t.Errorf("an old row: %+v, %v", page[0], err)
		}
	})
	t.Run("pages", func(t *testing.T) { testPages(t, h) })
}

func testPages(t *testing.T, h Harness) {
	s := h.fresh(t)
	var all, failed, active []string
	for _, n := range []int{7, 3, 9, 1, 5, 2, 8, 6, 4} {
		j := example(id(n))
		if n%3 == 0 {
			j.State, j.Doomed, j.Outbox = job.Failed, nil, nil
		}
		create(t, s, j)
	}
	for n := 1; n <= 9; n++ {
		all = append(all, id(n))
		if n%3 == 0 {
			failed = append(failed, id(n))
		} else {
			active = append(active, id(n))
		}
	}
	for _, limit := range []int{0, 1, 2, 3, 4, 6, 9, 100} {
		h.follows(t, func() error {
			var got []string
			after := ""
			for {
				page, next, _, err := s.Active(t.Context(), after, limit)
				if err != nil || limit > 0 && len(page) > limit {
					return fmt.Errorf("page of %d, limit %d: %w", len(page), limit, err)
				}
				got = append(got, ids(page)...)
				if after = next; next == "" {
					break
				}
			}
			if !slices.Equal(got, active) {
				return fmt.Errorf("active by %d: %q, want %q", limit, got, active)
			}
			return nil
		})
		for state, want := range map[job.State][]string{"": all, job.Failed: failed, job.Cancelled: nil} {
			h.follows(t, func() error {
				var got []string
				f := store.Filter{State: state, Limit: limit}
				for {
					page, next, err := s.List(t.Context(), f)
					if err != nil || limit > 0 && len(page) > limit {
						return fmt.Errorf("page of %d, limit %d: %w", len(page), limit, err)
					}
					got = append(got, ids(page)...)
					if f.After = next; next == "" {
						break
					}
				}
				slices.Sort(got) // the order is the driver's
				if !slices.Equal(got, want) {
					return fmt.Errorf("list %q by %d: %q, want %q", state, limit, got, want)
				}
				return nil
			})
		}
	}
}
