package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint"
	"anycloud/shared/checkpoint/wal"
)

// fakeLog is the job's bucket, as far as the engine's user can tell.
type fakeLog struct {
	mu      sync.Mutex
	commits []fakeCommit
	fence   int
	fail    error         // of saves
	cost    time.Duration // of a save
	dirty   checkpoint.Estimate
	prunes  int
}

type fakeCommit struct {
	attempt int
	at      time.Time
	checkpoint.SaveRequest
	attachment []byte
}

func (l *fakeLog) newest() fakeCommit {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.commits) == 0 {
		return fakeCommit{}
	}
	return l.commits[len(l.commits)-1]
}

func (l *fakeLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.commits)
}

func (l *fakeLog) fencedBy() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fence
}

func (l *fakeLog) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

type fakeEngine struct {
	o checkpoint.Options
	l *fakeLog
}

func (e *fakeEngine) TakeOver(context.Context) error {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	if e.l.fence > e.o.Attempt {
		return wal.ErrFenced
	}
	e.l.fence = e.o.Attempt
	return nil
}

func (e *fakeEngine) Restore(context.Context, checkpoint.RestoreOptions) (checkpoint.Restored, error) {
	c := e.l.newest()
	if c.attempt == 0 {
		return checkpoint.Restored{}, nil
	}
	return checkpoint.Restored{Number: e.l.count(), Attempt: c.attempt, CapturedAt: c.at, Clean: true, Exit: c.Exit, Attachment: c.attachment}, nil
}

func (e *fakeEngine) Save(ctx context.Context, r checkpoint.SaveRequest) (checkpoint.Result, error) {
	captured := time.Now()
	e.l.mu.Lock()
	cost, fail := e.l.cost, e.l.fail
	e.l.mu.Unlock()
	select {
	case <-time.After(cost):
	case <-ctx.Done():
		return checkpoint.Result{}, ctx.Err()
	}
	if fail != nil {
		return checkpoint.Result{}, fail
	}
	// Whatever else, a save needs credentials that hold.
	if err := e.o.Objects.PutIfAbsent(ctx, fmt.Sprintf("x/%d", captured.UnixNano()), nil); err != nil && !errors.Is(err, bucket.ErrExists) {
		return checkpoint.Result{}, fmt.Errorf("send a pack: %w", err)
	}
	attachment, err := e.o.BeforeAppend(ctx)
	if err != nil {
		return checkpoint.Result{}, err
	}
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	if e.l.fence > e.o.Attempt {
		return checkpoint.Result{}, fmt.Errorf("append: %w", wal.ErrFenced)
	}
	e.l.commits = append(e.l.commits, fakeCommit{e.o.Attempt, captured, r, attachment})
	return checkpoint.Result{Number: len(e.l.commits), Committed: true, Clean: true, CapturedAt: captured, Pause: time.Millisecond}, nil
}

func (e *fakeEngine) Estimate() checkpoint.Estimate {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	return e.l.dirty
}

func (e *fakeEngine) Prune(context.Context) (int, error) {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	e.l.prunes++
	return 0, nil
}
