package agent

import (
	"context"

	"anycloud/shared/checkpoint"
)

// Engine is what the agent consumes of the checkpoint engine.
type Engine interface {
	// TakeOver appends this attempt's fence; repeatable.
	TakeOver(ctx context.Context) error
	// Restore brings the newest commit into the directories, or what changed
	// since the last call.
	Restore(ctx context.Context, o checkpoint.RestoreOptions) (checkpoint.Restored, error)
	Save(ctx context.Context, r checkpoint.SaveRequest) (checkpoint.Result, error)
	Estimate() checkpoint.Estimate
	Prune(ctx context.Context) (int, error)
}

// NewEngine opens the real engine.
func NewEngine(o checkpoint.Options) (Engine, error) {
	s, err := checkpoint.NewSaver(o)
	if err != nil {
		return nil, err
	}
	return &engine{Saver: s, o: o}, nil
}

// engine remembers what it restored, so that the take-over after a prefetch
// fetches only what changed.
type engine struct {
	*checkpoint.Saver
	o    checkpoint.Options
	have *checkpoint.Restored
}

func (e *engine) Restore(ctx context.Context, r checkpoint.RestoreOptions) (checkpoint.Restored, error) {
	r.Objects, r.Attempt, r.Into, r.Have, r.Logger = e.o.Objects, e.o.Attempt, e.o.Roots, e.have, e.o.Logger
	e.have = nil // until it is whole, the directories may hold anything
	got, err := checkpoint.Restore(ctx, r)
	if err != nil {
		return got, err
	}
	if got.Number > 0 {
		e.have = &got
	}
	if got.Damaged > 0 {
		return got, e.Distrust(got.Damaged)
	}
	return got, nil
}
