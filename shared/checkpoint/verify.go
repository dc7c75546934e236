package checkpoint

import (
	"context"
	"errors"
	"time"

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

// List shows the commits of a log, oldest first.
func List(ctx context.Context, objects bucket.Objects) ([]CommitInfo, error) {
	cs, pruned, err := history(ctx, wal.Open(objects, 0, wal.Options{}), func(commit) bool { return false })
	if err != nil {
		return nil, err
	}
	out := make([]CommitInfo, 0, len(cs))
	for i := len(cs) - 1; i >= 0; i-- {
		out = append(out, infoOf(cs[i], pruned))
	}
	return out, nil
}

func infoOf(c commit, pruned map[string]bool) CommitInfo {
	info := CommitInfo{
		Number: c.entry.Number, Attempt: c.entry.Attempt, Clean: c.root.Clean, Sealed: c.root.Sealed, CapturedAt: c.root.CapturedAt,
		Time: c.entry.Time, Files: c.root.Files, Bytes: c.root.Bytes,
	}
	if x := c.root.Exit; x != nil {
		info.ExitCode = &x.Code
	}
	for _, p := range c.root.Packs {
		info.Pruned = info.Pruned || pruned[p.Key]
	}
	return info
}

// Verified is what Verify found of one commit.
type Verified struct {
	CommitInfo
	Problem string `json:"problem,omitempty"` // "": every byte is there
}

// Verify reads every chunk of every commit that is not pruned.
func Verify(ctx context.Context, objects bucket.Objects) ([]Verified, error) {
	cs, pruned, err := history(ctx, wal.Open(objects, 0, wal.Options{}), func(commit) bool { return false })
	if err != nil {
		return nil, err
	}
	var out []Verified
	good := map[Hash]bool{}
	for i := len(cs) - 1; i >= 0; i-- {
		v := Verified{CommitInfo: infoOf(cs[i], pruned)}
		if !v.Pruned {
			if err := verifyCommit(ctx, objects, cs[i], good); errors.Is(err, ErrDamaged) {
				v.Problem = err.Error()
			} else if err != nil {
				return nil, err
			}
		}
		out = append(out, v)
	}
	return out, nil
}

func verifyCommit(ctx context.Context, objects bucket.Objects, c commit, good map[Hash]bool) error {
	store, err := openPacks(ctx, objects, c.root.Packs)
	if err != nil {
		return err
	}
	for _, t := range c.root.Trees {
		es, err := store.tree(ctx, t)
		if err != nil {
			return err
		}
		for _, e := range es {
			var todo []Hash
			for _, h := range e.Chunks {
				if !good[h] {
					todo = append(todo, h)
				}
			}
			if err := store.chunks(ctx, todo, func(i int, _ []byte) error { good[todo[i]] = true; return nil }); err != nil {
				return err
			}
		}
	}
	return nil
}
