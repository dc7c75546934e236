package controlplane

import (
	"context"
	"errors"
	"fmt"

	"anycloud/shared/job"
	"anycloud/shared/preempt"
	"anycloud/shared/store"
)

// Notice records a warning or proof of loss, from whatever source. A VM that no
// job names is dropped cheaply: rules cannot filter by tag, so most events of a
// busy account are not ours.
func (c *ControlPlane) Notice(ctx context.Context, n preempt.Notice) error {
	id, err := c.Store.JobByVM(ctx, n.VMID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the job of %s: %w", n.VMID, err)
	}
	var pool []job.Placement
	j, err := c.change(ctx, id, func(j *job.Job) ([]job.Event, error) {
		pool = nil
		if a := j.AttemptOf(n.VMID); a != nil && !a.Doomed && !a.Gone && !n.Drill && n.Kind != preempt.Rebalance {
			pool = []job.Placement{a.Placement}
		}
		return noticeEvents(n, j), nil
	})
	if err != nil {
		return ignoreRefused(err)
	}
	if a := j.AttemptOf(n.VMID); a != nil && a.Doomed && len(pool) > 0 && pool[0].Spot {
		c.markPools(ctx, pool)
	}
	return nil
}

func noticeEvents(n preempt.Notice, j *job.Job) []job.Event {
	switch n.Kind {
	case preempt.Gone:
		vm := job.VMFacts{ID: n.VMID, EndedAt: n.At}
		if a := j.AttemptOf(n.VMID); a != nil {
			vm.Attempt, vm.Launch, vm.StartedAt = a.Number, a.Launch, a.StartedAt
		}
		return []job.Event{job.VMGone{VM: vm}}
	case preempt.Rebalance:
		return []job.Event{job.RebalanceAdvised{VMID: n.VMID, At: n.At}}
	}
	return []job.Event{job.Interrupted{VMID: n.VMID, Kind_: string(n.Kind), Deadline: n.Deadline, At: n.At, Drill: n.Drill}}
}
