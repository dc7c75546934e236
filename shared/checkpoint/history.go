package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint/wal"
)

// history reads a log's commits, newest first, those that prunes let go of left
// out. It reads no more than it is asked for, so that a long log costs nothing.
type history struct {
	log     *wal.Log
	next    int             // number to look at next
	victims map[string]bool // packs that prunes seen so far list
	keeps   []int           // what the newest prune keeps, descending, once jump
	jump    bool
	damaged []string // entries that cannot be read; only a reader passes them
}

// openHistory begins at the newest entry.
func openHistory(ctx context.Context, l *wal.Log) (*history, error) {
	head, err := l.Head(ctx)
	if err != nil {
		return nil, err
	}
	return &history{log: l, next: head, victims: map[string]bool{}}, nil
}

// older returns the next commit; false: there is none any more.
func (h *history) older(ctx context.Context) (commit, bool, error) {
	for h.next > 0 {
		n := h.next
		e, err := h.log.Read(ctx, n)
		if err != nil {
			// What attempt a damaged entry was of cannot be told, so nobody may act
			// on the log any more; but it can still be read.
			missing := errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrNoBucket)
			if h.log.Attempt() > 0 || !errors.Is(err, wal.ErrDamaged) && !missing {
				return commit{}, false, err
			}
			h.damaged = append(h.damaged, err.Error())
		}
		h.advance(e)
		switch e.Kind {
		case wal.KindPrune:
			for _, v := range e.Victims {
				h.victims[v] = true
			}
		case wal.KindCommit:
			c, err := openRoot(e)
			if errors.Is(err, ErrDamaged) {
				h.damaged = append(h.damaged, err.Error())
				continue
			}
			return c, err == nil, err
		}
	}
	return commit{}, false, nil
}

// advance goes to the entry before. What the newest prune does not keep is gone,
// so everything in between is jumped over: a prune before it can only keep more
// of the same.
func (h *history) advance(e wal.Entry) {
	if e.Kind == wal.KindPrune && e.Keeps != nil && !h.jump {
		h.keeps, h.jump = slices.Clone(e.Keeps), true
		slices.Sort(h.keeps)
		slices.Reverse(h.keeps)
	}
	if !h.jump {
		h.next--
		return
	}
	below := h.next
	h.next = 0
	for _, n := range h.keeps {
		if n < below {
			h.next = n
			return
		}
	}
}

// letGo says whether a prune seen so far lists one of the packs.
func (h *history) letGo(packs []PackRef) error {
	for _, p := range packs {
		if h.victims[p.Key] {
			return fmt.Errorf("%w: %s was pruned", ErrDamaged, p.Key)
		}
	}
	return nil
}
