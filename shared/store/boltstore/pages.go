package boltstore

import (
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"anycloud/shared/job"
	"anycloud/shared/store"
)

// PageSize is the length of a page where the caller sets no limit.
const PageSize = 100

// after moves a cursor to the first key > id.
func after(c *bolt.Cursor, id string) (k, v []byte) {
	k, v = c.Seek([]byte(id))
	if k != nil && string(k) == id {
		return c.Next()
	}
	return k, v
}

// Active implements store.Store.
func (s *Store) Active(ctx context.Context, from string, limit int) (page []*job.Job, next string, skipped int, err error) {
	if err := ctx.Err(); err != nil {
		return nil, "", 0, err
	}
	if limit <= 0 {
		limit = PageSize
	}
	err = s.file.View(func(tx *bolt.Tx) error {
		jobs, c := tx.Bucket(jobsTable), tx.Bucket(activeTable).Cursor()
		last := ""
		for k, _ := after(c, from); k != nil; k, _ = c.Next() {
			if len(page)+skipped == limit {
				next = last
				return nil
			}
			last = string(k)
			row := jobs.Get(k)
			if row == nil {
				return fmt.Errorf("%w: job %s is in an index only", store.ErrCorrupt, k)
			}
			j, err := decodeJob(last, row)
			switch {
			case errors.Is(err, store.ErrNewer):
				skipped++
			case err != nil:
				return err
			default:
				page = append(page, j)
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", 0, translate(err)
	}
	return page, next, skipped, nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, f store.Filter) (page []*job.Job, next string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	if f.Limit <= 0 {
		f.Limit = PageSize
	}
	err = s.file.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(jobsTable).Cursor()
		for k, row := after(c, f.After); k != nil; k, row = c.Next() {
			j, err := decodeJob(string(k), row)
			if errors.Is(err, store.ErrNewer) || err == nil && f.State != "" && j.State != f.State {
				continue
			}
			if err != nil {
				return err
			}
			if len(page) == f.Limit {
				next = page[len(page)-1].ID
				return nil
			}
			page = append(page, j)
		}
		return nil
	})
	if err != nil {
		return nil, "", translate(err)
	}
	return page, next, nil
}
