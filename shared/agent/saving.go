package agent

import (
	"context"
	"errors"

	"anycloud/shared/api"
	"anycloud/shared/checkpoint"
	"anycloud/shared/checkpoint/wal"
)

// saving is a save that runs beside everything else: a notice, an order or the
// container's exit never waits for an upload.
type saving struct {
	cancel  context.CancelFunc
	done    chan struct{} // closed when saved and err are set
	saved   checkpoint.Result
	err     error
	request int64    // of the control plane; 0: none
	ask     *saveAsk // of the container; nil: none
	prune   bool
}

// pruneEvery commits, old packs are let go of.
const pruneEvery = 10

// startSave begins a save. One at a time.
func (t *tending) startSave(ctx context.Context, request int64, ask *saveAsk) {
	sctx, cancel := context.WithCancel(ctx)
	s := &saving{cancel: cancel, done: make(chan struct{}), request: request, ask: ask, prune: t.commits >= pruneEvery && !t.noticed}
	t.running, t.began = s, t.Now()
	go func() {
		defer close(s.done)
		s.saved, s.err = t.save(sctx, checkpoint.SaveRequest{})
		if s.err == nil && s.prune {
			if _, err := t.engine.Prune(sctx); errors.Is(err, wal.ErrFenced) {
				s.err = err
			} else if err != nil {
				t.Logger.Warn("not pruned; the next time", "err", err)
			}
		}
	}()
}

// endSave takes the result of the save that ended, and plans the next one.
func (t *tending) endSave() error {
	s := t.running
	t.running = nil
	s.cancel()
	now := t.Now()
	every := t.interval()
	if t.noticed {
		// Saves follow each other, so that little is left for the last one.
		every = min(every, 2*now.Sub(t.began)+noticedPause)
	}
	t.next = now.Add(every)
	if s.ask != nil {
		s.ask.reply <- saveReply{s.saved, s.err}
	}
	if s.err != nil {
		t.askAgain = now.Add(askAgainAfter)
		if errors.Is(s.err, wal.ErrFenced) {
			return s.err
		}
		return nil // the container works on, the health says why, and there is a next time
	}
	if s.prune {
		t.commits = 0
	}
	if s.saved.Committed {
		t.commits++
	}
	if s.request > 0 {
		t.requested = s.request
		t.fact(func(r *api.Report) { r.SaveDone, r.SaveDoneAs = s.request, s.saved.Number })
	}
	return nil
}

// dropSave ends a save that runs, because something more urgent is due. What it
// sent is not sent again.
func (t *tending) dropSave() error {
	if t.running == nil {
		return nil
	}
	t.running.cancel()
	<-t.running.done
	return t.endSave()
}

// save makes one commit and notes its result.
func (t *tending) save(ctx context.Context, ask checkpoint.SaveRequest) (checkpoint.Result, error) {
	saved, err := t.engine.Save(ctx, ask)
	if err != nil {
		if ctx.Err() == nil || ask.Stopped {
			t.mu.Lock()
			news := t.health.failed(err)
			t.mu.Unlock()
			t.reportSoon()
			if news {
				t.say("save failed: %v", err)
			}
		}
		return saved, err
	}
	t.mu.Lock()
	mended := t.health.last.Health == "failing"
	t.health.saved(t.claim.Attempt, saved, t.Now())
	last := t.health.last
	t.mu.Unlock()
	if mended {
		t.say("saving works again: commit %d", saved.Number)
	}
	for _, n := range saved.Warnings {
		if !t.told[n] { // once each: the same file is skipped every time
			t.told[n] = true
			t.say("%s", n)
		}
	}
	if saved.Committed {
		t.Logger.Info("committed", "commit", saved.Number, "clean", saved.Clean, "sent", saved.SentBytes, "pause", saved.Pause)
		t.fact(func(r *api.Report) { r.Checkpoint = &last })
	}
	return saved, nil
}
