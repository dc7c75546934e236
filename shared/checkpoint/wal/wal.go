// Package wal is the log in a job's bucket: the fence that makes an old
// attempt's writes impossible where the data is, because bucket credentials
// outlive any decision in a table.
//
// The log is dense: log/0000000001, log/0000000002, … Each entry is created only
// if its number is not taken, so exactly one of several writers gets it, and
// everybody sees the same order. An attempt that sees an entry of a higher
// attempt, at whatever read, is fenced for good.
//
//	wal.go     what an attempt sees of the log
//	append.go  the one way to add to it; fence, prune
//	entry.go   how an entry is stored
package wal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"anycloud/shared/bucket"
)

// ErrFenced: a higher attempt owns the log. The caller stops its container and
// itself; nothing it appends can ever count.
var ErrFenced = errors.New("fenced: a newer attempt owns the log")

// prefix of the entries' keys.
const prefix = "log/"

// Key of an entry. Numbers have ten digits, so that keys sort as numbers do.
func Key(number int) string { return fmt.Sprintf("%s%010d", prefix, number) }

func number(key string) (int, bool) {
	s, ok := strings.CutPrefix(key, prefix)
	if !ok || len(s) != 10 {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n > 0
}

// Log is one attempt's view of a job's log. It is not safe for concurrent use.
type Log struct {
	objects bucket.Objects
	attempt int
	now     func() time.Time
	nonce   func() string
	head    int   // newest entry known to exist
	last    Entry // that entry
	fenced  bool
	trying  trying
}

// trying is an append whose answer is not known: its entry, if it is in the log,
// is at from or behind it.
type trying struct {
	nonce string
	from  int
}

// Options of a log; all may be left out.
type Options struct {
	Now   func() time.Time // the writer's clock, for the entries' informational time
	Nonce func() string    // must never repeat
}

// Open looks at a log as an attempt. Attempt 0 only reads and is never fenced.
// No call is made.
func Open(objects bucket.Objects, attempt int, o Options) *Log {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Nonce == nil {
		o.Nonce = NewNonce
	}
	return &Log{objects: objects, attempt: attempt, now: o.Now, nonce: o.Nonce}
}

// NewNonce is 128 random bits.
func NewNonce() string {
	var b [16]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	return hex.EncodeToString(b[:])
}

// Attempt that this log is opened for.
func (l *Log) Attempt() int { return l.attempt }

// Fenced says whether a higher attempt was seen.
func (l *Log) Fenced() bool { return l.fenced }

// Known is the newest entry seen so far; no call is made.
func (l *Log) Known() int { return l.head }

// see holds every entry read against the attempt.
func (l *Log) see(e Entry) error {
	if e.Number >= l.head {
		l.head, l.last = e.Number, e
	}
	if l.attempt > 0 && e.Attempt > l.attempt {
		l.fenced = true
	}
	return l.check()
}

func (l *Log) check() error {
	if l.fenced {
		return ErrFenced
	}
	return nil
}

// Read returns one entry. bucket.ErrNotFound if there is none of that number.
func (l *Log) Read(ctx context.Context, n int) (Entry, error) {
	if n > 0 && n == l.last.Number {
		return l.last, l.check() // entries never change
	}
	e, err := l.fetch(ctx, n)
	if err != nil {
		return Entry{}, err
	}
	return e, l.see(e)
}

func (l *Log) fetch(ctx context.Context, n int) (Entry, error) {
	r, err := l.objects.Get(ctx, Key(n), 0, -1)
	if err != nil {
		return Entry{}, fmt.Errorf("read log entry %d: %w", n, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, MaxEntry+1))
	if err != nil {
		return Entry{}, fmt.Errorf("read log entry %d: %w", n, err)
	}
	e, err := decode(b)
	if err != nil {
		return Entry{}, fmt.Errorf("read log entry %d: %w", n, err)
	}
	if e.Number != n {
		return Entry{}, fmt.Errorf("read log entry %d: %w: it says that it is %d", n, ErrDamaged, e.Number)
	}
	return e, nil
}

// Head is the number of the newest entry, 0 in an empty log. It lists what came
// after the last known one, and reads the newest, so that a fence is not missed.
func (l *Log) Head(ctx context.Context) (int, error) {
	head := l.head
	for {
		after := ""
		if head > 0 {
			after = Key(head)
		}
		page, more, err := l.objects.List(ctx, prefix, after, 0)
		if err != nil {
			return 0, fmt.Errorf("list the log: %w", err)
		}
		for _, o := range page {
			if n, ok := number(o.Key); ok {
				head = max(head, n)
			}
		}
		if !more || len(page) == 0 {
			break
		}
	}
	switch {
	case head <= l.head:
	case l.attempt == 0:
		l.head = head // a reader is not fenced
	default:
		// Attempts never go down along the log, so the newest entry tells. The
		// head moves only with it read: a fence behind a failed read would be
		// passed over for ever.
		if _, err := l.Read(ctx, head); err != nil {
			return 0, err
		}
	}
	return l.head, l.check()
}

// readAhead is how many entries are fetched at once.
const readAhead = 16

// Entries returns the entries from a number to the head, oldest first.
func (l *Log) Entries(ctx context.Context, from int) ([]Entry, error) {
	head, err := l.Head(ctx)
	if err != nil {
		return nil, err
	}
	return l.Range(ctx, from, head)
}

// Range returns the entries from one number to another, oldest first.
func (l *Log) Range(ctx context.Context, from, to int) ([]Entry, error) {
	from = max(1, from)
	if to < from {
		return nil, nil
	}
	es := make([]Entry, to-from+1)
	if len(es) == 1 {
		var err error
		es[0], err = l.Read(ctx, from)
		return es, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readAhead)
	for i := range es {
		g.Go(func() (err error) {
			es[i], err = l.fetch(gctx, from+i)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, e := range es {
		if err := l.see(e); err != nil {
			return nil, err
		}
	}
	return es, nil
}
