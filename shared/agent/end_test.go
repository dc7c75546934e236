package agent

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/checkpoint"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

// With nothing to save, the end takes (0.5 s + grace of 5 s) times the margin.
const restOfWindow = 8250 * time.Millisecond

func TestNoticeWindow(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.log.cost = 100 * time.Millisecond
		w.box.last = time.Second
		p := w.boot()
		defer p.kill()
		time.Sleep(10 * time.Second)
		deadline := w.meta.warn(2 * time.Minute)
		if n := w.cp.last().Notice; n == nil || !n.Deadline.Equal(deadline) {
			t.Errorf("notice not reported at once: %+v", n)
		}
		var told struct {
			Deadline time.Time `json:"deadline"`
			Kind     string    `json:"kind"`
		}
		b, err := os.ReadFile(filepath.Join(w.dir, "run", noticeFile))
		if err == nil {
			err = json.Unmarshal(b, &told)
		}
		if err != nil || !told.Deadline.Equal(deadline) || told.Kind != "interruption" {
			t.Errorf("notice file %s: %v", b, err)
		}
		time.Sleep(time.Until(deadline) - restOfWindow - time.Second)
		if running, _ := w.box.state(); !running {
			t.Fatal("stopped earlier than it had to")
		}
		if n := w.log.count(); n < 50 {
			t.Errorf("%d saves in the window: what is left for the last one grows", n)
		}
		if w.log.prunes > 0 {
			t.Error("pruned while a notice was open")
		}
		time.Sleep(4 * time.Second)
		_, exit := w.box.state()
		c, r := w.log.newest(), w.cp.last()
		if exit == nil || exit.Code != 143 || c.at.Before(exit.FinishedAt) {
			t.Fatalf("exit %+v, last commit %s", exit, c.at)
		}
		if !c.Sealed || !c.Stopped || c.Exit != nil || !r.Sealed || r.Exit != nil || !r.StoppedAt.Equal(exit.FinishedAt) {
			t.Errorf("commit %+v, report %+v", c, r)
		}
		n := w.log.count()
		time.Sleep(10 * time.Minute)
		if p.runs(); w.log.count() != n {
			t.Error("committed after its seal")
		}
	})
}

func TestNoticeWhileProgramIgnoresSIGTERM(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.log.cost = 300 * time.Millisecond
		w.log.dirty = checkpoint.Estimate{DirtyBytes: 100e6, BytesPerSecond: 100e6} // 1 s
		w.box.ignore = true
		p := w.boot()
		defer p.kill()
		deadline := w.meta.warn(10 * time.Second) // less than grace and save take
		time.Sleep(4 * time.Second)
		// It writes as it is asked to stop, much more than was foreseen.
		w.log.set(func() { w.log.dirty.DirtyBytes = 300e6 })
		time.Sleep(time.Until(deadline))
		synctest.Wait()
		_, exit := w.box.state()
		c := w.log.newest()
		if exit == nil || exit.Code != 137 || !c.Sealed || !c.at.Before(deadline.Add(-3*time.Second)) || !w.cp.last().Sealed {
			t.Errorf("exit %+v; commit %+v, %s before the deadline", exit, c, deadline.Sub(c.at))
		}
	})
}

func TestNoticeCutsASlowSaveShort(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.log.cost = 10 * time.Minute
		p := w.boot()
		defer p.kill()
		time.Sleep(70 * time.Second) // in the middle of a save
		deadline := w.meta.warn(30 * time.Second)
		time.Sleep(time.Until(deadline) - restOfWindow - 500*time.Millisecond)
		w.log.set(func() { w.log.cost = time.Second })
		time.Sleep(3 * time.Second)
		if c := w.log.newest(); !c.Sealed || !w.cp.last().Sealed {
			t.Errorf("newest commit %+v: the slow save held the last one up", c)
		}
	})
}

func TestExitWithinTheWindow(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		p := w.boot()
		defer p.kill()
		w.meta.warn(time.Minute)
		time.Sleep(10 * time.Second)
		w.box.leave(0)
		time.Sleep(time.Second)
		c, r := w.log.newest(), w.cp.last()
		if c.Exit == nil || c.Exit.Code != 0 || !c.Sealed || r.Exit == nil || r.Exit.Code != 0 {
			t.Errorf("commit %+v, report %+v", c, r)
		}
	})
}

func TestNoticeWithoutTime(t *testing.T) {
	for name, left := range map[string]time.Duration{"past": -time.Minute, "none": 0} {
		inWorld(t, func(t *testing.T, w *world) {
			w.box.last = time.Second
			p := w.boot()
			defer p.kill()
			n := preempt.Notice{Kind: preempt.Interruption, At: time.Now()}
			if left != 0 {
				n.Deadline = time.Now().Add(left)
			}
			w.meta.set(n)
			time.Sleep(3 * time.Second)
			if c := w.log.newest(); !c.Sealed || !w.cp.last().Sealed {
				t.Errorf("%s: newest commit %+v", name, c)
			}
		})
	}
}

func TestNoticeBeforeTheStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.box.pullErr = errors.New("slow")
		p := w.boot()
		defer p.kill()
		w.meta.warn(time.Minute)
		w.box.set(func() { w.box.pullErr = nil })
		time.Sleep(20 * time.Second)
		if r := w.cp.last(); w.box.startCount() != 0 || !r.Sealed {
			t.Errorf("%d starts, report %+v", w.box.startCount(), r)
		}
	})
}

