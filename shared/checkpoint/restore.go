package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint/wal"
)

// RestoreOptions say what to restore and where.
type RestoreOptions struct {
	Objects     bucket.Objects
	Attempt     int               // 0: a reader, who is never fenced
	Into        map[string]string // name in commits: directory, made if absent
	AcceptMixed bool              // the newest commit even if it is mixed
	At          int               // this commit; 0: the newest
	FreshFrom   int               // commits of lower attempts are never restored
	Known       int               // newest commit that is known to exist: less is not believed
	Have        *Restored         // what an earlier Restore left in Into: only what differs is fetched
	Progress    func(done, total int64)
	Logger      *slog.Logger
}

// Restored is what a restore brought.
type Restored struct {
	Number     int // 0: there is nothing to restore
	Attempt    int
	CapturedAt time.Time
	Clean      bool
	Exit       *Exit
	Attachment []byte
	Fallbacks  []string // commits that could not be restored, and why
	Files      int64
	Bytes      int64
	trees      map[string][]entry
}

// Restore brings a commit into the directories: the newest clean one, a mixed
// one only if there is no clean one or if that is accepted. It goes back to the
// commit before only on proof that one is damaged; refusals and time-outs are
// tried again until ctx ends. A log whose commits all fail is ErrNoRestorable,
// never an empty one.
func Restore(ctx context.Context, o RestoreOptions) (Restored, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := wal.Open(o.Objects, o.Attempt, wal.Options{})
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 100*time.Millisecond, 10*time.Second
	for {
		got, err := restoreOnce(ctx, l, o)
		if err == nil || final(err) || ctx.Err() != nil {
			return got, err
		}
		o.Logger.Warn("restore not done; again", "err", err)
		select {
		case <-ctx.Done():
			return Restored{}, errors.Join(ctx.Err(), err)
		case <-time.After(b.NextBackOff()):
		}
	}
}

// final says whether another try would meet the same.
func final(err error) bool {
	var local *localError
	return errors.Is(err, wal.ErrFenced) || errors.Is(err, ErrNoRestorable) || errors.Is(err, ErrNewer) || errors.Is(err, wal.ErrNewer) ||
		errors.Is(err, wal.ErrDamaged) || errors.Is(err, bucket.ErrNoBucket) || errors.As(err, &local)
}

// localError is one of this machine's disk, not of the bucket.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

func restoreOnce(ctx context.Context, l *wal.Log, o RestoreOptions) (Restored, error) {
	cs, pruned, err := history(ctx, l, func(c commit) bool {
		return o.At == 0 && c.entry.Attempt < o.FreshFrom || o.At > 0 && c.entry.Number <= o.At
	})
	if err != nil {
		return Restored{}, err
	}
	if o.Known > 0 && (len(cs) == 0 || cs[0].entry.Number < o.Known) {
		return Restored{}, fmt.Errorf("%w: commit %d", ErrBehind, o.Known)
	}
	order, err := candidates(cs, o)
	if err != nil || len(order) == 0 {
		return Restored{}, err
	}
	var fallbacks []string
	for _, c := range order {
		got, err := restoreCommit(ctx, c, pruned, o)
		if err == nil {
			got.Fallbacks = fallbacks
			return got, nil
		}
		if !errors.Is(err, ErrDamaged) {
			return Restored{}, err
		}
		// Proven damaged, or gone. A newer commit may have been made meanwhile
		// by the writer that pruned this one.
		head := c.entry.Number
		if now, herr := l.Head(ctx); herr != nil {
			return Restored{}, herr
		} else if o.At == 0 && now > cs[0].entry.Number && head == cs[0].entry.Number {
			if newer, _, herr := history(ctx, l, func(commit) bool { return true }); herr == nil && len(newer) > 0 && newer[0].entry.Number > head {
				return restoreOnce(ctx, l, o)
			}
		}
		fallbacks = append(fallbacks, fmt.Sprintf("commit %d cannot be restored (%v); going back to the one before", c.entry.Number, err))
		o.Logger.Warn("commit not restorable", "commit", c.entry.Number, "err", err)
	}
	return Restored{}, fmt.Errorf("%w: %v", ErrNoRestorable, fallbacks)
}

// candidates are the commits to try, best first.
func candidates(cs []commit, o RestoreOptions) ([]commit, error) {
	if o.At > 0 {
		for _, c := range cs {
			if c.entry.Number == o.At {
				return []commit{c}, nil
			}
		}
		return nil, fmt.Errorf("%w: there is no commit %d", ErrNoRestorable, o.At)
	}
	var clean, mixed, all []commit
	for _, c := range cs {
		if c.entry.Attempt < o.FreshFrom {
			continue
		}
		all = append(all, c)
		if c.root.Clean {
			clean = append(clean, c)
		} else {
			mixed = append(mixed, c)
		}
	}
	if o.AcceptMixed {
		return all, nil
	}
	return append(clean, mixed...), nil
}

func restoreCommit(ctx context.Context, c commit, pruned map[string]bool, o RestoreOptions) (Restored, error) {
	got := Restored{
		Number: c.entry.Number, Attempt: c.entry.Attempt, CapturedAt: c.root.CapturedAt, Clean: c.root.Clean, Exit: c.root.Exit,
		Attachment: c.root.Attachment, Files: c.root.Files, Bytes: c.root.Bytes, trees: map[string][]entry{},
	}
	if o.Have != nil && o.Have.Number == got.Number && o.Have.trees != nil {
		got.trees = o.Have.trees
		return got, nil
	}
	for _, p := range c.root.Packs {
		if pruned[p.Key] {
			return Restored{}, fmt.Errorf("%w: %s was pruned", ErrDamaged, p.Key)
		}
	}
	store, err := openPacks(ctx, o.Objects, c.root.Packs)
	if err != nil {
		return Restored{}, err
	}
	for _, t := range c.root.Trees {
		if _, wanted := o.Into[t.Name]; !wanted {
			continue
		}
		if got.trees[t.Name], err = store.tree(ctx, t); err != nil {
			return Restored{}, err
		}
	}
	w := &builder{ctx: ctx, store: store, total: c.root.Bytes, progress: o.Progress}
	for name, dir := range o.Into {
		es, ok := got.trees[name]
		if !ok {
			continue
		}
		var have []entry
		if o.Have != nil {
			have = o.Have.trees[name]
		}
		if err := w.build(dir, es, have); err != nil {
			return Restored{}, err
		}
	}
	return got, nil
}
