package boltstore

import (
	"context"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"anycloud/shared/job"
	"anycloud/shared/store"
)

// Create implements store.Store.
func (s *Store) Create(ctx context.Context, j *job.Job) error {
	if err := store.CheckNew(j); err != nil {
		return err
	}
	return s.write(ctx, j, func(old []byte) (*job.Job, error) {
		if old != nil {
			return nil, fmt.Errorf("create job %s: %w", j.ID, store.ErrExists)
		}
		return nil, nil
	})
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, j *job.Job) error {
	if err := store.CheckFormat(j); err != nil {
		return err
	}
	return s.write(ctx, j, func(old []byte) (*job.Job, error) {
		conflict := fmt.Errorf("put job %s at revision %d: %w", j.ID, j.Revision, store.ErrConflict)
		if old == nil {
			return nil, conflict
		}
		was, err := decodeJob(j.ID, old)
		if err == nil && was.Revision != j.Revision-1 {
			err = conflict
		}
		return was, err
	})
}

// write stores j, where allow lets it over the old row, and moves the indexes
// from what the old row said.
func (s *Store) write(ctx context.Context, j *job.Job, allow func(old []byte) (*job.Job, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	row, err := encodeJob(j)
	if err != nil {
		return err
	}
	id, vms, active := []byte(j.ID), j.VMIDs(), j.Active()
	return translate(s.file.Update(func(tx *bolt.Tx) error {
		jobs := tx.Bucket(jobsTable)
		was, err := allow(jobs.Get(id))
		if err != nil {
			return err
		}
		if was == nil {
			was = &job.Job{State: job.Succeeded} // in no index
		}
		if err := jobs.Put(id, row); err != nil {
			return err
		}
		if err := moveVMs(tx.Bucket(vmsTable), j.ID, was.VMIDs(), vms); err != nil {
			return err
		}
		switch {
		case active && !was.Active():
			return tx.Bucket(activeTable).Put(id, nil)
		case !active && was.Active():
			return tx.Bucket(activeTable).Delete(id)
		}
		return nil
	}))
}

func moveVMs(index *bolt.Bucket, id string, old, now []string) error {
	for _, vm := range old {
		if !slices.Contains(now, vm) && string(index.Get([]byte(vm))) == id {
			if err := index.Delete([]byte(vm)); err != nil {
				return err
			}
		}
	}
	for _, vm := range now {
		if !slices.Contains(old, vm) {
			if err := index.Put([]byte(vm), []byte(id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, id string) (j *job.Job, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = s.file.View(func(tx *bolt.Tx) error {
		row := tx.Bucket(jobsTable).Get([]byte(id))
		if row == nil {
			return fmt.Errorf("get job %s: %w", id, store.ErrNotFound)
		}
		var err error
		j, err = decodeJob(id, row)
		return err
	})
	if err != nil {
		return nil, translate(err)
	}
	return j, nil
}

// JobByVM implements store.Store.
func (s *Store) JobByVM(ctx context.Context, vmID string) (id string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	err = s.file.View(func(tx *bolt.Tx) error {
		id = string(tx.Bucket(vmsTable).Get([]byte(vmID)))
		if id == "" {
			return fmt.Errorf("find the job of VM %s: %w", vmID, store.ErrNotFound)
		}
		return nil
	})
	return id, translate(err)
}
