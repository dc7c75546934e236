package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint/wal"
	"anycloud/shared/job"
)

// root is the model's commit: how far the container is, and the pack that
// holds it. The log around it is the real one.
type root struct {
	Progress   time.Duration `json:"progress"`
	CapturedAt time.Time     `json:"captured_at"`
	Pack       string        `json:"pack"`
	Sealed     bool          `json:"sealed,omitempty"`
	Exit       *int          `json:"exit,omitempty"`
}

// restored is what a take-over found.
type restored struct {
	number     int
	attempt    int
	progress   time.Duration
	capturedAt time.Time
	exit       *int
}

// storage is an agent's side of the bucket.
type storage struct {
	w       *world
	a       *agent
	objects bucket.Objects
	log     *wal.Log
	fenced  bool
	commits []wal.Entry // own and restored ones, for prune
	packs   int
}

func (w *world) openStorage(a *agent) *storage {
	objects, err := w.buckets.Open(context.Background(), a.jobID)
	if err != nil {
		return nil
	}
	l := &storage{w: w, a: a, objects: objects}
	nonces := 0
	l.log = wal.Open(objects, a.attempt, wal.Options{Now: a.now, Nonce: func() string {
		nonces++
		return fmt.Sprintf("%s-%d", a.vmID, nonces)
	}})
	return l
}

// failed notes whether an error means that this attempt is fenced.
func (l *storage) failed(err error) bool {
	if errors.Is(err, wal.ErrFenced) {
		l.fenced = true
	}
	return err != nil
}

// takeOver fences the log and restores its newest commit. false: try again, or
// fenced.
func (l *storage) takeOver() (restored, bool) {
	ctx := context.Background()
	if l.w.broke != FenceSkipped {
		if _, err := l.log.Fence(ctx); l.failed(err) {
			return restored{}, false
		}
	}
	entries, err := l.entries(ctx)
	if l.failed(err) {
		return restored{}, false
	}
	l.commits = l.commits[:0]
	gone := map[string]bool{}
	var newest *wal.Entry
	for i, e := range entries {
		switch e.Kind {
		case wal.KindPrune:
			for _, v := range e.Victims {
				gone[v] = true
			}
		case wal.KindCommit:
			if e.Attempt >= l.a.orders.FreshFrom {
				newest = &entries[i]
				l.commits = append(l.commits, e)
			}
		}
	}
	if newest == nil {
		if l.a.orders.NewestCommit > 0 && l.a.orders.FreshFrom == 0 {
			return restored{}, false // the record knows of a commit: never from nothing
		}
		return restored{}, true
	}
	r := rootOf(*newest)
	rd, err := l.objects.Get(ctx, r.Pack, 0, -1)
	if err != nil {
		if errors.Is(err, bucket.ErrNotFound) {
			l.w.violate("I2", "%s: commit %d of attempt %d needs %s, which is gone", l.a.jobID, newest.Number, newest.Attempt, r.Pack)
		}
		return restored{}, false
	}
	rd.Close()
	if gone[r.Pack] {
		l.w.violate("I2", "%s: commit %d needs %s, which an entry of the log lists as pruned", l.a.jobID, newest.Number, r.Pack)
	}
	return restored{newest.Number, newest.Attempt, r.Progress, r.CapturedAt, r.Exit}, true
}

// entries reads the log one by one: a simulated task is one thread.
func (l *storage) entries(ctx context.Context) ([]wal.Entry, error) {
	head, err := l.log.Head(ctx)
	if err != nil {
		return nil, err
	}
	var es []wal.Entry
	for n := 1; n <= head; n++ {
		e, err := l.log.Read(ctx, n)
		if err != nil {
			return nil, err
		}
		es = append(es, e)
	}
	return es, nil
}

func rootOf(e wal.Entry) (r root) {
	if err := json.Unmarshal(e.Commit, &r); err != nil {
		panic(err)
	}
	return r
}

