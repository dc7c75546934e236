// Package store is the port to the one key-value table that is the truth.
//
// Every write of a job is conditional on its revision. Drivers are
// sub-packages (memstore, boltstore, ...); each passes storetest.Run.
package store

import (
	"context"
	"errors"
	"time"

	"anycloud/shared/job"
)

var (
	// ErrNotFound: no such row.
	ErrNotFound = errors.New("not found")
	// ErrExists: Create found the id taken (perhaps by an earlier try of the
	// same caller whose answer was lost).
	ErrExists = errors.New("already exists")
	// ErrConflict: the row changed since it was read. Read again, decide again.
	ErrConflict = errors.New("revision conflict")
	// ErrNewer: the row was written by a newer program, in a format this one
	// does not know. It is refused, never misread.
	ErrNewer = errors.New("written by a newer version of anycloud")
	// ErrFull: the table has no room left (a full disk under boltstore).
	ErrFull = errors.New("no space left")
	// ErrCorrupt: the table cannot be read. Nothing was changed.
	ErrCorrupt = errors.New("table is damaged")
)

// Store holds jobs and small documents. Reads of single rows are strongly
// consistent. An error outside the classes above means "unknown": a write may
// have happened; read to know. Returned values share no memory with the store.
type Store interface {
	// Create writes a new job at revision 1 (j.Revision must be 1).
	Create(ctx context.Context, j *job.Job) error
	// Get reads a job, strongly consistent.
	Get(ctx context.Context, id string) (*job.Job, error)
	// Put writes j if the stored revision is exactly j.Revision-1, else
	// ErrConflict. It keeps the indexes (active jobs, VM ids) with the row,
	// atomically or eventually: index readers re-read the row before they
	// decide.
	Put(ctx context.Context, j *job.Job) error
	// Active pages through the jobs that a sweep must look at (job.Active), by
	// id after `after`; next is "" on the last page. May be eventually
	// consistent. Rows in a newer format are left out of the page and counted
	// in skipped.
	Active(ctx context.Context, after string, limit int) (page []*job.Job, next string, skipped int, err error)
	// List pages through all jobs, newest id order not guaranteed; filter.State
	// "" means any.
	List(ctx context.Context, f Filter) (page []*job.Job, next string, err error)
	// JobByVM finds the job whose record names the VM. ErrNotFound for an
	// unknown one. May be eventually consistent.
	JobByVM(ctx context.Context, vmID string) (string, error)
	// GetDoc reads a small document; version 0 and ErrNotFound if absent or
	// expired.
	GetDoc(ctx context.Context, key string) (data []byte, version int64, err error)
	// PutDoc writes a small document if its stored version is ifVersion (0:
	// must be absent or expired), else ErrConflict. expires zero: never. A write
	// makes the version larger, by how much is the driver's; GetDoc tells it. A
	// document that replaces an expired one does not start at 1 again, so that
	// who held the old one cannot take the new one for it.
	PutDoc(ctx context.Context, key string, data []byte, ifVersion int64, expires time.Time) error
}

// Filter selects and pages List.
type Filter struct {
	State job.State
	After string // job id to start after
	Limit int    // <= 0: the driver's page size
}
