package boltstore

import (
	"context"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"anycloud/shared/store"
)

// GetDoc implements store.Store.
func (s *Store) GetDoc(ctx context.Context, key string) (data []byte, version int64, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	err = s.file.View(func(tx *bolt.Tx) error {
		row := tx.Bucket(docsTable).Get([]byte(key))
		if row == nil {
			return fmt.Errorf("get document %s: %w", key, store.ErrNotFound)
		}
		d, err := decodeDoc(row)
		if err == nil && d.expired(s.now()) {
			err = fmt.Errorf("get document %s: expired: %w", key, store.ErrNotFound)
		}
		if err == nil {
			data, version = d.Data, d.Version
		}
		return err
	})
	return data, version, translate(err)
}

// PutDoc implements store.Store. A document that replaces an expired one goes
// on from its version, so that no number is used twice.
func (s *Store) PutDoc(ctx context.Context, key string, data []byte, ifVersion int64, expires time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return translate(s.file.Update(func(tx *bolt.Tx) error {
		docs := tx.Bucket(docsTable)
		var was doc
		if row := docs.Get([]byte(key)); row != nil {
			var err error
			if was, err = decodeDoc(row); err != nil {
				return err
			}
		}
		have := was.Version
		if was.expired(s.now()) {
			have = 0
		}
		if have != ifVersion {
			return fmt.Errorf("put document %s at version %d: %w", key, ifVersion, store.ErrConflict)
		}
		row, err := encodeDoc(doc{was.Version + 1, expires, data})
		if err != nil {
			return err
		}
		return docs.Put([]byte(key), row)
	}))
}
