package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint/wal"
)

// commit is an entry with its root.
type commit struct {
	entry wal.Entry
	root  Root
}

func openRoot(e wal.Entry) (commit, error) {
	var probe struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(e.Commit, &probe); err != nil {
		return commit{}, fmt.Errorf("%w: commit %d: %v", ErrDamaged, e.Number, err)
	}
	if probe.Version > Version {
		return commit{}, ErrNewer
	}
	c := commit{entry: e}
	if err := json.Unmarshal(e.Commit, &c.root); err != nil {
		return commit{}, fmt.Errorf("%w: commit %d: %v", ErrDamaged, e.Number, err)
	}
	return c, nil
}

// history reads the log's commits, newest first, until enough says stop. Packs
// that a later prune lists are gone, whether deleted yet or not.
func history(ctx context.Context, l *wal.Log, enough func(commit) bool) (cs []commit, pruned map[string]bool, err error) {
	head, err := l.Head(ctx)
	if err != nil {
		return nil, nil, err
	}
	pruned = map[string]bool{}
	for n := head; n > 0; n-- {
		e, err := l.Read(ctx, n)
		if err != nil {
			return nil, nil, err
		}
		switch e.Kind {
		case wal.KindPrune:
			for _, v := range e.Victims {
				pruned[v] = true
			}
		case wal.KindCommit:
			c, err := openRoot(e)
			if err != nil {
				return nil, nil, err
			}
			cs = append(cs, c)
			if enough(c) {
				return cs, pruned, nil
			}
		}
	}
	return cs, pruned, nil
}

// store reads chunks of commits, and proves what is missing.
type chunkStore struct {
	objects bucket.Objects
	mu      sync.Mutex
	places  map[Hash]place
}

// readBack bounds one object's index, in bytes.
const indexMost = 64 << 20

// openPacks reads the packs' indexes.
func openPacks(ctx context.Context, objects bucket.Objects, packs []PackRef) (*chunkStore, error) {
	s := &chunkStore{objects: objects, places: map[Hash]place{}}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, p := range packs {
		g.Go(func() error {
			index, err := readIndex(gctx, objects, p)
			if err != nil {
				return err
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, e := range index {
				s.places[e.Hash] = place{p.Key, e.Offset, e.Length}
			}
			return nil
		})
	}
	return s, g.Wait()
}

func readIndex(ctx context.Context, objects bucket.Objects, p PackRef) ([]indexEntry, error) {
	if p.Index < 0 || p.Size < p.Index || p.Size-p.Index > indexMost {
		return nil, fmt.Errorf("%w: pack %s: sizes make no sense", ErrDamaged, p.Key)
	}
	b, err := getRange(ctx, objects, p.Key, p.Index, p.Size-p.Index)
	if err != nil {
		return nil, err
	}
	var index []indexEntry
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("%w: index of pack %s: %v", ErrDamaged, p.Key, err)
	}
	for _, e := range index {
		if e.Offset < 0 || e.Length < 0 || e.Offset+e.Length > p.Index {
			return nil, fmt.Errorf("%w: index of pack %s leads outside", ErrDamaged, p.Key)
		}
	}
	return index, nil
}

// getRange reads exactly length bytes. A missing object is proven missing by a
// fresh listing; then it is ErrDamaged.
func getRange(ctx context.Context, objects bucket.Objects, key string, offset, length int64) ([]byte, error) {
	r, err := objects.Get(ctx, key, offset, length)
	if errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrNoBucket) {
		page, _, lerr := objects.List(ctx, key, "", 1)
		if lerr != nil {
			return nil, lerr
		}
		if len(page) == 0 || page[0].Key != key {
			return nil, fmt.Errorf("%w: %s is missing", ErrDamaged, key)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	defer r.Close()
	b := make([]byte, length)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			page, _, lerr := objects.List(ctx, key, "", 1)
			if lerr == nil && len(page) == 1 && page[0].Key == key && page[0].Size < offset+length {
				return nil, fmt.Errorf("%w: %s is cut short", ErrDamaged, key)
			}
		}
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return b, nil
}

// chunks reads several chunks, neighbours in one request, and verifies each.
func (s *chunkStore) chunks(ctx context.Context, hs []Hash, take func(i int, b []byte) error) error {
	for i := 0; i < len(hs); {
		if hs[i] == (Hash{}) {
			if err := take(i, nil); err != nil {
				return err
			}
			i++
			continue
		}
		at, ok := s.places[hs[i]]
		if !ok {
			return fmt.Errorf("%w: chunk %s is in no pack of the commit", ErrDamaged, hs[i])
		}
		end, j := at.Offset+at.Length, i+1
		for j < len(hs) && end-at.Offset < PackSize {
			next, ok := s.places[hs[j]]
			if !ok || next.Pack != at.Pack || next.Offset != end {
				break
			}
			end += next.Length
			j++
		}
		b, err := getRange(ctx, s.objects, at.Pack, at.Offset, end-at.Offset)
		if err != nil {
			return err
		}
		for ; i < j; i++ {
			n := s.places[hs[i]].Length
			if hashOf(b[:n]) != hs[i] {
				return fmt.Errorf("%w: chunk %s in %s holds other bytes", ErrDamaged, hs[i], at.Pack)
			}
			if err := take(i, b[:n]); err != nil {
				return err
			}
			b = b[n:]
		}
	}
	return nil
}

// tree reads a commit's tree of one name.
func (s *chunkStore) tree(ctx context.Context, t Tree) ([]entry, error) {
	var es []entry
	err := s.chunks(ctx, t.Segments, func(_ int, b []byte) error {
		var seg []entry
		if err := json.Unmarshal(b, &seg); err != nil {
			return fmt.Errorf("%w: tree %s: %v", ErrDamaged, t.Name, err)
		}
		es = append(es, seg...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range es {
		if err := es[i].check(); err != nil {
			return nil, err
		}
	}
	return es, nil
}

// loadNewest makes the cache describe the newest commit, if it does not yet: a
// saver that begins, or whose cache belongs to an older life, reads the log once.
func (s *Saver) loadNewest(ctx context.Context) error {
	if s.cache.loaded && s.cache.Commit > 0 && s.log.Attempt() > 0 && s.cacheIsNewest {
		return nil
	}
	cs, _, err := history(ctx, s.log, func(commit) bool { return true })
	if err != nil {
		return err
	}
	s.cacheIsNewest = true
	if len(cs) == 0 {
		s.cache.mu.Lock()
		defer s.cache.mu.Unlock()
		if s.cache.Commit != 0 {
			s.cache.reset()
			for _, p := range s.cache.acked {
				s.cache.place(p)
			}
		}
		s.cache.loaded = true
		return nil
	}
	if cs[0].entry.Number == s.cache.Commit {
		return nil
	}
	packs, err := openPacks(ctx, s.o.Objects, cs[0].root.Packs)
	if errors.Is(err, ErrDamaged) {
		packs, err = &chunkStore{places: map[Hash]place{}}, nil // nothing of it is reused
		cs[0].root.Packs = nil
	}
	if err != nil {
		return err
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	acked := s.cache.acked
	s.cache.reset()
	s.cache.Places = packs.places
	for _, p := range cs[0].root.Packs {
		s.cache.Packs[p.Key] = p
	}
	for _, p := range acked {
		s.cache.place(p)
	}
	// Without stats nothing counts as unchanged: everything is hashed once, and
	// what the bucket has is not sent.
	s.cache.Commit, s.cache.loaded = cs[0].entry.Number, true
	return nil
}
