package wal

import (
	"context"
	"errors"
	"fmt"

	"anycloud/shared/bucket"
)

// Append adds an entry behind the newest one. The entry's number, attempt, time
// and (if empty) nonce are filled in. An error other than ErrFenced means that
// the entry may be in the log or not: repeated with the same nonce, Append finds
// it if it is. So it does in another process, which looks through the whole log,
// or from e.Number on if that is given.
func (l *Log) Append(ctx context.Context, e Entry) (Entry, error) {
	if err := l.check(); err != nil {
		return Entry{}, err
	}
	from := 0 // where the entry may be already; 0: nowhere
	switch {
	case e.Nonce == "":
		e.Nonce = l.nonce()
	case e.Nonce == l.trying.nonce:
		from = l.trying.from
	default: // perhaps of an earlier process
		from = max(1, e.Number)
	}
	head, err := l.Head(ctx)
	if err != nil {
		return Entry{}, err
	}
	for n := from; n > 0 && n <= head; n++ {
		if got, err := l.Read(ctx, n); err != nil || got.Nonce == e.Nonce {
			return got, err
		}
	}
	for n := head + 1; ; n++ {
		got, mine, err := l.AppendAt(ctx, n, e)
		if err != nil || mine {
			return got, err
		}
	}
}

// AppendAt settles a number, which must be at most one above the newest known
// entry: either the entry is created there, or what is there is returned. mine
// says which; it is also true if an earlier try, whose answer was lost, had
// created it. An error other than ErrFenced leaves the number unsettled: it must
// be tried again before another number is, or the entry could be there twice.
//
// A caller whose entry depends on what came before (a commit on packs that no
// prune lists, a prune on which commit is the newest) looks at what it finds
// taken, and goes on behind it: so nothing comes between unseen.
func (l *Log) AppendAt(ctx context.Context, n int, e Entry) (got Entry, mine bool, err error) {
	if err := l.check(); err != nil {
		return Entry{}, false, err
	}
	if n < 1 || n > l.head+1 {
		return Entry{}, false, fmt.Errorf("append log entry %d: entry %d was not seen", n, n-1)
	}
	if e.Nonce == "" {
		e.Nonce = l.nonce()
	}
	if l.trying.nonce != e.Nonce {
		l.trying = trying{e.Nonce, n}
	}
	e.Format, e.Attempt, e.Number = Format, l.attempt, n
	if e.Time.IsZero() {
		e.Time = l.now().UTC()
	}
	b, err := e.encode()
	if err != nil {
		return Entry{}, false, err
	}
	err = l.objects.PutIfAbsent(ctx, Key(n), b)
	if err == nil {
		if n > l.head {
			l.head, l.last = n, e
		}
		return e, true, nil
	}
	if !errors.Is(err, bucket.ErrExists) {
		return Entry{}, false, fmt.Errorf("append log entry %d: %w", n, err)
	}
	got, err = l.Read(ctx, n)
	if err != nil {
		return Entry{}, false, err
	}
	return got, got.Nonce == e.Nonce, nil
}

// Fence takes the log over: nothing of a lower attempt can follow, because its
// next number is taken. It is idempotent for an attempt: if the newest entry is
// this attempt's own already, the log is its, and that entry is returned.
func (l *Log) Fence(ctx context.Context) (Entry, error) {
	head, err := l.Head(ctx)
	if err != nil {
		return Entry{}, err
	}
	if head > 0 && l.last.Attempt == l.attempt {
		return l.last, nil
	}
	return l.Append(ctx, Entry{Kind: KindFence})
}

// ErrMoved: the log has entries that the caller did not count with. Nothing was
// appended.
var ErrMoved = errors.New("the log moved on")

// Prune lets go of packs: the entry that lists them goes to the number behind
// head, which is the newest entry that the choice of victims took into account,
// and only then they are deleted, in order. If another entry is there, victims
// may be needed by it: ErrMoved, and the caller chooses anew. keeps are the
// commits that stay restorable.
//
// The nonce is the caller's, so that a prune whose answer was lost is recognised
// when it is repeated. deleted counts; what is left after an error is deleted by
// a later prune.
func (l *Log) Prune(ctx context.Context, head int, nonce string, victims []string, keeps []int) (deleted int, err error) {
	_, mine, err := l.AppendAt(ctx, head+1, Entry{Kind: KindPrune, Nonce: nonce, Victims: victims, Keeps: keeps})
	if err != nil {
		return 0, err
	}
	if !mine {
		return 0, ErrMoved
	}
	for _, key := range victims {
		if err := l.objects.Delete(ctx, key); err != nil && !errors.Is(err, bucket.ErrNotFound) {
			return deleted, fmt.Errorf("delete a pruned pack: %w", err)
		}
		deleted++
	}
	return deleted, nil
}
