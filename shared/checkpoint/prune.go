package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	"anycloud/shared/checkpoint/wal"
)

// What prune spares beside the newest commit of any kind.
const (
	// KeepClean newest clean commits.
	KeepClean = 3
	// KeepFor is how young a commit is that is always spared.
	KeepFor = 10 * time.Minute
)

// pruneTries is how often a prune chooses its victims anew because the log moved.
const pruneTries = 5

// Prune lets go of packs that no commit worth keeping needs, and returns how many
// it deleted: an entry lists them, and only then they are deleted. A pruner that
// died in between leaves packs that everybody treats as gone; the next prune
// deletes them. It must not run while a notice is open: the caller decides.
func (s *Saver) Prune(ctx context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	nonce := wal.NewNonce()
	for range pruneTries {
		n, err := s.pruneOnce(ctx, nonce)
		if !errors.Is(err, wal.ErrMoved) {
			return n, err
		}
	}
	return 0, nil // others commit and prune at full speed: they do it
}

func (s *Saver) pruneOnce(ctx context.Context, nonce string) (int, error) {
	h, err := openHistory(ctx, s.log)
	if err != nil {
		return 0, err
	}
	head := h.next
	spared, keeps, err := s.spare(ctx, h)
	if err != nil || len(keeps) == 0 {
		return 0, err
	}
	var victims []string
	for after := ""; ; {
		page, more, err := s.o.Objects.List(ctx, packPrefix, after, 0)
		if err != nil {
			return 0, fmt.Errorf("list packs: %w", err)
		}
		for _, o := range page {
			after = o.Key
			if !spared[o.Key] {
				victims = append(victims, o.Key)
			}
		}
		if !more || len(page) == 0 {
			break
		}
	}
	if len(victims) == 0 {
		return 0, nil
	}
	victims = victims[:min(len(victims), victimsMost)]
	n, err := s.log.Prune(ctx, head, nonce, victims, keeps)
	if s.loaded && s.settled == head && s.log.Known() == head+1 && !errors.Is(err, wal.ErrMoved) {
		s.settled++ // our own entry, which lists nothing that we know of
	}
	return n, err
}

// victimsMost bounds an entry. What is over it falls to the next prune.
const victimsMost = 50_000

// spare says which packs stay and which commits they are of, newest first.
func (s *Saver) spare(ctx context.Context, h *history) (spared map[string]bool, keeps []int, err error) {
	spared = map[string]bool{}
	now, clean := s.o.Now(), 0
	for {
		c, ok, err := h.older(ctx)
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			break
		}
		young := now.Sub(c.entry.Time) < KeepFor
		keep := len(keeps) == 0 || young
		if c.root.Clean && clean < KeepClean {
			clean++
			keep = true
		}
		if keep {
			packs, err := packsOf(ctx, s.o.Objects, c.root)
			if err != nil {
				// Without its table, what it needs is not known: let nothing go.
				return nil, nil, fmt.Errorf("look up what commit %d needs: %w", c.entry.Number, err)
			}
			for _, p := range packs {
				spared[p.Key] = true
			}
			keeps = append(keeps, c.entry.Number)
		}
		if clean >= KeepClean && !young {
			break
		}
	}
	for _, key := range s.cache.uncommitted() {
		spared[key] = true
	}
	return spared, keeps, nil
}
