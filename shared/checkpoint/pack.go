package checkpoint

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"anycloud/shared/bucket"
)

const packPrefix = "packs/"

// place is where a chunk lies.
type place struct {
	Pack   string
	Offset int64
	Length int64
}

// packer collects chunks into packs and sends those that are full, some at once.
type packer struct {
	s     *Saver
	group *errgroup.Group
	ctx   context.Context

	mu      sync.Mutex
	buf     []byte
	index   []indexEntry
	pending map[Hash]bool // in buf or on its way
	sent    int64
	took    time.Duration
}

func (s *Saver) newPacker(ctx context.Context) *packer {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.o.Parallel)
	return &packer{s: s, group: g, ctx: ctx, pending: map[Hash]bool{}}
}

// add puts a chunk into the current pack unless the bucket has it.
func (p *packer) add(b []byte) Hash {
	h := hashOf(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending[h] || p.s.cache.has(h) {
		return h
	}
	p.pending[h] = true
	p.index = append(p.index, indexEntry{h, int64(len(p.buf)), int64(len(b))})
	p.buf = append(p.buf, b...)
	if len(p.buf) >= PackSize {
		p.send()
	}
	return h
}

// send hands the current pack to an uploader; called with the lock held.
func (p *packer) send() {
	if len(p.index) == 0 {
		return
	}
	buf, index := p.buf, p.index
	p.buf, p.index = make([]byte, 0, PackSize+ChunkSize), nil
	p.group.Go(func() error { return p.upload(buf, index) })
}

// flush sends what is left and waits for all of it.
func (p *packer) flush() error {
	p.mu.Lock()
	p.send()
	p.mu.Unlock()
	return p.group.Wait()
}

// upload sends one pack: its chunks, then its index. A pack has a name that was
// never used, so a repeated try meets only itself.
func (p *packer) upload(buf []byte, index []indexEntry) error {
	var raw [8]byte
	rand.Read(raw[:]) //nolint:errcheck // never fails
	ib, err := json.Marshal(index)
	if err != nil {
		return err
	}
	ref := PackRef{Key: fmt.Sprintf("%s%06d-%s", packPrefix, p.s.o.Attempt, hex.EncodeToString(raw[:])), Index: int64(len(buf))}
	buf = append(buf, ib...)
	ref.Size = int64(len(buf))
	began := time.Now()
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 100 * time.Millisecond
	_, err = backoff.Retry(p.ctx, func() (struct{}, error) {
		err := p.s.o.Objects.PutIfAbsent(p.ctx, ref.Key, buf)
		switch {
		case errors.Is(err, bucket.ErrExists):
			err = nil // the answer of our own earlier try was lost
		case errors.Is(err, bucket.ErrNotFound), errors.Is(err, bucket.ErrFull), errors.Is(err, bucket.ErrDenied):
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(b), backoff.WithMaxElapsedTime(uploadFor))
	if err != nil {
		var permanent *backoff.PermanentError
		if errors.As(err, &permanent) {
			err = permanent.Err
		}
		return fmt.Errorf("send pack: %w", err)
	}
	p.mu.Lock()
	p.sent += ref.Size
	p.took += time.Since(began)
	p.mu.Unlock()
	// Acknowledged: a saver that is killed from here on does not send it again.
	return p.s.cache.acknowledged(ref, index)
}

// uploadFor bounds the tries of one pack; the save fails then, and the next one
// goes on with the packs that were acknowledged.
const uploadFor = 2 * time.Minute
