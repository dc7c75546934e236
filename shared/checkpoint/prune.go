package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint/wal"
)

// What prune spares beside the newest commit of any kind.
const (
	// KeepClean newest clean commits.
	KeepClean = 3
	// KeepFor is how young a commit is that is always spared.
	KeepFor = 10 * time.Minute
)

// Prune lets go of packs that no commit worth keeping needs: an entry lists
// them, and only then they are deleted. A pruner that died in between leaves
// packs that everybody treats as gone; the next prune deletes them.
func (s *Saver) Prune(ctx context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clean := 0
	now := s.o.Now()
	spared := map[string]bool{}
	first := true
	cs, pruned, err := history(ctx, s.log, func(commit) bool { return false })
	if err != nil {
		return 0, err
	}
	for _, c := range cs {
		keep := first || now.Sub(c.entry.Time) < KeepFor
		if c.root.Clean && clean < KeepClean {
			clean++
			keep = true
		}
		first = false
		if keep {
			for _, p := range c.root.Packs {
				spared[p.Key] = true
			}
		}
	}
	for _, key := range s.cache.uncommitted() {
		spared[key] = true
	}
	var victims, listed []string
	for after := ""; ; {
		page, more, err := s.o.Objects.List(ctx, packPrefix, after, 0)
		if err != nil {
			return 0, fmt.Errorf("list packs: %w", err)
		}
		for _, o := range page {
			after = o.Key
			if spared[o.Key] {
				continue
			}
			victims = append(victims, o.Key)
			if !pruned[o.Key] {
				listed = append(listed, o.Key)
			}
		}
		if !more || len(page) == 0 {
			break
		}
	}
	if len(victims) == 0 {
		return 0, nil
	}
	if len(listed) > 0 {
		if _, err := s.log.Append(ctx, wal.Entry{Kind: wal.KindPrune, Victims: listed}); err != nil {
			return 0, fmt.Errorf("list the victims: %w", err)
		}
	}
	n := 0
	for _, key := range victims {
		if err := s.o.Objects.Delete(ctx, key); err != nil && !errors.Is(err, bucket.ErrNotFound) {
			return n, fmt.Errorf("delete a pruned pack: %w", err)
		}
		n++
	}
	return n, nil
}
