// Package boltstore is the store port on one bbolt file: the embedded default.
// A write is on disk when it returns; the indexes are in the same transaction.
//
//	boltstore.go   Open: the tables in the file
//	jobs.go        Create, Get, Put, and the indexes
//	pages.go       Active, List
//	docs.go        GetDoc, PutDoc
//	record.go      rows as bytes: checksum and JSON; errors in the port's classes
//
// In the file: the bucket "jobs" holds id → record, "active" the ids of active
// jobs, "vms" VM id → job id, "docs" key → document, "meta" the format of all
// this. The bus keeps a bucket of its own in the same file.
package boltstore

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"

	"anycloud/shared/internal/boltfile"
	"anycloud/shared/store"
)

// tableFormat is the version of the file's layout.
const tableFormat = 1

// keepExpired is how long an expired document's version is remembered, so that
// a writer who slept through its expiry does not meet its number again.
const keepExpired = 24 * time.Hour

var (
	jobsTable   = []byte("jobs")
	activeTable = []byte("active")
	vmsTable    = []byte("vms")
	docsTable   = []byte("docs")
	metaTable   = []byte("meta")
	formatKey   = []byte("format")
)

// Store is the table. Make it with Open or New.
type Store struct {
	// Now is the clock behind documents' expiry; nil: time.Now. Set it before use.
	Now func() time.Time

	file *boltfile.File
}

var _ store.Store = (*Store)(nil)

// Open opens or makes the table's file, which one process holds at a time. A
// damaged one is store.ErrCorrupt and stays as it is.
func Open(path string) (*Store, error) {
	f, err := boltfile.Open(path, 0)
	if errors.Is(err, boltfile.ErrLocked) {
		return nil, fmt.Errorf("another serve is running on this home: stop it, or set another ANYCLOUD_HOME: %w", err)
	}
	if errors.Is(err, boltfile.ErrCorrupt) {
		return nil, fmt.Errorf("%w: put a copy from a backup in its place, or move it away to start anew: %w", store.ErrCorrupt, err)
	}
	if err != nil {
		return nil, translate(err)
	}
	s, err := New(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// New makes the store in an open file.
func New(f *boltfile.File) (*Store, error) {
	s := &Store{file: f}
	// Looked at first, so that a newer or damaged table is left as it is.
	if err := f.View(s.check); err != nil {
		return nil, fmt.Errorf("open table: %w", translate(err))
	}
	if err := f.Update(s.prepare); err != nil {
		return nil, fmt.Errorf("open table: %w", translate(err))
	}
	return s, nil
}

// File is the open file, which the bus may share.
func (s *Store) File() *boltfile.File { return s.file }

// Close releases the file.
func (s *Store) Close() error { return translate(s.file.Close()) }

// check refuses a newer layout, and damage that bbolt does not see: better now
// than in the middle of a recovery.
func (s *Store) check(tx *bolt.Tx) error {
	meta := tx.Bucket(metaTable)
	if meta == nil {
		return nil
	}
	v, err := strconv.Atoi(string(meta.Get(formatKey)))
	if err != nil {
		return fmt.Errorf("%w: no format", store.ErrCorrupt)
	}
	if v > tableFormat {
		return fmt.Errorf("the table has format %d, this program knows %d: %w", v, tableFormat, store.ErrNewer)
	}
	for _, name := range [][]byte{jobsTable, activeTable, vmsTable, docsTable} {
		b := tx.Bucket(name)
		if b == nil {
			return fmt.Errorf("%w: no %s", store.ErrCorrupt, name)
		}
		if string(name) != string(jobsTable) && string(name) != string(docsTable) {
			continue
		}
		err := b.ForEach(func(k, v []byte) error {
			if _, err := boltfile.Unseal(v); err != nil {
				return fmt.Errorf("%s %s: %w", name, k, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the tables and forgets documents long expired.
func (s *Store) prepare(tx *bolt.Tx) error {
	for _, name := range [][]byte{jobsTable, activeTable, vmsTable, docsTable, metaTable} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	if err := tx.Bucket(metaTable).Put(formatKey, strconv.AppendInt(nil, tableFormat, 10)); err != nil {
		return err
	}
	var old [][]byte
	docs, before := tx.Bucket(docsTable), s.now().Add(-keepExpired)
	err := docs.ForEach(func(k, v []byte) error {
		d, err := decodeDoc(v)
		if err == nil && d.expired(before) {
			old = append(old, k)
		}
		return err
	})
	for _, k := range old {
		if err := docs.Delete(k); err != nil {
			return err
		}
	}
	return err
}

func (s *Store) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}
