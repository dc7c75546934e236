package checkpoint

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"anycloud/shared/bucket"
)

// chunkStore reads what commits are made of, and proves what is missing.
type chunkStore struct {
	objects bucket.Objects
	mu      sync.Mutex
	places  map[Hash]place
}

// indexesAtOnce are read of packs.
const indexesAtOnce = 16

// packsOf lists all packs of a commit.
func packsOf(ctx context.Context, objects bucket.Objects, r Root) ([]PackRef, error) {
	t := r.Table
	b, err := getVerified(ctx, objects, t.Pack.Key, t.Offset, t.Length, t.Hash)
	if err != nil {
		return nil, fmt.Errorf("table of packs: %w", err)
	}
	var packs []PackRef
	if err := json.Unmarshal(b, &packs); err != nil {
		return nil, fmt.Errorf("%w: table of packs: %v", ErrDamaged, err)
	}
	for _, p := range packs {
		if err := p.check(); err != nil {
			return nil, err
		}
	}
	return append(packs, t.Pack), nil
}

// openPacks reads the packs' indexes.
func openPacks(ctx context.Context, objects bucket.Objects, packs []PackRef) (*chunkStore, error) {
	s := &chunkStore{objects: objects, places: map[Hash]place{}}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(indexesAtOnce)
	for _, p := range packs {
		g.Go(func() error {
			b, err := getRange(gctx, objects, p.Key, p.Index, p.Size-p.Index)
			if err != nil {
				return err
			}
			index, err := decodeIndex(b, p.Index)
			if err != nil {
				return fmt.Errorf("%s: %w", p.Key, err)
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

// getVerified reads a piece and holds it against its hash. Other bytes are read
// once more before they are proof: the way here may have changed them.
func getVerified(ctx context.Context, objects bucket.Objects, key string, offset, length int64, h Hash) ([]byte, error) {
	for range 2 {
		b, err := getRange(ctx, objects, key, offset, length)
		if err != nil || hashOf(b) == h {
			return b, err
		}
	}
	return nil, fmt.Errorf("%w: %s in %s holds other bytes", ErrDamaged, h, key)
}

// getRange reads exactly length bytes. That an object is missing or too short is
// proven by a fresh listing; then it is ErrDamaged. Every other error says
// nothing about the object.
func getRange(ctx context.Context, objects bucket.Objects, key string, offset, length int64) ([]byte, error) {
	r, err := objects.Get(ctx, key, offset, length)
	if errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrNoBucket) {
		size, there, lerr := objectSize(ctx, objects, key)
		switch {
		case lerr != nil:
			return nil, lerr
		case !there:
			return nil, fmt.Errorf("%w: %s is missing", ErrDamaged, key)
		default:
			return nil, fmt.Errorf("read %s: listed with %d bytes, and not found", key, size)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	defer r.Close()
	b := make([]byte, length)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			if size, there, lerr := objectSize(ctx, objects, key); lerr == nil && there && size < offset+length {
				return nil, fmt.Errorf("%w: %s is cut short", ErrDamaged, key)
			}
		}
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return b, nil
}

// objectSize lists one object.
func objectSize(ctx context.Context, objects bucket.Objects, key string) (int64, bool, error) {
	page, _, err := objects.List(ctx, key, "", 1)
	if err != nil {
		return 0, false, fmt.Errorf("list %s: %w", key, err)
	}
	if len(page) == 0 || page[0].Key != key {
		return 0, false, nil
	}
	return page[0].Size, true, nil
}

// blob reads one piece.
func (s *chunkStore) blob(ctx context.Context, h Hash) ([]byte, error) {
	var out []byte
	err := s.chunks(ctx, []Hash{h}, func(_ int, b []byte) error { out = b; return nil })
	return out, err
}

// gapMost is how many bytes that nobody wants are read along, so that one request
// does for what lies on both sides: less than another request takes.
const gapMost = 64 << 10

// chunks reads several chunks in their order, what lies close together in one
// request, and verifies each. A hole is taken as nil.
func (s *chunkStore) chunks(ctx context.Context, hs []Hash, take func(i int, b []byte) error) error {
	order := make([]int, len(hs))
	for i := range order {
		order[i] = i
	}
	return s.inOrder(ctx, hs, order, take)
}

// scattered is chunks in the order in which they lie in the packs, which is not
// quite that in which they were saved: savers read several files at once.
func (s *chunkStore) scattered(ctx context.Context, hs []Hash, take func(i int, b []byte) error) error {
	order := make([]int, len(hs))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := s.places[hs[a]], s.places[hs[b]]
		return cmp.Or(cmp.Compare(x.Pack, y.Pack), cmp.Compare(x.Offset, y.Offset))
	})
	return s.inOrder(ctx, hs, order, take)
}

func (s *chunkStore) inOrder(ctx context.Context, hs []Hash, order []int, take func(i int, b []byte) error) error {
	for len(order) > 0 {
		first := hs[order[0]]
		if first == (Hash{}) {
			if err := take(order[0], nil); err != nil {
				return err
			}
			order = order[1:]
			continue
		}
		at, ok := s.places[first]
		if !ok {
			return fmt.Errorf("%w: chunk %s is in no pack of the commit", ErrDamaged, first)
		}
		end, n := at.Offset+at.Length, 1
		for n < len(order) {
			next, ok := s.places[hs[order[n]]]
			if !ok || next.Pack != at.Pack || next.Offset < at.Offset || next.Offset > end+gapMost || next.Offset+next.Length > at.Offset+PackSize {
				break
			}
			end = max(end, next.Offset+next.Length)
			n++
		}
		b, err := getRange(ctx, s.objects, at.Pack, at.Offset, end-at.Offset)
		if err != nil {
			return err
		}
		for _, i := range order[:n] {
			p := s.places[hs[i]]
			piece := b[p.Offset-at.Offset:][:p.Length]
			if hashOf(piece) != hs[i] {
				if piece, err = getVerified(ctx, s.objects, p.Pack, p.Offset, p.Length, hs[i]); err != nil {
					return err
				}
			}
			if err := take(i, piece); err != nil {
				return err
			}
		}
		order = order[n:]
	}
	return nil
}

// hashes gives a file's hashes, stretch by stretch, so that a file of any size
// costs little memory.
func (s *chunkStore) hashes(ctx context.Context, e *entry, take func(first int64, hs []Hash) error) error {
	if e.Lists == nil {
		return take(0, e.Chunks)
	}
	n := chunkCount(e.Size)
	for i, h := range e.Lists {
		b, err := s.blob(ctx, h)
		if err != nil {
			return err
		}
		hs, err := decodeList(b)
		if err != nil {
			return err
		}
		first := int64(i) * listLength
		if int64(len(hs)) != min(listLength, n-first) {
			return fmt.Errorf("%w: %q: size and lists disagree", ErrDamaged, e.Path)
		}
		if err := take(first, hs); err != nil {
			return err
		}
	}
	return nil
}

// fileChunks reads a file: take gets every chunk that is no hole, in any order.
func (s *chunkStore) fileChunks(ctx context.Context, e *entry, take func(offset int64, b []byte) error) error {
	return s.hashes(ctx, e, func(first int64, hs []Hash) error {
		return s.scattered(ctx, hs, func(i int, b []byte) error {
			if b == nil {
				return nil
			}
			offset := (first + int64(i)) * ChunkSize
			if int64(len(b)) != min(ChunkSize, e.Size-offset) {
				return fmt.Errorf("%w: %q: a chunk has the wrong length", ErrDamaged, e.Path)
			}
			return take(offset, b)
		})
	})
}

// tree reads a commit's tree of one name.
func (s *chunkStore) tree(ctx context.Context, t Tree) ([]entry, error) {
	b, err := s.blob(ctx, t.Segments)
	if err != nil {
		return nil, err
	}
	segs, err := decodeList(b)
	if err != nil {
		return nil, err
	}
	var es []entry
	err = s.chunks(ctx, segs, func(_ int, b []byte) error {
		var seg []entry
		if err := json.Unmarshal(b, &seg); err != nil {
			return fmt.Errorf("%w: tree %s: %v", ErrDamaged, t.Name, err)
		}
		for i := range seg {
			if err := seg[i].check(); err != nil {
				return err
			}
		}
		es = append(es, seg...)
		return nil
	})
	return es, err
}

// attachment reads what travels in the commit.
func (s *chunkStore) attachment(ctx context.Context, r Root) ([]byte, error) {
	var out []byte
	err := s.chunks(ctx, r.Attachment, func(_ int, b []byte) error { out = append(out, b...); return nil })
	return out, err
}
