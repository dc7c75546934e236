package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// pauseShare of MaxPause may be spent on the copy, in percent: the rest is for
// letting the job go on.
const pauseShare = 80

// copyMost bounds the memory of a frozen copy, in bytes.
const copyMost = 512 << 20

// errPauseOver: what changed does not fit into the pause.
var errPauseOver = errors.New("too much changed for the pause")

// frozen stops the job for at most MaxPause and copies what changed since it was
// read; hashing and sending come after. On an error it still tells the pause.
func (s *Saver) frozen(ctx context.Context, p *packer, memo *memo) (capture, error) {
	began := time.Now()
	if err := s.o.Freezer.Freeze(ctx); err != nil {
		return capture{}, fmt.Errorf("freeze: %w", err)
	}
	limited, cancel := context.WithDeadlineCause(ctx, began.Add(s.o.MaxPause*pauseShare/100), errPauseOver)
	at := time.Now() // nothing changes from here on
	copies, trees, walked, err := s.copyChanged(limited, memo)
	cancel()
	thaw := s.o.Freezer.Thaw(context.WithoutCancel(ctx))
	c := capture{clean: true, at: s.wall(at), pause: time.Since(began), walked: walked}
	if err != nil {
		return c, err
	}
	if thaw != nil {
		return c, fmt.Errorf("the freeze ended too early: %w", thaw)
	}
	for key, f := range copies {
		n := f.node
		n.Chunks = p.addData(f.data)
		// Its dirty pages were not written back: a store into one of them would
		// leave no trace, so the next save reads it in any case.
		n.dirty = true
		memo.put(key, n)
		delete(copies, key)
	}
	if !fill(trees, memo) {
		return c, errors.New("a file was not captured")
	}
	c.trees = trees
	return c, nil
}

type fileCopy struct {
	node node
	data []byte
}

func (s *Saver) copyChanged(ctx context.Context, memo *memo) (map[string]fileCopy, map[string][]node, time.Time, error) {
	trees, walked, _, err := s.walkAll(ctx)
	if err != nil {
		return nil, nil, walked, err
	}
	copies := map[string]fileCopy{}
	var total int64
	for _, c := range s.toRead(trees, memo) {
		if total += c.node.Size; total > copyMost {
			return nil, nil, walked, errPauseOver
		}
		b, err := copyFile(ctx, c.path, c.node.Size)
		if err != nil {
			return nil, nil, walked, err
		}
		copies[c.key] = fileCopy{c.node, b}
	}
	return copies, trees, walked, context.Cause(ctx)
}

func copyFile(ctx context.Context, path string, size int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, size)
	for at := int64(0); at < size; at += readSize {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if _, err := io.ReadFull(f, b[at:min(size, at+readSize)]); err != nil {
			return nil, fmt.Errorf("a file changed while frozen: %w", err)
		}
	}
	return b, nil
}
