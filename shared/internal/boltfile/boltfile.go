// Package boltfile opens the one bbolt file of a home, which the embedded
// store and bus share, and keeps its failures from taking the process along.
//
//	boltfile.go   Open: lock, check, create
//	group.go      Update: writers that wait together commit together
//	verify.go     the file's structure, checked before bbolt maps it
//	record.go     values with a checksum
package boltfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrLocked: another process holds the file.
	ErrLocked = errors.New("file is in use by another process")
	// ErrCorrupt: the file is damaged. Nothing was changed.
	ErrCorrupt = errors.New("file is damaged")
	// ErrFull: the disk has no room. The write did not happen.
	ErrFull = errors.New("no space left on the disk")
)

// DefaultLockWait is how long Open waits for another process to leave: long
// enough for one that is just ending, short enough for a person.
const DefaultLockWait = time.Second

// File is an open bbolt file.
type File struct {
	db *bolt.DB

	mu     sync.Mutex
	queue  []*call
	busy   bool  // a commit goroutine runs
	broken error // damage met at run time: nothing is read or written after it
}

// Open opens the file, and makes it (and its directory) if there is none. It
// checks the whole structure first, so that damage is an error here and not a
// fault later; a damaged file is not touched. wait 0 means DefaultLockWait.
func Open(path string, wait time.Duration) (*File, error) {
	if wait <= 0 {
		wait = DefaultLockWait
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("create %s: %w", path, translate(err))
		}
	}
	if err := check(path, wait); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, translate(err))
	}
	var db *bolt.DB
	err := guard(func() (err error) {
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: wait, FreelistType: bolt.FreelistMapType})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, translate(err))
	}
	return &File{db: db}, nil
}

// create makes an empty file under its name in one step. So a file that is
// there and empty was truncated, and is not taken for a new one.
func create(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*.db")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := f.Close(); err != nil {
		return err
	}
	db, err := bolt.Open(f.Name(), 0o600, nil)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if d, err := os.Open(dir); err == nil { // where directories cannot be synced, there is nothing to do
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}

// check verifies the file under a shared lock. bbolt takes the lock; opened for
// reading it maps the file but follows nothing beyond the first two pages,
// whose presence it checks.
func check(path string, wait time.Duration) error {
	if fi, err := os.Stat(path); err != nil {
		return err
	} else if fi.Size() == 0 {
		return fmt.Errorf("%w: it is empty", ErrCorrupt)
	}
	var db *bolt.DB
	err := guard(func() (err error) {
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: wait, ReadOnly: true})
		return err
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout), errors.Is(err, fs.ErrPermission), errors.Is(err, ErrCorrupt):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	f, err := os.Open(path)
	if err == nil {
		err = verify(f)
		f.Close()
	}
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	return err
}

// Close waits for what is being committed and releases the file.
func (f *File) Close() error {
	return guard(f.db.Close)
}

// View runs a read-only transaction.
func (f *File) View(fn func(tx *bolt.Tx) error) error {
	if err := f.failed(); err != nil {
		return err
	}
	return f.note(translate(guard(func() error { return f.db.View(fn) })))
}

func (f *File) failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broken
}

// note remembers damage: after a fault in the middle of a transaction bbolt's
// own locks and pages are in no known state.
func (f *File) note(err error) error {
	var d *damage
	if errors.As(err, &d) {
		f.mu.Lock()
		f.broken = err
		f.mu.Unlock()
	}
	return err
}

// damage is a panic or memory fault met inside bbolt.
type damage struct{ what any }

func (d *damage) Error() string        { return fmt.Sprintf("%v: %v", ErrCorrupt, d.what) }
func (d *damage) Is(target error) bool { return target == ErrCorrupt }

// guard turns bbolt's panics, and faults on its mapped file (truncated while
// we run), into errors.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &damage{p}
		}
	}()
	return fn()
}

func translate(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, bolterrors.ErrMaxSizeReached):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%w: %w", ErrLocked, err)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}
