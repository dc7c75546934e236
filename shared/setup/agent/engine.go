package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	core "anycloud/shared/agent"
	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint"
	"anycloud/shared/checkpoint/wal"
)

// engine is package checkpoint in the agent's words.
type engine struct {
	o     core.EngineOptions
	saver *checkpoint.Saver

	mu   sync.Mutex // one restore at a time
	have *checkpoint.Restored
}

var _ core.Engine = (*engine)(nil)

func newEngine(o core.EngineOptions) (core.Engine, error) {
	co := checkpoint.Options{
		Objects: o.Objects, Attempt: o.Attempt, Roots: o.Roots, StateDir: o.StateDir, MaxPause: o.MaxPause, Freezer: o.Freezer,
		BeforeAppend: o.BeforeAppend, Now: o.Now, Logger: o.Logger,
	}
	s, err := checkpoint.NewSaver(co)
	if err != nil {
		return nil, fmt.Errorf("open the checkpoint engine: %w", err)
	}
	return &engine{o: o, saver: s}, nil
}

// TakeOver implements core.Engine.
func (e *engine) TakeOver(ctx context.Context) error { return classed(e.saver.TakeOver(ctx)) }

// Restore implements core.Engine.
func (e *engine) Restore(ctx context.Context, r core.RestoreAsk) (core.Restored, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	have := e.have
	e.have = nil // a restore that fails leaves the directories in between
	got, err := checkpoint.Restore(ctx, checkpoint.RestoreOptions{
		Objects: e.o.Objects, Attempt: e.o.Attempt, Into: e.o.Roots, AcceptMixed: r.AcceptMixed, FreshFrom: r.FreshFrom, Known: r.Known,
		Have: have, Progress: r.Progress, Logger: e.o.Logger,
	})
	if err != nil {
		return core.Restored{}, classed(err)
	}
	e.have = &got
	return core.Restored{
		Number: got.Number, Attempt: got.Attempt, CapturedAt: got.CapturedAt, Clean: got.Clean, Exit: exitOf(got.Exit),
		Attachment: got.Attachment, Files: got.Files, Bytes: got.Bytes, Notes: got.Fallbacks,
	}, nil
}

// Save implements core.Engine.
func (e *engine) Save(ctx context.Context, r core.SaveAsk) (core.Saved, error) {
	req := checkpoint.SaveRequest{Stopped: r.Stopped, Sealed: r.Sealed}
	if r.Exit != nil {
		req.Exit = &checkpoint.Exit{Code: r.Exit.Code, OOM: r.Exit.OOM, StoppedAt: r.Exit.StoppedAt}
	}
	got, err := e.saver.Save(ctx, req)
	if err != nil {
		return core.Saved{}, classed(err)
	}
	return core.Saved{
		Number: got.Number, Committed: got.Committed, Clean: got.Clean, CapturedAt: got.CapturedAt, Files: got.Files, Bytes: got.Bytes,
		SentBytes: got.SentBytes, Pause: got.Pause, Notes: got.Warnings,
	}, nil
}

// Estimate implements core.Engine.
func (e *engine) Estimate() core.Estimate { return core.Estimate(e.saver.Estimate()) }

// Prune implements core.Engine.
func (e *engine) Prune(ctx context.Context) error {
	_, err := e.saver.Prune(ctx)
	return classed(err)
}

func exitOf(x *checkpoint.Exit) *core.ExitMark {
	if x == nil {
		return nil
	}
	return &core.ExitMark{Code: x.Code, OOM: x.OOM, StoppedAt: x.StoppedAt}
}

// classed translates the engine's errors into those that the agent acts on.
func classed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wal.ErrFenced):
		return fmt.Errorf("%w: %w", core.ErrFenced, err)
	case errors.Is(err, checkpoint.ErrNoRestorable), errors.Is(err, checkpoint.ErrNewer), errors.Is(err, wal.ErrNewer),
		errors.Is(err, wal.ErrDamaged), errors.Is(err, bucket.ErrNoBucket) && !errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %w", core.ErrUnrestorable, err)
	}
	return err
}
