package memstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"anycloud/shared/store"
)

// doc finds a document that has not expired.
func (s *Store) doc(key string) (doc, bool) {
	d, ok := s.docs[key]
	if !ok || d.expires.IsZero() {
		return d, ok
	}
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	return d, now().Before(d.expires)
}

// GetDoc implements store.Store.
func (s *Store) GetDoc(ctx context.Context, key string) (data []byte, version int64, err error) {
	err = s.do(ctx, OpGetDoc, key, func() error {
		d, ok := s.doc(key)
		if !ok {
			return fmt.Errorf("get document %s: %w", key, store.ErrNotFound)
		}
		data, version = slices.Clone(d.data), d.version
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return data, version, nil
}

// PutDoc implements store.Store. A document that replaces an expired one goes
// on from its version, so that no number is used twice.
func (s *Store) PutDoc(ctx context.Context, key string, data []byte, ifVersion int64, expires time.Time) error {
	return s.do(ctx, OpPutDoc, key, func() error {
		var have int64
		if d, ok := s.doc(key); ok {
			have = d.version
		}
		if have != ifVersion {
			return fmt.Errorf("put document %s at version %d: %w", key, ifVersion, store.ErrConflict)
		}
		s.docs[key] = doc{slices.Clone(data), s.docs[key].version + 1, expires}
		return nil
	})
}
