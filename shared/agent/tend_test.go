package agent

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"anycloud/shared/agent/runtime"
	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

func TestWriterStartsSavesAndPrunes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		p := w.boot()
		defer p.kill()
		time.Sleep(30*time.Minute + time.Second)
		synctest.Wait()
		if w.box.startCount() != 1 || w.log.fencedBy() != 1 {
			t.Fatalf("%d starts, fence %d", w.box.startCount(), w.log.fencedBy())
		}
		if n := w.log.count(); n != 30 {
			t.Errorf("%d commits in 30 min, want 30", n)
		}
		if w.log.prunes != 2 {
			t.Errorf("%d prunes for 30 commits, want 2", w.log.prunes)
		}
		r := w.cp.last()
		if r.Started == nil || r.Started.Restored != 0 || r.Phases.ImageReady.IsZero() || r.Phases.Restored.IsZero() {
			t.Errorf("report lacks the start: %+v", r)
		}
		if c := r.Checkpoint; c == nil || c.Latest != 30 || c.Health != "ok" || c.PauseP50 != 0.001 || c.Attempt != 1 {
			t.Errorf("checkpoint in the report: %+v", c)
		}
	})
}

func TestStandbyPrefetchesAndWaits(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.log.commits = []fakeCommit{{attempt: 1, at: time.Now()}}
		w.cp.attempt = 2
		w.cp.orders.Role = api.Standby
		p := w.boot()
		defer p.kill()
		time.Sleep(time.Minute)
		synctest.Wait()
		if w.box.startCount() != 0 || w.log.fencedBy() != 0 {
			t.Fatal("a standby must neither fence nor start")
		}
		if r := w.cp.last(); r.Phases.Prefetched.IsZero() || r.Phases.ImageReady.IsZero() || !r.Phases.Restored.IsZero() {
			t.Errorf("phases of a standby: %+v", r.Phases)
		}
		w.cp.order(func(o *api.Orders) { o.Role = api.Writer })
		if r := w.cp.last(); w.box.startCount() != 1 || w.log.fencedBy() != 2 || r.Started == nil || r.Started.Restored != 1 {
			t.Errorf("after the take-over: %d starts, fence %d, report %+v", w.box.startCount(), w.log.fencedBy(), r.Started)
		}
	})
}

func TestOnlyTheWriterReportsAFailedPull(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.box.pullErr = runtime.ErrImageNotFound
		w.cp.orders.Role = api.Standby
		p := w.boot()
		defer p.kill()
		time.Sleep(time.Minute)
		if f := w.cp.last().Failure; f != nil {
			t.Fatalf("a standby reported %+v", f)
		}
		w.cp.order(func(o *api.Orders) { o.Role = api.Writer })
		time.Sleep(30 * time.Second)
		f := w.cp.last().Failure
		if f == nil || f.Reason != job.ReasonImageNotFound || !f.Permanent {
			t.Fatalf("the writer reported %+v", f)
		}
		p.kill()
		w.box.set(func() { w.box.pullErr = nil })
		p = w.boot()
		defer p.kill()
		time.Sleep(time.Minute)
		if w.box.startCount() != 0 || w.cp.last().Failure == nil {
			t.Error("a restarted agent took its failure back")
		}
	})
}

func TestLostContainerIsNoExit(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		p := w.boot()
		defer p.kill()
		w.box.die(runtime.Exit{Code: 137, Reason: runtime.ReasonKeeperDied})
		time.Sleep(5 * time.Second)
		r := w.cp.last()
		if r.Exit != nil || r.Sealed || r.Failure == nil || r.Failure.Permanent || r.StoppedAt.IsZero() {
			t.Errorf("report %+v", r)
		}
		if c := w.log.newest(); !c.Stopped || c.Sealed || c.Exit != nil {
			t.Errorf("newest commit %+v", c)
		}
	})
}

func TestSaveOnRequestAndAdvice(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.log.cost = 100 * time.Millisecond
		p := w.boot()
		defer p.kill()
		w.cp.order(func(o *api.Orders) { o.SaveRequest = 3 })
		if r := w.cp.last(); r.SaveDone != 3 || r.SaveDoneAs != 1 || w.log.count() != 1 {
			t.Errorf("request: done %d as %d, %d commits", r.SaveDone, r.SaveDoneAs, w.log.count())
		}
		w.log.set(func() { w.log.fail = errors.New("bucket does not answer") })
		w.cp.order(func(o *api.Orders) { o.SaveRequest = 4 })
		if r := w.cp.last(); r.SaveDone != 3 || r.Checkpoint.Health != "failing" || r.Checkpoint.Latest != 1 || r.Checkpoint.Problem == "" {
			t.Errorf("failed request: %+v", r.Checkpoint)
		}
		w.log.set(func() { w.log.fail = nil })
		time.Sleep(3 * time.Second)
		if r := w.cp.last(); r.SaveDone != 4 || r.Checkpoint.Health != "ok" {
			t.Errorf("request not done later: %+v", r)
		}
		n := w.log.count()
		w.meta.set(preempt.Notice{Kind: preempt.Rebalance, At: time.Now()})
		time.Sleep(5 * time.Second)
		w.cp.order(func(o *api.Orders) { o.SaveNow = true })
		if got := w.log.count(); got != n+1 {
			t.Errorf("%d saves for one advice, want 1", got-n)
		}
		if running, _ := w.box.state(); !running {
			t.Error("advice ended the container")
		}
	})
}

