package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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
	Damaged    int      // the newest of them: for Saver.Distrust
	Files      int64
	Bytes      int64

	nonce string
	trees map[string][]entry
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
		if !errors.Is(err, errMoved) {
			o.Logger.Warn("restore not done; again", "err", err)
		}
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

// errMoved: there are newer entries than those that were looked at; begin again.
var errMoved = errors.New("the log moved on while it was read")

func restoreOnce(ctx context.Context, l *wal.Log, o RestoreOptions) (Restored, error) {
	h, err := openHistory(ctx, l)
	if err != nil {
		return Restored{}, err
	}
	head := h.next
	if head < o.Known {
		return Restored{}, fmt.Errorf("%w: commit %d", ErrBehind, o.Known)
	}
	// try restores a commit, or says that it is proven damaged.
	var fallbacks []string
	damaged := 0
	try := func(c commit) (Restored, bool, error) {
		got, err := restoreCommit(ctx, c, h, o)
		if err == nil {
			got.Fallbacks, got.Damaged = append(h.damaged, fallbacks...), damaged
			return got, true, nil
		}
		if !errors.Is(err, ErrDamaged) {
			return Restored{}, false, err
		}
		// The writer may have pruned it meanwhile, in favour of a newer one.
		if now, err := l.Head(ctx); err != nil {
			return Restored{}, false, err
		} else if now > head {
			return Restored{}, false, errMoved
		}
		damaged = max(damaged, c.entry.Number)
		fallbacks = append(fallbacks, fmt.Sprintf("commit %d cannot be restored (%v); going back to the one before", c.entry.Number, err))
		o.Logger.Warn("commit not restorable", "commit", c.entry.Number, "err", err)
		return Restored{}, false, nil
	}
	var mixed []commit
	var seen []int
	for {
		c, ok, err := h.older(ctx)
		if err != nil {
			return Restored{}, err
		}
		if !ok || c.entry.Attempt < o.FreshFrom {
			break
		}
		seen = append(seen, c.entry.Number)
		switch {
		case o.At > 0 && c.entry.Number != o.At:
			continue
		case o.At == 0 && !c.root.Clean && !o.AcceptMixed:
			mixed = append(mixed, c)
			continue
		}
		if got, ok, err := try(c); ok || err != nil {
			return got, err
		}
	}
	for _, c := range mixed {
		if got, ok, err := try(c); ok || err != nil {
			return got, err
		}
	}
	switch {
	case len(fallbacks) > 0:
		return Restored{}, fmt.Errorf("%w: %s", ErrNoRestorable, strings.Join(fallbacks, "; "))
	case o.At > 0:
		return Restored{}, fmt.Errorf("%w: commit %d is not there, or was pruned: those that are there are %v", ErrNoRestorable, o.At, seen)
	case len(h.damaged) > 0:
		return Restored{}, fmt.Errorf("%w: %s", ErrNoRestorable, strings.Join(h.damaged, "; "))
	}
	return Restored{}, nothingIsRight(ctx, l, o)
}

// nothingIsRight refuses to begin from nothing if a commit is known of.
func nothingIsRight(ctx context.Context, l *wal.Log, o RestoreOptions) error {
	if o.Known == 0 {
		return nil
	}
	e, err := l.Read(ctx, o.Known)
	if err != nil {
		return err
	}
	if e.Attempt >= o.FreshFrom {
		return fmt.Errorf("%w: commit %d is known of, and the log does not lead to it", ErrNoRestorable, o.Known)
	}
	return nil
}

func restoreCommit(ctx context.Context, c commit, h *history, o RestoreOptions) (Restored, error) {
	got := Restored{
		Number: c.entry.Number, Attempt: c.entry.Attempt, CapturedAt: c.root.CapturedAt, Clean: c.root.Clean, Exit: c.root.Exit,
		Files: c.root.Files, Bytes: c.root.Bytes, nonce: c.entry.Nonce, trees: map[string][]entry{},
	}
	if o.Have != nil && o.Have.Number == got.Number && o.Have.nonce == got.nonce && o.Have.trees != nil {
		got.trees, got.Attachment = o.Have.trees, o.Have.Attachment
		return got, nil
	}
	if err := h.letGo([]PackRef{c.root.Table.Pack}); err != nil {
		return Restored{}, err
	}
	packs, err := packsOf(ctx, o.Objects, c.root)
	if err != nil {
		return Restored{}, err
	}
	if err := h.letGo(packs); err != nil {
		return Restored{}, err
	}
	store, err := openPacks(ctx, o.Objects, packs)
	if err != nil {
		return Restored{}, err
	}
	if got.Attachment, err = store.attachment(ctx, c.root); err != nil {
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
	var have map[string][]entry
	if o.Have != nil {
		have = o.Have.trees
	}
	return got, build(ctx, store, o, got.trees, have, c.root.Bytes)
}
