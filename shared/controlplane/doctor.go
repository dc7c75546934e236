package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"anycloud/shared/api"
	"anycloud/shared/cloud"
	"anycloud/shared/job"
	"anycloud/shared/store"
)

// Doctor says what is wrong: VMs and buckets without a record, kept VMs, jobs
// that wait or whose saves fail, events that nobody could handle. fix names
// checks to mend; nothing is destroyed that a record names.
func (c *ControlPlane) Doctor(ctx context.Context, fix []string) (api.DoctorReport, error) {
	rows := map[string]*job.Job{}
	for after := ""; ; {
		jobs, next, err := c.Store.List(ctx, store.Filter{After: after})
		if err != nil {
			return api.DoctorReport{}, fmt.Errorf("read the table: %w", err)
		}
		for _, j := range jobs {
			rows[j.ID] = j
		}
		if next == "" {
			break
		}
		after = next
	}
	r := api.DoctorReport{Checks: []api.DoctorCheck{{ID: "table", Level: "ok", What: fmt.Sprintf("the table answers; %d jobs", len(rows))}}}
	for _, name := range sortedKeys(c.Clouds) {
		r.Checks = append(r.Checks, c.doctorVMs(ctx, c.Clouds[name], rows, fix)...)
	}
	for _, name := range sortedKeys(c.Buckets) {
		r.Checks = append(r.Checks, c.doctorBuckets(ctx, name, rows, fix)...)
	}
	for _, id := range sortedKeys(rows) {
		r.Checks = append(r.Checks, c.doctorJob(rows[id])...)
	}
	if c.DeadLetters != nil {
		letters, err := c.DeadLetters(ctx)
		if err != nil {
			r.Checks = append(r.Checks, api.DoctorCheck{ID: "dead-letters", Level: "error", What: fmt.Sprintf("events that could not be handled cannot be listed: %v", err), Do: "check the queue and its permissions"})
		}
		for i, l := range letters {
			r.Checks = append(r.Checks, api.DoctorCheck{ID: fmt.Sprintf("dead-letter-%d", i+1), Level: "warning", What: "an event could not be handled: " + l, Do: "the sweep makes up for it; report it if it comes again"})
		}
	}
	return r, nil
}

func (c *ControlPlane) doctorVMs(ctx context.Context, cl cloud.Cloud, rows map[string]*job.Job, fix []string) (checks []api.DoctorCheck) {
	n := 0
	for page := ""; ; {
		vms, next, err := cl.List(ctx, page)
		if err != nil {
			return append(checks, api.DoctorCheck{ID: "cloud-" + cl.Name(), Level: "error", What: fmt.Sprintf("cloud %s cannot be listed: %v", cl.Name(), err), Do: "check its credentials and permissions"})
		}
		for _, vm := range vms {
			if vm.State == cloud.Terminated {
				continue
			}
			n++
			if rows[vm.Job] != nil || c.recorded(ctx, vm.Job) {
				continue // the sweep judges it
			}
			id := "vm-" + vm.ID
			k := api.DoctorCheck{ID: id, Level: "error", What: fmt.Sprintf("VM %s carries job %q, which has no record", vm.ID, vm.Job), Do: "anycloud doctor --fix terminates it", Fixable: true, Since: vm.LaunchedAt}
			if slices.Contains(fix, id) {
				if err := cl.Terminate(ctx, vm.ID); err != nil {
					k.Do = fmt.Sprintf("terminating it failed: %v", err)
				} else {
					k.Level, k.Do, k.Fixable = "ok", "terminated", false
				}
			}
			checks = append(checks, k)
		}
		if next == "" {
			return append(checks, api.DoctorCheck{ID: "cloud-" + cl.Name(), Level: "ok", What: fmt.Sprintf("cloud %s answers; %d VMs of this stack live", cl.Name(), n)})
		}
		page = next
	}
}

func (c *ControlPlane) doctorBuckets(ctx context.Context, name string, rows map[string]*job.Job, fix []string) (checks []api.DoctorCheck) {
	admin := c.Buckets[name]
	buckets, err := admin.List(ctx)
	if err != nil {
		return []api.DoctorCheck{{ID: "buckets-" + name, Level: "error", What: fmt.Sprintf("the buckets of %s cannot be listed: %v", name, err), Do: "check its credentials and permissions"}}
	}
	for _, b := range buckets {
		if rows[b] != nil || c.recorded(ctx, b) {
			continue
		}
		id := "bucket-" + b
		k := api.DoctorCheck{ID: id, Level: "warning", What: fmt.Sprintf("bucket %s has no job's record", b), Do: "anycloud doctor --fix deletes it with all that is in it", Fixable: true}
		if slices.Contains(fix, id) {
			if err := disposeAll(ctx, admin, b); err != nil {
				k.Do = fmt.Sprintf("deleting it failed: %v", err)
			} else {
				k.Level, k.Do, k.Fixable = "ok", "deleted", false
			}
		}
		checks = append(checks, k)
	}
	return checks
}

// recorded says whether the table may know a job that its listing did not show:
// one of a newer version, one submitted since, or a table that does not answer.
func (c *ControlPlane) recorded(ctx context.Context, id string) bool {
	if id == "" {
		return false
	}
	_, err := c.Store.Get(ctx, id)
	return !errors.Is(err, store.ErrNotFound)
}

type disposer interface {
	Dispose(ctx context.Context, name string) (bool, error)
}

func disposeAll(ctx context.Context, admin disposer, name string) error {
	for {
		if done, err := admin.Dispose(ctx, name); done || err != nil {
			return err
		}
	}
}

func (c *ControlPlane) doctorJob(j *job.Job) (checks []api.DoctorCheck) {
	v := c.view(j)
	add := func(kind, level, what, do string) {
		checks = append(checks, api.DoctorCheck{ID: kind + "-" + j.ID, Level: level, What: what, Do: do})
	}
	if k := v.Checkpoint; k != nil && (k.Health == "failing" || k.Health == "late") {
		what := fmt.Sprintf("the saves of job %s are %s", j.ID, k.Health)
		if k.Problem != "" {
			what += ": " + k.Problem
		}
		add("checkpoint", "error", what, "its container works on; see anycloud status "+j.ID)
	}
	for _, k := range v.Kept {
		cost := c.Now().Sub(k.Since).Hours() * k.Price
		add("kept-"+k.VMID, "warning", fmt.Sprintf("VM %s of job %s is kept since %s: %.4f USD so far, %.4f USD/h", k.VMID, j.ID, k.Since.Format("2006-01-02 15:04"), cost, k.Price), "anycloud cancel "+j.ID+" releases it")
	}
	if v.UnresponsiveSince != nil {
		add("silent", "warning", fmt.Sprintf("job %s has not been heard of since %s", j.ID, v.UnresponsiveSince.Format("15:04:05")), "it is left alone for --unresponsive-after")
	}
	if v.WaitingFor != nil {
		add("waiting", "warning", fmt.Sprintf("job %s waits for %s: %s", j.ID, *v.WaitingFor, j.WaitReason), "nothing; it goes on by itself")
	}
	return checks
}
