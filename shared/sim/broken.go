package sim

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"anycloud/shared/bus"
	"anycloud/shared/cloud"
	"anycloud/shared/job"
	"anycloud/shared/store"
)

// Variant names a deliberately broken version of one mechanism. The tests keep
// them to show that the simulation catches each.
type Variant string

const (
	// TokenNotDerived: every launch call has a token of its own, so a replay
	// makes a second VM.
	TokenNotDerived Variant = "token not derived"
	// DoomedDropped: writes lose the list of doomed VMs.
	DoomedDropped Variant = "doomed list dropped"
	// FenceSkipped: a writer takes over without a fence, and appends without
	// looking whether it was fenced.
	FenceSkipped Variant = "fence skipped"
	// PruneBeforeEntry: packs are deleted before the entry that lists them.
	PruneBeforeEntry Variant = "prune deletes before its entry"
	// EmptyTakenForSettled: a launch that no listing shows counts as never made.
	EmptyTakenForSettled Variant = "empty describe taken for settled"
	// StaleOrphans: orphans are judged by rows read before the listing.
	StaleOrphans Variant = "orphans judged by a read before the listing"
	// SilenceByClock: a VM not heard of for a time by the clock is destroyed.
	SilenceByClock Variant = "silence by the clock"
	// EventBeforeWrite: events go out before the write that they announce.
	EventBeforeWrite Variant = "event sent before the write"
)

// Variants are all of them.
var Variants = []Variant{TokenNotDerived, DoomedDropped, FenceSkipped, PruneBeforeEntry, EmptyTakenForSettled, StaleOrphans, SilenceByClock, EventBeforeWrite}

// brokenStore breaks what goes through the table.
type brokenStore struct {
	store.Store
	w *world
}

func (b brokenStore) Put(ctx context.Context, j *job.Job) error {
	switch b.w.broke {
	case DoomedDropped:
		j = j.Clone()
		j.Doomed = nil
	case EmptyTakenForSettled:
		j = j.Clone()
		kept := j.Doomed[:0]
		for _, d := range j.Doomed {
			if d.VMID != "" {
				kept = append(kept, d)
			}
		}
		j.Doomed = kept
	case EventBeforeWrite:
		for _, m := range j.Outbox {
			e := bus.Event{Version: 1, ID: fmt.Sprintf("%s/%d/%s", j.ID, m.Revision, m.Type), Type: m.Type, JobID: j.ID}
			if err := (simBus{b.w}).Publish(ctx, e); err != nil {
				return err
			}
		}
	}
	return b.Store.Put(ctx, j)
}

// brokenCloud breaks what goes to the cloud.
type brokenCloud struct {
	cloud.Cloud
	w *world
}

func (b brokenCloud) Launch(ctx context.Context, r cloud.LaunchRequest) (cloud.VM, error) {
	r.Token = fmt.Sprintf("%s-%d", r.Token, b.w.s.rng.Int64())
	return b.Cloud.Launch(ctx, r)
}

// parts returns the ports, broken where the variant says so.
func (w *world) parts() (store.Store, cloud.Cloud) {
	var st store.Store = w.store
	var cl cloud.Cloud = w.cloud
	switch w.broke {
	case DoomedDropped, EmptyTakenForSettled, EventBeforeWrite:
		st = brokenStore{w.store, w}
	case TokenNotDerived:
		cl = brokenCloud{w.cloud, w}
	}
	return st, cl
}

// brokenSweep is what a careless sweep would do beside the real one.
func (w *world) brokenSweep(ctx context.Context) error {
	rows := map[string]*job.Job{}
	page, _, _, err := w.store.Active(ctx, "", 0)
	if err != nil {
		return err
	}
	for _, j := range page {
		rows[j.ID] = j
	}
	if w.broke == SilenceByClock {
		for _, j := range page {
			a := j.AttemptNo(j.Writer)
			if a != nil && !a.Doomed && !a.Gone && w.now().Sub(a.LastHeard) > j.Spec.UnresponsiveAfter.D() {
				if err := w.cloud.Terminate(ctx, a.VMID); err != nil {
					return err
				}
			}
		}
		return nil
	}
	vms, _, err := w.cloud.List(ctx, "")
	if err != nil {
		return err
	}
	for _, vm := range vms {
		j := rows[vm.Job]
		if vm.State == cloud.Terminated || j == nil || j.AttemptOf(vm.ID) != nil || j.DoomedVM(vm.ID) != nil {
			continue
		}
		if err := w.cloud.Terminate(ctx, vm.ID); err != nil {
			return err
		}
	}
	return nil
}

// published holds an event against the row that it announces: an event that
// goes out before its write tells of what may never be.
func (w *world) published(e bus.Event) {
	parts := strings.Split(e.ID, "/")
	revision, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		w.violate("I3", "event id %q has no revision", e.ID)
		return
	}
	cur := w.s.current
	w.s.current = nil
	j, err := w.store.Get(context.Background(), e.JobID)
	w.s.current = cur
	if err != nil || j.Revision < revision {
		w.violate("I3", "event %s announces a write that is not there", e.ID)
	}
}

// zombie is a VM that the cloud calls gone and whose last requests still arrive:
// it holds credentials, and tries to commit. What the fence is for.
func (w *world) zombie(a *agent) {
	if !w.faulty || a.log == nil || a.c == nil || !w.s.chance(0.3) {
		return
	}
	w.s.spawn("zombie "+a.vmID, w.s.between(0, 20*time.Second), &task{}, func() {
		for range 4 {
			a.log.commit(a.c.progress(w.s.now), false, nil)
			if a.log.fenced {
				w.count(faultStaleWriter)
				return
			}
			w.s.pause(w.s.between(time.Second, time.Minute))
		}
	})
}
