package sim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket/membucket"
	"anycloud/shared/cloud/fakecloud"
	"anycloud/shared/controlplane"
	"anycloud/shared/job"
	"anycloud/shared/store/memstore"
)

// world is one schedule's everything.
type world struct {
	s      *scheduler
	p      profile
	faulty bool
	broke  Variant

	cp      *controlplane.ControlPlane
	store   *memstore.Store
	cloud   *fakecloud.Cloud
	buckets *membucket.Buckets
	logs    *membucket.Objects

	jobs      []string
	rows      map[string]*job.Job // as last seen by the checks
	dirty     map[string]bool
	live      map[string]*fakecloud.VM
	liveIDs   []string
	agents    map[string]*agent
	truth     map[string]*truth
	running   map[string]*container // by VM
	acked     map[string]commit     // newest acknowledged clean commit, by job
	fences    map[string]int        // highest attempt in the job's log
	succeeded map[runKey]int
	exits0    map[runKey]int
	givenUp   map[launchKey]bool
	deafUntil time.Time
	calmAt    time.Time // when faults stopped
	ended     int       // VMs at the front of the cloud's list that are gone
	spotShare float64
	losses    int
	submits   int
	hits      map[string]int
	broken    *Violation
	logger    *slog.Logger
}

const stackID = "sim"

func hashOf(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(h[:])
}

// submit gives the control plane a job, as a client does: repeated under one
// key until it is answered.
func (w *world) submit(after time.Duration) {
	spec := w.specOf()
	key := fmt.Sprintf("job-%d", w.submits)
	w.submits++
	var try func(time.Duration)
	try = func(after time.Duration) {
		var id string
		w.invoke("submit", after, func(ctx context.Context) error {
			r, err := w.cp.Submit(ctx, api.SubmitRequest{Spec: spec}, key)
			id = r.Job.ID
			return err
		}, func(err error) {
			if err != nil {
				try(w.s.between(time.Second, 10*time.Second))
			} else if !slices.Contains(w.jobs, id) {
				w.jobs = append(w.jobs, id)
			}
		})
	}
	try(after)
}

// work is how long a job's container has to run in all.
func (w *world) workOf(id string) time.Duration {
	h := sha256.Sum256([]byte(id))
	return time.Minute + time.Duration(h[0])*600*time.Millisecond
}

// scheduleExit ends the container when its work is done, or earlier with an
// error.
func (w *world) scheduleExit(a *agent, c *container) {
	left := w.workOf(c.job) - c.base
	code := 0
	if w.faulty && w.s.chance(0.08) {
		left, code = w.s.between(0, left), 1
	}
	w.s.at(max(0, left), func() {
		if !c.stoppedAt.IsZero() || w.running[a.vmID] != c {
			return
		}
		c.stoppedAt, c.byItself, c.exitCode = w.s.now, true, code
		if code == 0 {
			if j := w.rows[c.job]; j != nil {
				w.exits0[runKey{c.job, j.Run}]++
			}
		} else {
			w.count(faultAppFailure)
		}
		w.containerEnded(c)
	})
}

func (w *world) containerEnded(c *container) {
	for id, r := range w.running {
		if r == c {
			delete(w.running, id)
		}
	}
}

func (w *world) powerOff(vmID string) {
	w.truth[vmID].done = true
	w.cloud.PowerOff(vmID)
}

func (w *world) claimed(a *agent) {
	w.truth[a.vmID].claimed = true
	w.heard(a)
}

func (w *world) heard(a *agent) {
	tr := w.truth[a.vmID]
	tr.lastHeard, tr.heardFor = w.s.now, 0
}

// observe brings the checks' view up to date after a step, and checks.
func (w *world) observe() {
	for id := range w.dirty {
		j, err := w.store.Get(context.Background(), id)
		if err != nil {
			w.violate("I3", "%s: its row cannot be read any more: %v", id, err)
			return
		}
		w.checkRow(w.rows[id], j)
		w.rows[id] = j
		if !slices.Contains(w.jobs, id) {
			w.jobs = append(w.jobs, id)
		}
		delete(w.dirty, id)
	}
	w.watchVMs()
	w.checkVMs()
}

// watchVMs boots agents on new VMs and takes everything on a VM with it.
func (w *world) watchVMs() {
	w.liveIDs = w.liveIDs[:0]
	for _, vm := range w.cloud.All()[w.ended:] {
		if !vm.Alive(w.s.now) {
			if _, was := w.live[vm.ID]; was {
				delete(w.live, vm.ID)
				w.vmDied(vm.ID)
			}
			if len(w.live) == 0 && len(w.liveIDs) == 0 && vm.Created.Before(w.s.now) {
				w.ended++ // no need to look at it again
			}
			continue
		}
		if _, known := w.live[vm.ID]; !known {
			w.vmBorn(vm)
			w.live[vm.ID] = vm
		}
		w.liveIDs = append(w.liveIDs, vm.ID)
	}
}

func (w *world) vmBorn(vm *fakecloud.VM) {
	w.truth[vm.ID] = &truth{born: w.s.now, lastHeard: w.s.now}
	a := &agent{w: w, vmID: vm.ID}
	if w.faulty && w.p.skew > 0 {
		a.skew = w.s.between(-3*w.p.skew, 3*w.p.skew)
	}
	a.neverClaim = w.faulty && w.s.chance(0.02)
	a.task = &task{}
	w.agents[vm.ID] = a
	w.s.spawn("agent "+vm.ID, w.s.between(5*time.Second, 40*time.Second), a.task, a.run)
}

func (w *world) vmDied(id string) {
	if c := w.running[id]; c != nil {
		c.stoppedAt = w.s.now
		delete(w.running, id)
	}
	if a := w.agents[id]; a != nil {
		w.s.kill(a.task)
		delete(w.agents, id)
		w.zombie(a)
	}
}

func (w *world) bucketExists(name string) bool {
	ok, err := w.buckets.Exists(context.Background(), name)
	return ok && err == nil
}
