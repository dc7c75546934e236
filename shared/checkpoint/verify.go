package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint/wal"
)

// CommitInfo is a commit as List shows it.
type CommitInfo struct {
	Number     int       `json:"number"`
	Attempt    int       `json:"attempt"`
	Clean      bool      `json:"clean"`
	Sealed     bool      `json:"sealed"`
	ExitCode   *int      `json:"exit_code"`
	CapturedAt time.Time `json:"captured_at"`
	Time       time.Time `json:"committed_at"`
	Files      int64     `json:"files"`
	Bytes      int64     `json:"bytes"`
	Pruned     bool      `json:"pruned"` // some of its packs are let go of: it cannot be restored
}

// allCommits reads the whole log: its commits, oldest first, and which of them
// prunes let go of. Entries that cannot be read are named.
func allCommits(ctx context.Context, objects bucket.Objects) (cs []commit, gone map[int]bool, damaged []string, err error) {
	l := wal.Open(objects, 0, wal.Options{})
	es, err := l.Entries(ctx, 1)
	if errors.Is(err, wal.ErrDamaged) || errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrNoBucket) {
		es, damaged, err = readable(ctx, l)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	gone = map[int]bool{}
	for _, e := range es {
		switch {
		case e.Kind == wal.KindCommit:
			c, err := openRoot(e)
			if errors.Is(err, ErrDamaged) {
				damaged = append(damaged, err.Error())
				continue
			}
			if err != nil {
				return nil, nil, nil, err
			}
			cs = append(cs, c)
		case e.Kind == wal.KindPrune && e.Keeps != nil:
			for _, c := range cs {
				if !slices.Contains(e.Keeps, c.entry.Number) {
					gone[c.entry.Number] = true
				}
			}
		}
	}
	return cs, gone, damaged, nil
}

// readable reads what can be read of a damaged log.
func readable(ctx context.Context, l *wal.Log) (es []wal.Entry, damaged []string, err error) {
	head, err := l.Head(ctx)
	if err != nil {
		return nil, nil, err
	}
	for n := 1; n <= head; n++ {
		e, err := l.Read(ctx, n)
		switch {
		case err == nil:
			es = append(es, e)
		case errors.Is(err, wal.ErrDamaged), errors.Is(err, bucket.ErrNotFound):
			damaged = append(damaged, err.Error())
		default:
			return nil, nil, err
		}
	}
	return es, damaged, nil
}

// List shows the commits of a log, oldest first.
func List(ctx context.Context, objects bucket.Objects) ([]CommitInfo, error) {
	cs, gone, _, err := allCommits(ctx, objects)
	if err != nil {
		return nil, err
	}
	out := make([]CommitInfo, 0, len(cs))
	for _, c := range cs {
		out = append(out, infoOf(c, gone))
	}
	return out, nil
}

func infoOf(c commit, gone map[int]bool) CommitInfo {
	info := CommitInfo{
		Number: c.entry.Number, Attempt: c.entry.Attempt, Clean: c.root.Clean, Sealed: c.root.Sealed, CapturedAt: c.root.CapturedAt,
		Time: c.entry.Time, Files: c.root.Files, Bytes: c.root.Bytes, Pruned: gone[c.entry.Number],
	}
	if x := c.root.Exit; x != nil {
		info.ExitCode = &x.Code
	}
	return info
}

// Verified is what Verify found of one commit.
type Verified struct {
	CommitInfo
	Problem string `json:"problem,omitempty"` // "": every byte is there
}

// Verify reads every chunk of every commit that is not pruned. Problems of the
// log itself are reported with number 0.
func Verify(ctx context.Context, objects bucket.Objects) ([]Verified, error) {
	cs, gone, damaged, err := allCommits(ctx, objects)
	if err != nil {
		return nil, err
	}
	out := []Verified{}
	for _, d := range damaged {
		out = append(out, Verified{Problem: d})
	}
	v := &verifier{objects: objects, packs: map[string]packCheck{}}
	for _, c := range cs {
		found := Verified{CommitInfo: infoOf(c, gone)}
		if !found.Pruned {
			if err := v.commit(ctx, c); errors.Is(err, ErrDamaged) {
				found.Problem = err.Error()
			} else if err != nil {
				return nil, fmt.Errorf("verify commit %d: %w", c.entry.Number, err)
			}
		}
		out = append(out, found)
	}
	return out, nil
}

// verifier reads every pack once, however many commits need it.
type verifier struct {
	objects bucket.Objects
	mu      sync.Mutex
	packs   map[string]packCheck
}

// packCheck is what was found of a pack.
type packCheck struct {
	err   error         // it is missing, short, or has no index
	index []indexEntry  // where its chunks are
	bad   map[Hash]bool // chunks that are not what they should be
}

// packsVerifiedAtOnce bounds the memory, at PackSize each.
const packsVerifiedAtOnce = 4

func (v *verifier) commit(ctx context.Context, c commit) error {
	packs, err := packsOf(ctx, v.objects, c.root)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(packsVerifiedAtOnce)
	for _, p := range packs {
		g.Go(func() error { return v.pack(gctx, p) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	store := &chunkStore{objects: v.objects, places: map[Hash]place{}}
	for _, p := range packs {
		for _, e := range v.packs[p.Key].index {
			store.places[e.Hash] = place{p.Key, e.Offset, e.Length}
		}
	}
	if _, err := store.attachment(ctx, c.root); err != nil {
		return err
	}
	for _, t := range c.root.Trees {
		es, err := store.tree(ctx, t)
		if err != nil {
			return err
		}
		for i := range es {
			if err := v.file(ctx, store, &es[i]); err != nil {
				return fmt.Errorf("%s of %s: %w", es[i].Path, t.Name, err)
			}
		}
	}
	return nil
}

// file looks up every chunk; their bytes were read with their packs.
func (v *verifier) file(ctx context.Context, store *chunkStore, e *entry) error {
	return store.hashes(ctx, e, func(_ int64, hs []Hash) error {
		for _, h := range hs {
			if h == (Hash{}) {
				continue
			}
			at, ok := store.places[h]
			if !ok {
				return fmt.Errorf("%w: chunk %s is in no pack of the commit", ErrDamaged, h)
			}
			if v.packs[at.Pack].bad[h] {
				return fmt.Errorf("%w: chunk %s in %s holds other bytes", ErrDamaged, h, at.Pack)
			}
		}
		return nil
	})
}

// pack reads a pack whole, unless that was done.
func (v *verifier) pack(ctx context.Context, p PackRef) error {
	v.mu.Lock()
	c, done := v.packs[p.Key]
	v.mu.Unlock()
	if done {
		return c.err
	}
	c.bad = map[Hash]bool{}
	b, err := getRange(ctx, v.objects, p.Key, 0, p.Size)
	if err == nil {
		c.index, err = decodeIndex(b[p.Index:], p.Index)
	}
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	c.err = err
	for _, e := range c.index {
		if hashOf(b[e.Offset:e.Offset+e.Length]) == e.Hash {
			continue
		}
		_, err := getVerified(ctx, v.objects, p.Key, e.Offset, e.Length, e.Hash)
		switch {
		case errors.Is(err, ErrDamaged):
			c.bad[e.Hash] = true
		case err != nil:
			return err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.packs[p.Key] = c
	return c.err
}