func TestStandbyOnlyReportsANotice(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cp.orders.Role = api.Standby
		p := w.boot()
		defer p.kill()
		w.meta.warn(time.Minute)
		time.Sleep(10 * time.Second)
		p.runs()
		if r := w.cp.last(); r.Notice == nil || r.Sealed || w.log.fencedBy() != 0 {
			t.Errorf("report %+v, fence %d", r, w.log.fencedBy())
		}
	})
}

func TestOrderedEnd(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.box.last = 2 * time.Second
		p := w.boot()
		defer p.kill()
		w.cp.order(func(o *api.Orders) {
			o.Finish = &api.Finish{Why: job.EndCancelled, Deadline: time.Now().Add(10 * time.Minute)}
		})
		time.Sleep(4 * time.Second)
		_, exit := w.box.state()
		if c, r := w.log.newest(), w.cp.last(); !c.Sealed || !r.Sealed || r.Exit != nil || exit == nil || exit.Code != 143 {
			t.Errorf("commit %+v, report %+v, exit %+v", c, r, exit)
		}
	})
	inWorld(t, func(t *testing.T, w *world) {
		w.box.ignore = true
		p := w.boot()
		defer p.kill()
		w.cp.order(func(o *api.Orders) { o.Finish = &api.Finish{Why: job.EndCancelled, Deadline: time.Now(), Now: true} })
		time.Sleep(time.Second)
		if running, _ := w.box.state(); running || w.log.count() != 0 || !w.cp.last().Sealed {
			t.Errorf("running %v, %d commits, report %+v", running, w.log.count(), w.cp.last())
		}
	})
}

func TestControlPlaneSilentForAnHour(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		p := w.boot()
		defer p.kill()
		time.Sleep(time.Minute)
		w.cp.say(func() { w.cp.silent = true })
		time.Sleep(time.Hour)
		p.runs()
		if running, _ := w.box.state(); !running || w.log.count() < 60 {
			t.Errorf("running %v, %d commits", running, w.log.count())
		}
		w.cp.say(func() { w.cp.silent = false })
		time.Sleep(15 * time.Second)
		if c := w.cp.last().Checkpoint; c == nil || c.Latest < 60 {
			t.Errorf("back in contact it told %+v", c)
		}
	})
}

func TestCredentials(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cp.expire = time.Hour
		p := w.boot()
		defer p.kill()
		time.Sleep(5*time.Hour + time.Second)
		if _, _, handed := w.cp.counts(); w.log.count() != 300 || handed > 12 {
			t.Fatalf("%d commits in 5 h, want 300; %d renewals", w.log.count(), handed)
		}
		w.cp.say(func() { w.cp.silent = true })
		time.Sleep(2 * time.Hour)
		p.runs()
		n := w.log.count()
		if running, _ := w.box.state(); !running || n < 330 || n > 360 {
			t.Errorf("running %v, %d commits: it saves while the credentials last", running, n)
		}
		w.cp.say(func() { w.cp.silent = false })
		time.Sleep(3 * time.Minute)
		if w.log.count() < n+2 || w.cp.last().Checkpoint.Health != "ok" {
			t.Errorf("%d commits more with new credentials", w.log.count()-n)
		}
		if own := w.shipped(1, true); !has(own, "credentials expired, and the control plane gives no new ones") || !has(own, "saving works again") {
			t.Errorf("the log does not say so: %q", own)
		}
	})
}

func TestClaim(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cp.silent = true
		p := w.boot()
		time.Sleep(10 * time.Minute)
		p.runs()
		p.kill() // the switch goes on counting
		p = w.boot()
		time.Sleep(job.UnclaimedAfter - 10*time.Minute + time.Minute)
		p.poweredOff()
	})
	inWorld(t, func(t *testing.T, w *world) {
		w.cp.refuse = api.Errorf(425, api.CodeTooEarly, "not visible yet")
		p := w.boot()
		time.Sleep(time.Minute)
		p.runs()
		w.cp.say(func() { w.cp.refuse, w.cp.deaf = nil, true })
		time.Sleep(time.Minute)
		p.kill()
		w.cp.say(func() { w.cp.deaf = false })
		p = w.boot()
		time.Sleep(time.Minute)
		p.runs()
		_, n, _ := w.cp.counts()
		w.cp.say(func() {
			for _, h := range w.cp.hashes {
				if h != w.cp.hashes[0] || len(h) != 64 {
					t.Fatalf("claims with secrets %q", w.cp.hashes)
				}
			}
		})
		p.kill()
		w.cp.say(func() { w.cp.silent = true })
		p = w.boot() // claimed before: the switch is disarmed
		time.Sleep(time.Hour)
		p.runs()
		p.kill()
		if _, claims, _ := w.cp.counts(); claims != n || w.box.startCount() != 1 {
			t.Errorf("%d claims more, %d starts", claims-n, w.box.startCount())
		}
	})
	inWorld(t, func(t *testing.T, w *world) {
		w.cp.refuse = api.Errorf(403, api.CodeSuperseded, "not wanted")
		w.boot().poweredOff()
	})
}
