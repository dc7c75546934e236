package checkpoint

import (
	"context"
	"errors"
	"fmt"

	"anycloud/shared/checkpoint/wal"
)

// Distrust tells the saver that a restore proved a commit damaged: nothing of it
// is reused, so that the next commit is whole. It is called before the first
// Save; the StateDir keeps it.
func (s *Saver) Distrust(number int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.cache.distrust(number); err != nil {
		return fmt.Errorf("note that commit %d is damaged: %w", number, err)
	}
	s.loaded = false
	return nil
}

// loadNewest makes the cache describe the newest commit. A saver does it once:
// from then on it knows all entries up to s.settled, and sees those behind it
// when it appends.
func (s *Saver) loadNewest(ctx context.Context) error {
	if s.loaded {
		return nil
	}
	head, err := s.log.Head(ctx)
	if err != nil {
		return err
	}
	var newest *wal.Entry
	var victims []string
	for n := head; n > 0 && newest == nil; n-- {
		e, err := s.log.Read(ctx, n)
		if err != nil {
			return err
		}
		switch e.Kind {
		case wal.KindPrune:
			victims = append(victims, e.Victims...)
		case wal.KindCommit:
			newest = &e
		}
	}
	switch {
	case newest == nil:
		s.cache.replace(newMemory(), s.cache.Commit == 0)
	case newest.Number <= s.cache.Distrusted:
		s.cache.replace(newMemory(), false)
	case newest.Number != s.cache.Commit || newest.Nonce != s.cache.Nonce:
		m, err := s.remember(ctx, *newest)
		if err != nil {
			return err
		}
		s.cache.replace(m, false)
	}
	// Only packs that the journal holds can be among them.
	s.cache.forget(victims)
	s.settled, s.loaded = head, true
	return nil
}

// remember reads where a commit's chunks lie. How its files looked is not known:
// everything is read once, and what the bucket has is not sent.
func (s *Saver) remember(ctx context.Context, e wal.Entry) (memory, error) {
	m := newMemory()
	m.Commit, m.Nonce = e.Number, e.Nonce
	c, err := openRoot(e)
	var packs []PackRef
	var store *chunkStore
	if err == nil {
		packs, err = packsOf(ctx, s.o.Objects, c.root)
	}
	if err == nil {
		store, err = openPacks(ctx, s.o.Objects, packs)
	}
	if errors.Is(err, ErrDamaged) {
		s.o.Logger.Warn("newest commit is damaged; all is sent again", "commit", e.Number, "err", err)
		return m, nil // nothing of it is reused, and the next save commits
	}
	if err != nil {
		return m, err
	}
	m.Clean, m.Tops, m.Places = c.root.Clean, c.root.Trees, store.places
	for _, p := range packs {
		m.Packs[p.Key] = p
	}
	return m, nil
}
