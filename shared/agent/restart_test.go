package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket/membucket"
)

func TestRestartedAgentTakesOver(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		p := w.boot()
		time.Sleep(90 * time.Second)
		started := w.cp.last().Started
		p.kill()
		w.cp.say(func() { w.cp.silent = true }) // and nobody to ask
		p = w.boot()
		time.Sleep(5*time.Minute + time.Second)
		if n := w.log.count(); w.box.startCount() != 1 || n < 6 {
			t.Fatalf("%d starts, %d commits", w.box.startCount(), n)
		}
		w.cp.say(func() { w.cp.silent = false })
		time.Sleep(15 * time.Second)
		if r := w.cp.last(); r.Started == nil || !r.Started.At.Equal(started.At) || r.Checkpoint == nil || r.Checkpoint.Latest < 6 {
			t.Errorf("report %+v", r)
		}
		p.kill()
		w.box.leave(9) // while no agent looks
		time.Sleep(time.Minute)
		p = w.boot()
		time.Sleep(2 * time.Second)
		if c, r := w.log.newest(), w.cp.last(); c.Exit == nil || c.Exit.Code != 9 || r.Exit == nil || r.Exit.Code != 9 {
			t.Errorf("commit %+v, report %+v", c, r)
		}
		p.kill()
		n := w.log.count()
		p = w.boot()
		defer p.kill()
		time.Sleep(2 * time.Minute)
		if r := w.cp.last(); r.Exit == nil || w.log.count() != n || w.box.startCount() != 1 {
			t.Errorf("after its end: report %+v, %d commits more", r, w.log.count()-n)
		}
	})
}

func TestRestartWithinAStop(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.box.last = 4 * time.Second
		p := w.boot()
		w.cp.order(func(o *api.Orders) {
			o.Finish = &api.Finish{Why: "cancelled", Deadline: time.Now().Add(10 * time.Minute)}
		})
		time.Sleep(time.Second)
		p.kill()
		w.cp.say(func() { w.cp.silent = true })
		time.Sleep(10 * time.Second) // it ends while no agent looks
		p = w.boot()
		defer p.kill()
		time.Sleep(10 * time.Second)
		w.cp.say(func() { w.cp.silent = false })
		time.Sleep(15 * time.Second)
		if c, r := w.log.newest(), w.cp.last(); !c.Sealed || c.Exit != nil || !r.Sealed || r.Exit != nil || r.Failure != nil {
			t.Errorf("commit %+v, report %+v", c, r)
		}
	})
}

func TestRestartBeforeTheStartWaitsForOrders(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.box.startErr = errors.New("engine is slow")
		p := w.boot()
		time.Sleep(200 * time.Millisecond)
		p.kill()
		w.box.set(func() { w.box.startErr = nil })
		w.cp.say(func() { w.cp.orders.Role = api.Stop })
		w.boot().poweredOff()
		if w.box.startCount() != 0 {
			t.Error("started by orders of yesterday")
		}
	})
}

// However often the agent dies, and whatever the log store answers, every line
// arrives once and in order.
func TestEveryLineOnce(t *testing.T) {
	for seed := range uint64(8) {
		inWorld(t, func(t *testing.T, w *world) {
			rng := rand.New(rand.NewPCG(seed, 1))
			errLost := errors.New("connection reset")
			faults := rand.New(rand.NewPCG(seed, 2))
			var mu sync.Mutex
			calm := false
			w.lines = func(_ context.Context, c membucket.Call) error {
				mu.Lock()
				defer mu.Unlock()
				if !calm && c.Op == membucket.OpPutIfAbsent && faults.IntN(3) == 0 {
					return errLost // before: not done; after: done, and not answered
				}
				return nil
			}
			var want []string
			p := w.boot()
			for range 200 {
				for range rng.IntN(4) {
					want = append(want, fmt.Sprintf("line %d", len(want)))
					w.box.print(want[len(want)-1])
				}
				time.Sleep(time.Duration(rng.IntN(700)) * time.Millisecond)
				if rng.IntN(10) == 0 {
					p.kill()
					p = w.boot()
				}
			}
			mu.Lock()
			calm = true
			mu.Unlock()
			time.Sleep(20 * time.Second)
			p.kill()
			if got := w.shipped(1, false); !slices.Equal(got, want) {
				t.Errorf("seed %d: %d lines shipped of %d", seed, len(got), len(want))
			}
			if w.box.discarded != int64(len(want)) {
				t.Errorf("seed %d: discarded up to %d", seed, w.box.discarded)
			}
		})
	}
}

func TestLinesTravelInTheCommit(t *testing.T) {
	for _, survives := range []bool{false, true} {
		inWorld(t, func(t *testing.T, w *world) {
			var refuse atomic.Bool
			refuse.Store(true)
			w.lines = func(_ context.Context, c membucket.Call) error {
				if refuse.Load() && c.Op == membucket.OpPutIfAbsent && c.Key[0] == 'l' {
					return errors.New("log store does not answer")
				}
				return nil
			}
			p := w.boot()
			var want []string
			for i := range 5000 {
				want = append(want, fmt.Sprintf("epoch %d", i))
			}
			w.box.print(want...)
			time.Sleep(70 * time.Second)
			if c := w.log.newest(); len(c.attachment) == 0 {
				t.Fatal("the commit carries no lines")
			}
			if !survives {
				p.kill() // and its VM with it
			}
			refuse.Store(false)
			next := newWorld(t, t.TempDir(), 2, w.log, w.store)
			q := next.boot()
			defer q.kill()
			time.Sleep(30 * time.Second)
			synctest.Wait()
			if survives {
				p.kill()
			}
			if got := w.shipped(1, false); !slices.Equal(got, want) {
				t.Errorf("old VM survives %v: %d lines of %d arrived", survives, len(got), len(want))
			}
			if r := next.cp.last(); r.Started == nil || r.Started.Restored != 1 {
				t.Errorf("successor's report: %+v", r)
			}
		})
	}
}
