package localcloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"sync"
	"time"

	"anycloud/shared/cloud/localcloud/vmdir"
)

const (
	// reapWithin bounds one try; a container engine can be slow.
	reapWithin = 90 * time.Second
	// retryFinish is the pause after a failed try.
	retryFinish = time.Second
	// dieWithin is how long a killed machine process may take to be gone.
	dieWithin = 10 * time.Second
)

// hold takes the one lock under which a VM is started or finished.
func (c *Cloud) hold(id string) *sync.Mutex {
	c.mu.Lock()
	l := c.busy[id]
	if l == nil {
		l = &sync.Mutex{}
		c.busy[id] = l
	}
	c.mu.Unlock()
	l.Lock()
	return l
}

// finishSoon brings a VM that is over to its end in the background. Every look
// at such a VM calls it, so a failed try is repeated for as long as anybody
// asks.
func (c *Cloud) finishSoon(id string) { c.soon(id, "vm not ended yet", c.finish) }

// startSoon starts a VM that should have been started, likewise.
func (c *Cloud) startSoon(id string) {
	c.soon(id, "vm not started yet", func(id string) error {
		ctx, cancel := context.WithTimeout(c.running, startWithin)
		defer cancel()
		return c.start(ctx, id)
	})
}

// soon does one thing at a time with a VM, and pauses after a failure.
func (c *Cloud) soon(id, failed string, do func(id string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.working[id] || time.Since(c.failed[id]) < retryFinish {
		return
	}
	c.working[id] = true
	c.wg.Go(func() {
		err := do(id)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.working, id)
		delete(c.failed, id)
		if err != nil {
			c.failed[id] = time.Now()
			c.o.Log.Error(failed, "vm", id, "error", err)
		}
	})
}

// finish makes sure that nothing of an ended VM runs, writes its tombstone and
// removes its directory. Every step may be repeated.
func (c *Cloud) finish(id string) error {
	l := c.hold(id)
	defer l.Unlock()
	d := c.dir(id)
	s, err := inspect(d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !s.over(c.o.Now()) {
		return nil
	}
	if s.kill == nil && s.end == nil && s.late(c.o.Now()) {
		s.kill = &vmdir.Kill{At: c.o.Now().UTC(), Reason: vmdir.ReasonInterrupted, Drill: true}
		if err := vmdir.WriteOnce(d.Path("kill.json"), s.kill); err != nil {
			return err
		}
	}
	if err := c.endMachine(d, &s); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.running, reapWithin)
	defer cancel()
	reap := exec.CommandContext(ctx, c.o.AgentPath, "reap", string(d))
	reap.Env = c.o.Env
	if out, err := reap.CombinedOutput(); err != nil {
		return fmt.Errorf("reap: %w: %s", err, strings.TrimSpace(string(out)))
	}
	t := vmdir.Tombstone{Record: *s.rec, Drill: s.kill != nil && s.kill.Drill || s.warn != nil && s.warn.Notice.Drill}
	t.EndedAt, t.EndReason = c.ends(d, &s)
	if err := vmdir.WriteOnce(c.tombstone(id), t); err != nil {
		return fmt.Errorf("keep its tombstone: %w", err)
	}
	c.o.Log.Info("vm ended", "vm", id, "job", t.Job, "attempt", t.Attempt, "reason", t.EndReason)
	return c.trash(d)
}

// endMachine returns once the machine process is dead. It may be on its way to
// end itself, which is better than being killed: it then records when it did.
func (c *Cloud) endMachine(d vmdir.Dir, s *status) error {
	if s.proc == nil && d.Locked() {
		// Just starting: it will see the order, and say who it is before.
		ctx, cancel := context.WithTimeout(c.running, startWithin)
		defer cancel()
		if _, err := c.awaitMachine(ctx, d, nil); err != nil {
			return err
		}
		var err error
		if s.proc, err = d.Process(); err != nil {
			return err
		}
	}
	if s.proc == nil || !s.proc.Alive() {
		return nil
	}
	if s.end != nil && s.proc.AwaitDead(dieWithin) {
		return nil
	}
	if err := s.proc.Kill(); err != nil {
		return fmt.Errorf("kill machine process %d: %w", s.proc.PID, err)
	}
	if !s.proc.AwaitDead(dieWithin) {
		return fmt.Errorf("machine process %d does not die", s.proc.PID)
	}
	// We saw it die: the end is exact. WriteOnce: unless it was quicker itself.
	reason := vmdir.ReasonLost
	if s.kill != nil {
		reason = s.kill.Reason
	}
	return d.SetEnd(vmdir.End{At: c.o.Now().UTC(), Reason: reason})
}

// ends says when and why the VM ended: to the millisecond where the machine
// process ended itself or this driver killed it; else by its last heartbeat, at
// most vmdir.HeartbeatEvery too early.
func (c *Cloud) ends(d vmdir.Dir, s *status) (time.Time, string) {
	end, err := d.End()
	if err != nil || end == nil {
		end = &vmdir.End{At: d.LastSign().UTC(), Reason: vmdir.ReasonLost}
		if s.kill != nil {
			end.Reason = s.kill.Reason
		}
	}
	if end.At.Before(s.rec.LaunchedAt) {
		end.At = s.rec.LaunchedAt
	}
	return end.At, end.Reason
}
