package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/catalog"
	"anycloud/shared/cloud"
	"anycloud/shared/job"
	"anycloud/shared/store"
)

// poolsDoc remembers, for all jobs, the pools that lately lost a VM or had no
// room. It is advice: a lost write of it loses nothing.
const poolsDoc = "pools"

func (c *ControlPlane) readPools(ctx context.Context) (map[string]time.Time, int64) {
	pools := map[string]time.Time{}
	data, version, err := c.Store.GetDoc(ctx, poolsDoc)
	if err != nil || json.Unmarshal(data, &pools) != nil {
		return map[string]time.Time{}, version
	}
	return pools, version
}

func (c *ControlPlane) markPools(ctx context.Context, bad []job.Placement) {
	pools, version := c.readPools(ctx)
	now := c.Now()
	for name, until := range pools {
		if now.After(until) {
			delete(pools, name)
		}
	}
	for _, p := range bad {
		pools[p.Pool()] = now.Add(badPoolFor)
	}
	data, err := json.Marshal(pools)
	if err == nil {
		err = c.Store.PutDoc(ctx, poolsDoc, data, version, now.Add(badPoolFor))
	}
	if err != nil && !errors.Is(err, store.ErrConflict) {
		c.Logger.Warn("bad pools not remembered", "err", err)
	}
}

// candidates are the placements to try, best first; pools that lately failed
// come last, never out: they may be all there is.
func (c *ControlPlane) candidates(ctx context.Context, j *job.Job) ([]job.Placement, error) {
	cl, err := c.cloudOf(cloudName(j, c.DefaultCloud))
	if err != nil {
		return nil, err
	}
	spot := j.Spec.Spot
	if at, ok := j.FallbackAt(); ok && !c.Now().Before(at) {
		spot = false // for this VM; the next loss looks for spot capacity again
	}
	needs := cloud.Needs{Machine: machineOf(j.Spec), Spot: spot, Regions: j.Spec.Region, Zones: j.Spec.Zone}
	if j.Bucket != nil && j.Bucket.Region != "" && j.Checkpoint != nil {
		needs.Regions = []string{j.Bucket.Region} // bound to its bucket's region from the first commit on
	}
	offers, err := cl.Offers(ctx, needs)
	if err != nil {
		return nil, err
	}
	bad, _ := c.readPools(ctx)
	now := c.Now()
	avoid := func(p job.Placement) int {
		if now.Before(bad[p.Pool()]) {
			return 2
		}
		for i := range j.Attempts {
			if a := &j.Attempts[i]; !a.Rebalance.IsZero() && now.Sub(a.Rebalance) < badPoolFor && a.Placement.Pool() == p.Pool() {
				return 1
			}
		}
		return 0
	}
	slices.SortStableFunc(offers, func(a, b job.Placement) int { return avoid(a) - avoid(b) })
	return offers, nil
}

func cloudName(j *job.Job, def string) string {
	if j.Bucket != nil && j.Bucket.Cloud != "" {
		return j.Bucket.Cloud
	}
	if len(j.Spec.Clouds) > 0 {
		return j.Spec.Clouds[0]
	}
	return def
}

// machineOf is the machine that a spec asks for. GPU counts are resolved at
// submit.
func machineOf(s job.Spec) job.Machine {
	m := job.Machine{VMType: s.VMType, CPUs: s.CPUs, Memory: int64(s.Memory), Disk: int64(s.Disk), Arch: s.Arch}
	if s.GPU != "" {
		// It was validated at submit; catalog.All is the driver's "as many as the machine has".
		m.GPU, m.GPUs, _ = catalog.ParseGPU(s.GPU)
	}
	return m
}

func (c *ControlPlane) cloudOf(name string) (cloud.Cloud, error) {
	if cl := c.Clouds[name]; cl != nil {
		return cl, nil
	}
	return nil, fmt.Errorf("cloud %q is not configured in this control plane", name)
}

func (c *ControlPlane) bucketsOf(name string) (bucket.Admin, error) {
	if b := c.Buckets[name]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("cloud %q has no bucket store configured in this control plane", name)
}

func isNotOwned(err error) bool { return errors.Is(err, bucket.ErrNotOwned) }

func always(events ...job.Event) func(*job.Job) ([]job.Event, error) {
	return func(*job.Job) ([]job.Event, error) { return events, nil }
}

// ignoreRefused drops what is no failure of a reconciler: the job went on
// meanwhile. The sweep looks again.
func ignoreRefused(err error) error {
	var r *job.Refused
	if errors.As(err, &r) {
		return nil
	}
	return err
}

// facts are a VM as the record takes them.
func facts(vm cloud.VM, cloudName string) job.VMFacts {
	return job.VMFacts{
		ID: vm.ID, Cloud: cloudName, Attempt: vm.Attempt, Launch: vm.Launch, Placement: vm.Placement,
		StartedAt: vm.LaunchedAt, EndedAt: vm.EndedAt,
	}
}

// seenEvent is what a listing's VM means for its job.
func seenEvent(vm cloud.VM, cloudName string) job.Event {
	if vm.State == cloud.Terminated {
		return job.VMGone{VM: facts(vm, cloudName)}
	}
	return job.VMSeen{VM: facts(vm, cloudName)}
}
