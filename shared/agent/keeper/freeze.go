package keeper

import (
	"context"
	"sync"
	"time"

	"anycloud/shared/agent/runtime"
)

// slack is what a freeze may last beyond its bound: the saver keeps the bound
// itself, and this is for the case that it does not.
func slack(maxPause time.Duration) time.Duration {
	return maxPause/10 + 10*time.Millisecond
}

// freezing lets one freeze at a time be, and whoever must have the container run
// end it.
type freezing struct {
	sem chan struct{} // held while frozen

	mu  sync.Mutex
	now context.CancelFunc // ends the freeze that there is
}

func (f *freezing) init() { f.sem = make(chan struct{}, 1) }

// end returns when there is no freeze.
func (f *freezing) end() {
	f.mu.Lock()
	if f.now != nil {
		f.now()
	}
	f.mu.Unlock()
	f.sem <- struct{}{}
	<-f.sem
}

// holdFreeze freezes for as long as the connection asks for, or less.
func (s *server) holdFreeze(c *conn) {
	if s.maxPause <= 0 {
		c.send(answerOf(runtime.ErrNoFreeze))
		return
	}
	f := &s.freezing
	f.sem <- struct{}{}
	ctx, cancel := context.WithTimeout(context.Background(), s.maxPause+slack(s.maxPause))
	defer cancel()
	f.mu.Lock()
	f.now = cancel
	f.mu.Unlock()
	release := sync.OnceFunc(func() {
		s.untilDone("thaw", s.container.Thaw)
		f.mu.Lock()
		f.now = nil
		f.mu.Unlock()
		<-f.sem
	})
	defer release()
	if s.noted() != nil { // it shall end, and not stand still
		c.send(answerOf(runtime.ErrNotRunning))
		return
	}
	if err := s.container.Freeze(ctx); err != nil {
		release()
		c.send(answerOf(err))
		return
	}
	if err := c.send(answer{}); err != nil {
		return
	}
	asked := make(chan error, 1)
	go func() {
		var r request
		asked <- c.receive(&r)
	}()
	var early error
	var err error
	select {
	case err = <-asked:
		release()
	case <-ctx.Done():
		early = runtime.ErrFreezeEnded
		release()
		err = <-asked // it will want to know
	}
	if err == nil {
		c.send(answerOf(early))
	}
}
