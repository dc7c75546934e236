package localbus

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// retryFile is the wait after the file itself failed (a full disk).
const retryFile = time.Second

// stepSize bounds what one Step handles of one subscriber.
const stepSize = 100

// Run delivers until the context ends, and returns when the last handler has.
// Publish wakes it at once. A handler that returns an error because its context
// ended has not used up a try.
func (b *Bus) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, q := range b.subscribers() {
		wg.Go(func() { b.runQueue(ctx, q) })
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (b *Bus) runQueue(ctx context.Context, q *queue) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		q.mu.Lock()
		free := b.o.Workers - len(q.inFlight)
		q.mu.Unlock()
		var items []item
		var next time.Time
		var err error
		if free > 0 {
			items, next, err = b.fetch(q, free)
		}
		for _, it := range items {
			wg.Go(func() { b.work(ctx, q, it) })
		}
		switch {
		case err != nil:
			b.o.Log.Error("cannot read the bus", "error", err)
			pause(ctx, nil, retryFile)
		case free > 0 && len(items) == free:
			// The next look is when a worker is done, or there is news.
			pause(ctx, q.wake, 0)
		case !next.IsZero():
			pause(ctx, q.wake, max(next.Sub(b.o.Now()), time.Millisecond))
		default:
			pause(ctx, q.wake, 0)
		}
	}
}

// pause waits for the context, the wake-up, or the time (0: for ever).
func pause(ctx context.Context, wake <-chan struct{}, d time.Duration) {
	var timeout <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-ctx.Done():
	case <-wake:
	case <-timeout:
	}
}

// work handles one item to its end. While its end cannot be written it keeps
// the item, so that a full disk does not have the handler called in a loop.
func (b *Bus) work(ctx context.Context, q *queue, it item) {
	defer q.release(it)
	failure := handle(ctx, q, it)
	if failure != nil && ctx.Err() != nil {
		return
	}
	for {
		err := b.settle(q, it, failure)
		if err == nil {
			return
		}
		b.o.Log.Error("cannot write the bus", "error", err)
		if pause(ctx, nil, retryFile); ctx.Err() != nil {
			return
		}
	}
}

// handle calls the handler; its panic is a failure like any other.
func handle(ctx context.Context, q *queue, it item) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return q.handler(ctx, it.rec.Event)
}

// Step handles what is due now, once, and returns when that is done. did says
// whether there was anything. It is for tests and for programs that do not
// stay; it does not go beside Run.
func (b *Bus) Step(ctx context.Context) (did bool, err error) {
	var round errgroup.Group
	for _, q := range b.subscribers() {
		items, _, err := b.fetch(q, stepSize)
		if err != nil {
			return did, err
		}
		did = did || len(items) > 0
		round.Go(func() error {
			var handlers errgroup.Group
			handlers.SetLimit(b.o.Workers)
			for _, it := range items {
				handlers.Go(func() error {
					defer q.release(it)
					failure := handle(ctx, q, it)
					if failure != nil && ctx.Err() != nil {
						return ctx.Err()
					}
					return b.settle(q, it, failure)
				})
			}
			return handlers.Wait()
		})
	}
	return did, round.Wait()
}
