// Package memstore is the store port in memory: the working fake for tests and
// for the simulation. Its indexes follow at once.
package memstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"anycloud/shared/internal/keyset"
	"anycloud/shared/job"
	"anycloud/shared/store"
)

// PageSize is the length of a page where the caller sets no limit.
const PageSize = 100

// Store is the table. Set its fields before use.
type Store struct {
	// Hook sees every call; nil: none.
	Hook Hook
	// Now is the clock behind documents' expiry; nil: time.Now.
	Now func() time.Time

	mu     sync.Mutex
	jobs   map[string]*job.Job // never changed in place, only replaced
	ids    keyset.Set
	active keyset.Set
	byVM   map[string]string
	docs   map[string]doc
}

type doc struct {
	data    []byte
	version int64
	expires time.Time
}

var _ store.Store = (*Store)(nil)

// New makes an empty table.
func New() *Store {
	return &Store{jobs: map[string]*job.Job{}, byVM: map[string]string{}, docs: map[string]doc{}}
}

func (s *Store) do(ctx context.Context, op Op, key string, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.Hook.around(ctx, Call{Op: op, Key: key}, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return f()
	})
}

// Create implements store.Store.
func (s *Store) Create(ctx context.Context, j *job.Job) error {
	if err := store.CheckNew(j); err != nil {
		return err
	}
	return s.do(ctx, OpCreate, j.ID, func() error {
		if _, ok := s.jobs[j.ID]; ok {
			return fmt.Errorf("create job %s: %w", j.ID, store.ErrExists)
		}
		s.set(j.Clone())
		return nil
	})
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, id string) (j *job.Job, err error) {
	err = s.do(ctx, OpGet, id, func() error {
		row, ok := s.jobs[id]
		if !ok {
			return fmt.Errorf("get job %s: %w", id, store.ErrNotFound)
		}
		if err := store.CheckFormat(row); err != nil {
			return err
		}
		j = row.Clone()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return j, nil
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, j *job.Job) error {
	if err := store.CheckFormat(j); err != nil {
		return err
	}
	return s.do(ctx, OpPut, j.ID, func() error {
		row, ok := s.jobs[j.ID]
		if !ok || row.Revision != j.Revision-1 {
			return fmt.Errorf("put job %s at revision %d: %w", j.ID, j.Revision, store.ErrConflict)
		}
		if err := store.CheckFormat(row); err != nil {
			return err
		}
		s.set(j.Clone())
		return nil
	})
}

// PutRaw stores a row whatever its format and revision, for tests.
func (s *Store) PutRaw(j *job.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(j.Clone())
}

// set replaces the row and moves the indexes with it.
func (s *Store) set(j *job.Job) {
	ids := j.VMIDs()
	if old := s.jobs[j.ID]; old != nil {
		for _, vm := range old.VMIDs() {
			if s.byVM[vm] == j.ID && !slices.Contains(ids, vm) {
				delete(s.byVM, vm)
			}
		}
	} else {
		s.ids.Add(j.ID)
	}
	for _, vm := range ids {
		s.byVM[vm] = j.ID
	}
	if j.Active() {
		s.active.Add(j.ID)
	} else {
		s.active.Remove(j.ID)
	}
	s.jobs[j.ID] = j
}

// Active implements store.Store.
func (s *Store) Active(ctx context.Context, after string, limit int) (page []*job.Job, next string, skipped int, err error) {
	if limit <= 0 {
		limit = PageSize
	}
	err = s.do(ctx, OpActive, "", func() error {
		ids := s.active.After(after)
		for i, id := range ids {
			if row := s.jobs[id]; store.CheckFormat(row) != nil {
				skipped++
			} else {
				page = append(page, row.Clone())
			}
			if i+1 == limit && i+1 < len(ids) {
				next = id
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", 0, err
	}
	return page, next, skipped, nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, f store.Filter) (page []*job.Job, next string, err error) {
	if f.Limit <= 0 {
		f.Limit = PageSize
	}
	err = s.do(ctx, OpList, "", func() error {
		for _, id := range s.ids.After(f.After) {
			row := s.jobs[id]
			if store.CheckFormat(row) != nil || f.State != "" && row.State != f.State {
				continue
			}
			if len(page) == f.Limit {
				next = page[len(page)-1].ID
				break
			}
			page = append(page, row.Clone())
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return page, next, nil
}

// JobByVM implements store.Store.
func (s *Store) JobByVM(ctx context.Context, vmID string) (id string, err error) {
	err = s.do(ctx, OpJobByVM, vmID, func() error {
		var ok bool
		if id, ok = s.byVM[vmID]; !ok {
			return fmt.Errorf("find the job of VM %s: %w", vmID, store.ErrNotFound)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return id, nil
}