func TestFencedWhileSaving(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.log.cost = 5 * time.Second
		p := w.boot()
		time.Sleep(62 * time.Second)
		w.log.set(func() { w.log.fence = 2 })
		time.Sleep(4 * time.Second)
		p.poweredOff()
		if running, _ := w.box.state(); running || !w.box.removed || w.log.count() != 0 {
			t.Errorf("container running %v, removed %v; %d commits", running, w.box.removed, w.log.count())
		}
	})
}

func TestStopOrderKillsWithoutCommit(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		p := w.boot()
		w.cp.order(func(o *api.Orders) { o.Role = api.Stop })
		p.poweredOff()
		if running, _ := w.box.state(); running || w.log.count() != 0 {
			t.Errorf("container running %v, %d commits", running, w.log.count())
		}
	})
}

func TestEndedJobPowersOff(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		p := w.boot()
		w.cp.say(func() { w.cp.refuse = api.Errorf(410, api.CodeEnded, "the job has ended") })
		time.Sleep(2 * time.Second)
		p.poweredOff()
		if running, _ := w.box.state(); running {
			t.Error("its container runs")
		}
	})
}

func TestExitIsCommittedAndReportedUntilAnswered(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.log.cost = 2 * time.Second
		p := w.boot()
		defer p.kill()
		time.Sleep(61 * time.Second) // a save runs
		w.box.print("bye")
		w.cp.say(func() { w.cp.silent = true })
		w.box.leave(3)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		c := w.log.newest()
		if c.Exit == nil || c.Exit.Code != 3 || !c.Sealed || !c.Stopped || w.log.count() != 1 {
			t.Fatalf("exit commit %+v of %d", c, w.log.count())
		}
		w.cp.say(func() { w.cp.silent, w.cp.deaf = false, true })
		time.Sleep(30 * time.Second)
		n, _, _ := w.cp.counts()
		w.cp.say(func() { w.cp.deaf = false })
		time.Sleep(15 * time.Second)
		r := w.cp.last()
		if n < 2 || r.Exit == nil || *r.Exit != (api.Exit{Attempt: 1, Code: 3, StoppedAt: r.StoppedAt}) || r.Sealed {
			t.Errorf("after %d reports without an answer: %+v", n, r)
		}
		if !has(w.shipped(1, false), "bye") {
			t.Error("exit reported before the last line was shipped")
		}
		p.runs()
	})
}

func TestExitIsReportedWithTheBucketGone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		p := w.boot()
		defer p.kill()
		w.log.set(func() { w.log.fail = bucket.ErrNoBucket })
		w.box.leave(0)
		time.Sleep(40 * time.Second)
		r := w.cp.last()
		if r.Exit == nil || r.Exit.Code != 0 || r.Checkpoint == nil || r.Checkpoint.Health != "failing" {
			t.Errorf("report %+v, checkpoint %+v", r.Exit, r.Checkpoint)
		}
	})
}

func TestJobWithoutBucket(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.spec.Spot = false
		p := w.boot()
		defer p.kill()
		time.Sleep(5 * time.Minute)
		w.box.leave(0)
		time.Sleep(3 * time.Second)
		if r := w.cp.last(); w.box.startCount() != 1 || w.log.count() != 0 || w.log.fencedBy() != 0 || r.Exit == nil || r.Checkpoint != nil {
			t.Errorf("%d starts, %d commits, report %+v", w.box.startCount(), w.log.count(), r)
		}
	})
}

func TestExitFoundInTheLog(t *testing.T) {
	for _, retried := range []bool{false, true} {
		inWorld(t, func(t *testing.T, w *world) {
			at := time.Now()
			w.log.commits = []fakeCommit{{attempt: 1, at: at, SaveRequest: checkpoint.SaveRequest{Stopped: true, Sealed: true, Exit: &checkpoint.Exit{Code: 7, StoppedAt: at}}}}
			w.cp.attempt = 2
			p := w.boot()
			defer p.kill()
			time.Sleep(10 * time.Second)
			r := w.cp.last()
			if r.Exit == nil || *r.Exit != (api.Exit{Attempt: 1, Code: 7, StoppedAt: at}) || w.box.startCount() != 0 {
				t.Fatalf("report %+v, %d starts", r.Exit, w.box.startCount())
			}
			if !retried {
				w.cp.order(func(o *api.Orders) { o.ExitsKnown, o.Role = []int{1}, api.Stop })
				p.poweredOff()
				return
			}
			w.cp.order(func(o *api.Orders) { o.ExitsKnown = []int{1} })
			if r := w.cp.last(); w.box.startCount() != 1 || r.Exit != nil || r.Started == nil || r.Started.Restored != 1 {
				t.Errorf("retry: %d starts, report %+v", w.box.startCount(), r)
			}
		})
	}
}
