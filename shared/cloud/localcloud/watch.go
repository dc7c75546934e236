package localcloud

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"anycloud/shared/cloud"
	"anycloud/shared/cloud/localcloud/vmdir"
	"anycloud/shared/preempt"
)

// watchEvery is how often Watch looks; what it tells is at most so old, and for
// a VM's death the time that its reap takes.
const watchEvery = 50 * time.Millisecond

// watched is what Watch knows of a VM.
type watched struct {
	notice time.Time // deadline already told
	going  bool      // told
}

// Watch tells of interruptions announced, of VMs that are going (dead, not
// cleared away yet) and of VMs that are gone, soon after each. It returns with
// ctx. What happened while nobody watched is not told: these are hints, as a
// cloud's events are. It also drives ended VMs to their end.
func (c *Cloud) Watch(ctx context.Context, tell func(preempt.Notice)) error {
	known := map[string]*watched{}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if err := c.watchOnce(known, tell); err != nil {
			c.o.Log.Warn("vms not watched", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (c *Cloud) watchOnce(known map[string]*watched, tell func(preempt.Notice)) error {
	ids, err := c.ids(false)
	if err != nil {
		return err
	}
	present := map[string]bool{}
	for _, id := range ids {
		s, err := inspect(c.dir(id))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		present[id] = true
		if err != nil || s.rec.Stack != c.o.Stack {
			continue
		}
		if known[id] == nil {
			known[id] = &watched{}
		}
		c.tellOf(known[id], s, tell)
	}
	for id := range known {
		if present[id] {
			continue
		}
		vm, err := c.look(id)
		if err == nil && vm.State != cloud.Terminated {
			continue
		}
		delete(known, id)
		if err == nil {
			t, _ := vmdir.Read[vmdir.Tombstone](c.tombstone(id))
			tell(preempt.Notice{VMID: id, Kind: preempt.Gone, At: vm.EndedAt, Source: Name, Drill: t != nil && t.Drill})
		}
	}
	return nil
}

func (c *Cloud) tellOf(k *watched, s status, tell func(preempt.Notice)) {
	now := c.o.Now()
	if w := s.warn; w != nil && !w.HideControl && !k.notice.Equal(w.Notice.Deadline) {
		k.notice = w.Notice.Deadline
		tell(w.Notice)
		if w.TellTwice {
			tell(w.Notice)
		}
	}
	if !s.over(now) {
		return
	}
	c.finishSoon(s.rec.ID)
	if !k.going {
		k.going = true
		drill := s.kill != nil && s.kill.Drill || s.warn != nil && s.warn.Notice.Drill
		tell(preempt.Notice{VMID: s.rec.ID, Kind: preempt.Going, At: now.UTC(), Source: Name, Drill: drill})
	}
}
