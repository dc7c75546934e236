package fakecloud

import (
	"time"

	"anycloud/shared/preempt"
)

// All returns every VM ever launched, of all stacks, by creation.
func (c *Cloud) All() []*VM {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.vms[:len(c.vms):len(c.vms)]
}

// Get returns one VM's ground truth, or nil.
func (c *Cloud) Get(id string) *VM {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byID[id]
}

// with calls f on a VM that lives now; false if it does not.
func (c *Cloud) with(id string, f func(v *VM, now time.Time) (tell func())) bool {
	c.mu.Lock()
	now := c.Now()
	v := c.byID[id]
	if v == nil || !v.Alive(now) {
		c.mu.Unlock()
		return false
	}
	tell := f(v, now)
	c.mu.Unlock()
	if tell != nil {
		tell()
	}
	return true
}

// Interrupt takes the VM away after notice. Without warn nobody hears of it
// before. Like the calls below it reports whether the VM lived.
func (c *Cloud) Interrupt(id string, notice time.Duration, warn bool) bool {
	return c.with(id, func(v *VM, now time.Time) func() { return c.interrupt(v, now, notice, warn, false) })
}

// interrupt returns what to call once the lock is released; may be nil.
func (c *Cloud) interrupt(v *VM, now time.Time, notice time.Duration, warn, drill bool) func() {
	deadline := now.Add(notice)
	v.end(deadline, deadline, ByInterruption)
	if !warn {
		return nil
	}
	return c.warn(v, preempt.Notice{VMID: v.ID, Kind: preempt.Interruption, Deadline: deadline, At: now, Source: c.Name(), Drill: drill})
}

func (c *Cloud) warn(v *VM, n preempt.Notice) func() {
	v.noticed, v.notice = n.At, n
	hear := c.Knobs.OnNotice
	if hear == nil {
		return nil
	}
	return func() { hear(n) }
}

// Rebalance says that the VM is at elevated risk.
func (c *Cloud) Rebalance(id string) bool {
	return c.with(id, func(v *VM, now time.Time) func() {
		if v.notice.Kind == preempt.Interruption {
			return nil
		}
		return c.warn(v, preempt.Notice{VMID: v.ID, Kind: preempt.Rebalance, At: now, Source: c.Name()})
	})
}

// Vanish ends the VM at once, without a word: its host failed. Listings show it
// terminated.
func (c *Cloud) Vanish(id string) bool {
	return c.with(id, func(v *VM, now time.Time) func() {
		v.end(now, now, ByVanish)
		return nil
	})
}

// Forget ends the VM as Vanish does, and the cloud shows no trace of it: what
// is left is its absence.
func (c *Cloud) Forget(id string) bool {
	return c.with(id, func(v *VM, now time.Time) func() {
		v.end(now, now, ByVanish)
		v.forgotten = true
		return nil
	})
}

// PowerOff is the VM switching itself off from inside.
func (c *Cloud) PowerOff(id string) bool {
	return c.with(id, func(v *VM, now time.Time) func() {
		v.end(now, now.Add(c.TerminationDelay), ByPowerOff)
		return nil
	})
}

// Impair lets the cloud's own status checks fail from now on.
func (c *Cloud) Impair(id string) bool {
	return c.with(id, func(v *VM, now time.Time) func() {
		v.Impaired = now
		return nil
	})
}

// Notice is what the VM's own metadata shows: nil without a warning.
func (c *Cloud) Notice(id string) *preempt.Notice {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := c.byID[id]; v != nil && !v.noticed.IsZero() {
		n := v.notice
		return &n
	}
	return nil
}
