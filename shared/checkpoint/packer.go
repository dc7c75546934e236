package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"anycloud/shared/bucket"
)

// place is where a chunk lies.
type place struct {
	Pack   string
	Offset int64
	Length int64
}

// packer collects the chunks of one save into packs and sends those that are
// full, some at once. Its memory is bounded by the packs in flight and one more
// for each reader.
type packer struct {
	s     *Saver
	group *errgroup.Group
	ctx   context.Context
	sent  atomic.Int64 // bytes
	took  atomic.Int64 // ns spent in uploads, together

	progress     func(done, total int64) // of reading, in bytes; may be nil
	read, toRead atomic.Int64

	mu    sync.Mutex
	cur   *openPack
	packs map[string]PackRef // those that are closed
	mine  map[Hash]string    // chunk: pack, closed or not
}

// openPack is a pack that takes chunks.
type openPack struct {
	key   string
	buf   []byte
	index []indexEntry
	ref   PackRef // once it is closed
}

func (s *Saver) newPacker(ctx context.Context) *packer {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.o.Parallel)
	return &packer{s: s, group: g, ctx: ctx, packs: map[string]PackRef{}, mine: map[Hash]string{}}
}

// looked notes that n bytes of files were read.
func (p *packer) looked(n int64) {
	if done := p.read.Add(n); p.progress != nil {
		p.progress(done, max(done, p.toRead.Load()))
	}
}

// add puts a chunk into the current pack unless the bucket has it.
func (p *packer) add(b []byte) Hash {
	hs := p.addAll(b, len(b))
	if len(hs) == 0 {
		return hashOf(nil)
	}
	return hs[0]
}

// addAll adds what lies in b, a chunk every size bytes. They come to lie side by
// side, so that they are read again in one request.
func (p *packer) addAll(b []byte, size int) []Hash {
	var hs []Hash
	for c := range slices.Chunk(b, max(1, size)) {
		hs = append(hs, hashOf(c))
	}
	p.mu.Lock()
	var full []*openPack
	i := 0
	for c := range slices.Chunk(b, max(1, size)) {
		if f := p.put(hs[i], c); f != nil {
			full = append(full, f)
		}
		i++
	}
	p.mu.Unlock()
	for _, f := range full {
		p.send(f) // without the lock: it waits for a free uploader
	}
	return hs
}

// put adds a chunk, and returns the pack if that made it full.
func (p *packer) put(h Hash, b []byte) *openPack {
	if _, ok := p.mine[h]; ok || p.s.cache.has(h) {
		return nil
	}
	if p.cur == nil {
		p.cur = &openPack{key: newPackKey(p.s.o.Attempt)}
	}
	c := p.cur
	p.mine[h] = c.key
	c.index = append(c.index, indexEntry{h, int64(len(c.buf)), int64(len(b))})
	c.buf = append(c.buf, b...)
	if len(c.buf) < PackSize {
		return nil
	}
	return p.close()
}

// close ends the current pack; nil if there is none. The lock is held.
func (p *packer) close() *openPack {
	c := p.cur
	if c == nil {
		return nil
	}
	p.cur = nil
	data := int64(len(c.buf))
	c.buf = appendIndex(c.buf, c.index)
	c.ref = PackRef{Key: c.key, Index: data, Size: int64(len(c.buf))}
	p.packs[c.key] = c.ref
	return c
}

func (p *packer) send(c *openPack) {
	p.group.Go(func() error { return p.upload(c) })
}

// flush sends what is left and waits for all of it.
func (p *packer) flush() error {
	p.mu.Lock()
	c := p.close()
	p.mu.Unlock()
	if c != nil {
		p.send(c)
	}
	return p.group.Wait()
}

// drop waits for what is being sent, and lets go of the rest.
func (p *packer) drop() error {
	p.mu.Lock()
	p.cur = nil
	p.mu.Unlock()
	return p.group.Wait()
}

// finish adds the table of the packs that hold the chunks, sends everything and
// waits. It returns all packs, the table's own last.
func (p *packer) finish(chunks func(yield func(Hash))) (TableRef, []PackRef, error) {
	p.mu.Lock()
	if p.cur == nil {
		p.cur = &openPack{key: newPackKey(p.s.o.Attempt)}
	}
	own := p.cur.key
	packs, err := p.need(chunks, own)
	if err != nil {
		p.mu.Unlock()
		return TableRef{}, nil, err
	}
	table, err := json.Marshal(packs)
	if err != nil {
		p.mu.Unlock()
		return TableRef{}, nil, err
	}
	t := TableRef{Offset: int64(len(p.cur.buf)), Length: int64(len(table)), Hash: hashOf(table)}
	// Always in this pack, even if another one holds the same bytes.
	p.cur.index = append(p.cur.index, indexEntry{t.Hash, t.Offset, t.Length})
	p.cur.buf = append(p.cur.buf, table...)
	p.mu.Unlock()
	if err := p.flush(); err != nil {
		return TableRef{}, nil, err
	}
	t.Pack = p.packs[own]
	return t, append(packs, t.Pack), nil
}

// need lists the packs but own that hold the chunks, sorted. The lock is held.
func (p *packer) need(chunks func(yield func(Hash)), own string) ([]PackRef, error) {
	need := map[string]bool{}
	var missing error
	cache := p.s.cache
	cache.mu.Lock()
	defer cache.mu.Unlock()
	chunks(func(h Hash) {
		key, ok := p.mine[h]
		if !ok {
			var at place
			if at, ok = cache.Places[h]; !ok {
				missing = fmt.Errorf("chunk %s was never sent", h)
			}
			key = at.Pack
		}
		need[key] = true
	})
	delete(need, own)
	out := make([]PackRef, 0, len(need))
	for key := range need {
		ref, ok := p.packs[key]
		if !ok {
			ref = cache.Packs[key]
		}
		out = append(out, ref)
	}
	slices.SortFunc(out, func(a, b PackRef) int { return strings.Compare(a.Key, b.Key) })
	return out, missing
}

// uploadFor bounds the tries of one pack; the save fails then, and the next one
// goes on with the packs that were acknowledged.
const uploadFor = 2 * time.Minute

// upload sends one pack. It has a name that was never used, so a repeated try
// meets only itself.
func (p *packer) upload(c *openPack) error {
	began := time.Now()
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 100 * time.Millisecond
	_, err := backoff.Retry(p.ctx, func() (struct{}, error) {
		err := p.s.o.Objects.PutIfAbsent(p.ctx, c.key, c.buf)
		switch {
		case errors.Is(err, bucket.ErrExists):
			err = nil // the answer of our own earlier try was lost
		case hopeless(err):
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(b), backoff.WithMaxElapsedTime(uploadFor))
	if err != nil {
		var permanent *backoff.PermanentError
		if errors.As(err, &permanent) {
			err = permanent.Unwrap()
		}
		return fmt.Errorf("send pack: %w", err)
	}
	p.sent.Add(c.ref.Size)
	p.took.Add(int64(time.Since(began)))
	// Acknowledged: a saver that is killed from here on does not send it again.
	return p.s.cache.acknowledged(c.ref, c.index)
}

// hopeless says whether the bucket's answer will be the same at once again.
func hopeless(err error) bool {
	return errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrFull) || errors.Is(err, bucket.ErrDenied) || errors.Is(err, bucket.ErrBadKey)
}