// commit saves: the pack first, the entry last.
func (l *storage) commit(progress time.Duration, sealed bool, exit *int) (int, bool) {
	ctx := context.Background()
	l.packs++
	r := root{Progress: progress, CapturedAt: l.w.s.now, Pack: fmt.Sprintf("packs/%d-%s-%d", l.a.attempt, l.a.vmID, l.packs), Sealed: sealed, Exit: exit}
	if err := l.objects.PutIfAbsent(ctx, r.Pack, []byte("data")); err != nil && !errors.Is(err, bucket.ErrExists) {
		return 0, false
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	var e wal.Entry
	if l.w.broke == FenceSkipped {
		e, err = l.appendBlindly(ctx, b)
	} else {
		e, err = l.log.Append(ctx, wal.Entry{Kind: wal.KindCommit, Commit: b})
	}
	if l.failed(err) {
		return 0, false
	}
	l.commits = append(l.commits, e)
	l.w.acknowledged(l.a, commit{e.Number, e.Attempt, progress, exit})
	return e.Number, true
}

// appendBlindly is the broken writer that looks at no fence.
func (l *storage) appendBlindly(ctx context.Context, b []byte) (wal.Entry, error) {
	for n := 1; ; n++ {
		e := wal.Entry{Format: wal.Format, Number: n, Kind: wal.KindCommit, Attempt: l.a.attempt, Nonce: fmt.Sprintf("%s-blind-%d", l.a.vmID, l.packs), Commit: b}
		raw, err := json.Marshal(e)
		if err != nil {
			return e, err
		}
		if err := l.objects.PutIfAbsent(ctx, wal.Key(n), raw); !errors.Is(err, bucket.ErrExists) {
			return e, err
		}
	}
}

// keepCommits is how many commits the model's prune spares.
const keepCommits = 3

// prune lists the packs of old commits in an entry, and only then deletes them.
func (l *storage) prune() {
	ctx := context.Background()
	if len(l.commits) <= keepCommits {
		return
	}
	old := l.commits[:len(l.commits)-keepCommits]
	var victims []string
	for _, e := range old {
		victims = append(victims, rootOf(e).Pack)
	}
	if l.w.broke != PruneBeforeEntry {
		if _, err := l.log.Append(ctx, wal.Entry{Kind: wal.KindPrune, Victims: victims}); l.failed(err) {
			return
		}
	}
	for _, v := range victims {
		if err := l.objects.Delete(ctx, v); err != nil {
			return
		}
	}
	if l.w.broke == PruneBeforeEntry {
		_, err := l.log.Append(ctx, wal.Entry{Kind: wal.KindPrune, Victims: victims})
		if l.failed(err) {
			return
		}
	}
	l.commits = append([]wal.Entry(nil), l.commits[len(old):]...)
}

// acknowledged notes what must never be lost from now on.
func (w *world) acknowledged(a *agent, c commit) {
	if c.number > w.acked[a.jobID].number {
		w.acked[a.jobID] = c
	}
}

// checkEntry is I2 where it happens: a new entry of the log.
func (w *world) checkEntry(bucketName, key string) {
	b := w.peek(bucketName, key)
	var e wal.Entry
	if err := json.Unmarshal(b, &e); err != nil {
		w.violate("I2", "%s: %s is no entry: %v", bucketName, key, err)
		return
	}
	if e.Attempt < w.fences[bucketName] {
		w.violate("I2", "%s: entry %d of attempt %d follows one of attempt %d", bucketName, e.Number, e.Attempt, w.fences[bucketName])
	}
	w.fences[bucketName] = max(w.fences[bucketName], e.Attempt)
	if j := w.rows[bucketName]; e.Attempt > j.Writer {
		w.violate("I2", "%s: entry %d is of attempt %d, and the writer is %d", bucketName, e.Number, e.Attempt, j.Writer)
	}
	if n, want := strings.TrimPrefix(key, "log/"), fmt.Sprintf("%010d", e.Number); n != want {
		w.violate("I2", "%s: entry %s says that it is %d", bucketName, key, e.Number)
	}
}

// checkDelete is I2 for packs: nothing is deleted that the log does not list,
// because whoever reads a commit must be able to tell pruned from lost.
func (w *world) checkDelete(bucketName, key string) {
	for n := 1; ; n++ {
		b := w.peek(bucketName, wal.Key(n))
		if b == nil {
			w.violate("I2", "%s: %s is deleted, and no entry of the log lists it", bucketName, key)
			return
		}
		var e wal.Entry
		if json.Unmarshal(b, &e) == nil && e.Kind == wal.KindPrune && slices.Contains(e.Victims, key) {
			return
		}
	}
}

func (w *world) peek(bucketName, key string) []byte {
	cur := w.s.current
	w.s.current = nil
	defer func() { w.s.current = cur }()
	objects, err := w.buckets.Open(context.Background(), bucketName)
	if err != nil {
		return nil
	}
	r, err := objects.Get(context.Background(), key, 0, -1)
	if err != nil {
		return nil
	}
	defer r.Close()
	b := make([]byte, 4096)
	n, _ := r.Read(b)
	return b[:n]
}

// checkDisposal is I6: a bucket goes only by its record's intent.
func (w *world) checkDisposal(name string) {
	cur := w.s.current
	w.s.current = nil
	j, err := w.store.Get(context.Background(), name)
	w.s.current = cur
	if err != nil || j.Bucket == nil || j.Bucket.State != job.BucketDisposing && j.Bucket.State != job.BucketDisposed {
		w.violate("I6", "bucket %s was disposed of without an intent", name)
	}
}

// newestEntry is what a sweep reads of a silent job's log.
func (w *world) newestEntry(ctx context.Context, objects bucket.Objects) (time.Time, error) {
	l := wal.Open(objects, 0, wal.Options{})
	n, err := l.Head(ctx)
	if err != nil || n == 0 {
		return time.Time{}, err
	}
	e, err := l.Read(ctx, n)
	return e.Time, err
}
