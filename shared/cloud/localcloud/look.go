package localcloud

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"anycloud/shared/cloud"
	"anycloud/shared/cloud/localcloud/vmdir"
)

// overdue is how long after its deadline a machine process that did not end
// itself is killed.
const overdue = time.Second

// bootLate is when a VM whose launch was cut off, or whose machine process died
// before it said who it is, is started by whoever looks at it: a launch that was
// accepted comes true without being repeated.
const bootLate = 2 * time.Second

// ids lists the VMs, in order.
func (c *Cloud) ids(ended bool) ([]string, error) {
	var ids []string
	add := func(dir, suffix string) error {
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			if id := strings.TrimSuffix(e.Name(), suffix); validID.MatchString(id) {
				ids = append(ids, id)
			}
		}
		return err
	}
	if err := add(c.o.Root, ""); err != nil {
		return nil, err
	}
	if ended {
		if err := add(c.endedDir(), ".json"); err != nil {
			return nil, err
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// look says what the VM is now. A tombstone is written before its directory
// goes, so whoever finds neither looks once more.
func (c *Cloud) look(id string) (cloud.VM, error) {
	if !validID.MatchString(id) {
		return cloud.VM{}, notFound(id)
	}
	for range 2 {
		t, err := vmdir.Read[vmdir.Tombstone](c.tombstone(id))
		if err != nil {
			return cloud.VM{}, err
		}
		if t != nil {
			return c.ended(t)
		}
		vm, err := c.living(id)
		if !errors.Is(err, fs.ErrNotExist) {
			return vm, err
		}
	}
	return cloud.VM{}, notFound(id)
}

func (c *Cloud) ended(t *vmdir.Tombstone) (cloud.VM, error) {
	if t.Stack != c.o.Stack {
		return cloud.VM{}, notFound(t.ID)
	}
	if c.o.Now().Sub(t.EndedAt) > shown {
		if err := os.Remove(c.tombstone(t.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return cloud.VM{}, err
		}
		return cloud.VM{}, notFound(t.ID)
	}
	vm := describe(&t.Record)
	vm.State, vm.EndedAt, vm.EndReason = cloud.Terminated, t.EndedAt, t.EndReason
	return vm, nil
}

func describe(r *vmdir.Record) cloud.VM {
	return cloud.VM{ID: r.ID, Job: r.Job, Attempt: r.Attempt, Launch: r.Launch, Placement: r.Placement, LaunchedAt: r.LaunchedAt}
}

// status is what the files and the process of a VM say together.
type status struct {
	rec   *vmdir.Record
	proc  *vmdir.Process // nil: never started, or just being
	alive bool           // its machine process runs
	kill  *vmdir.Kill
	warn  *vmdir.Warning
	end   *vmdir.End
}

// inspect reads a directory. fs.ErrNotExist: there is none.
func inspect(d vmdir.Dir) (s status, err error) {
	if s.rec, err = d.Record(); err != nil {
		return s, err
	}
	var errs [4]error
	s.proc, errs[0] = d.Process()
	s.kill, errs[1] = d.Kill()
	s.warn, errs[2] = d.Warning()
	s.end, errs[3] = d.End()
	s.alive = s.proc != nil && s.proc.Alive()
	return s, errors.Join(errs[:]...)
}

// over says that the VM is ended or is to be.
func (s *status) over(now time.Time) bool {
	return s.kill != nil || s.end != nil || s.proc != nil && !s.alive || s.late(now)
}

func (s *status) late(now time.Time) bool {
	return s.warn != nil && now.After(s.warn.Notice.Deadline.Add(overdue))
}

func (c *Cloud) living(id string) (cloud.VM, error) {
	s, err := inspect(c.dir(id))
	if err != nil {
		return cloud.VM{}, err
	}
	if s.rec.Stack != c.o.Stack {
		return cloud.VM{}, notFound(id)
	}
	now, vm := c.o.Now(), describe(s.rec)
	switch {
	case s.over(now):
		vm.State = cloud.Going
		c.finishSoon(id)
	case s.warn != nil && !now.Before(s.warn.Notice.Deadline):
		vm.State = cloud.Going
	case s.proc == nil:
		vm.State = cloud.Pending
		if now.Sub(s.rec.LaunchedAt) > bootLate {
			c.startSoon(id)
		}
	case now.Before(s.rec.LaunchedAt.Add(s.rec.BootDelay.D())):
		vm.State = cloud.Pending
	default:
		vm.State = cloud.Running
	}
	if s.warn != nil && !s.warn.HideControl {
		vm.Notice = &s.warn.Notice
	}
	vm.Impaired = slices.Contains(c.faults.now().Impaired, id)
	return vm, nil
}

// console is the end of what the VM printed.
func console(d vmdir.Dir) string {
	b, err := os.ReadFile(d.Path("console.log"))
	if err != nil {
		return fmt.Sprintf("no console: %v", err)
	}
	return strings.TrimSpace(string(b[max(0, len(b)-2000):]))
}
