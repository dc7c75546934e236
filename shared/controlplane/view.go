package controlplane

import (
	"maps"
	"math"
	"slices"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/job"
)

// view shows a record as users see it.
func (c *ControlPlane) view(j *job.Job) api.Job {
	now := c.Now()
	v := api.Job{
		ID: j.ID, Name: j.Spec.Name, State: j.State, Spot: j.Spec.Spot, Image: j.Spec.Image, Command: j.Spec.Command, Revision: j.Revision,
		Run: j.Run, CreatedAt: j.CreatedAt, UpdatedAt: j.UpdatedAt, EndedAt: timeOrNil(j.EndedAt),
		Env: slices.Sorted(maps.Keys(j.Spec.Env)), Attempt: j.Attempt, Writer: j.Writer, Preemptions: j.Preemptions, Failures: j.Failures,
		RefusedLaunches: j.RefusedLaunches, PersistBucket: j.Spec.PersistBucket, KeepUntil: timeOrNil(j.KeepUntil),
		WakeAt: timeOrNil(j.WakeAt), WaitReason: j.WaitReason,
		Attempts: []api.Attempt{}, Doomed: []api.Doomed{}, Kept: []api.Kept{},
	}
	if v.Command == nil {
		v.Command = []string{}
	}
	if j.WaitingFor != "" {
		v.WaitingFor = &j.WaitingFor
	}
	if j.Bucket != nil && j.Bucket.State != job.BucketDisposed {
		v.Bucket = &j.Bucket.Name
	}
	if o := j.Outcome; o != nil {
		v.Reason, v.Message, v.ExitCode = o.Reason, o.Message, o.ExitCode
	}
	for _, d := range j.Doomed {
		v.Doomed = append(v.Doomed, api.Doomed{VMID: d.VMID, TerminateAfter: d.TerminateAfter})
	}
	for _, k := range j.Kept {
		kept := api.Kept{VMID: k.VMID, Since: k.Since}
		if a := j.AttemptOf(k.VMID); a != nil {
			kept.Price = a.Placement.Price
		}
		v.Kept = append(v.Kept, kept)
	}
	end := now
	if !j.EndedAt.IsZero() {
		end = j.EndedAt
	}
	var up float64
	for i := range j.Attempts {
		a := &j.Attempts[i]
		v.Attempts = append(v.Attempts, api.Attempt{
			Number: a.Number, VMID: a.VMID, Placement: a.Placement, StartedAt: a.StartedAt, EndedAt: timeOrNil(a.EndedAt), EndReason: a.EndReason,
			ExitCode: a.ExitCode, Restored: a.Restored, LostSeconds: a.LostSeconds, Phases: a.Phases,
		})
		v.LostSeconds += a.LostSeconds
		if !a.ContainerStartedAt.IsZero() {
			if v.StartedAt == nil {
				v.StartedAt = timeOrNil(a.ContainerStartedAt)
			}
			up += secondsOf(a.ContainerStartedAt, a.ContainerStoppedAt, end)
		}
		if a.SilentSweeps >= job.SilentSweepsShown && !a.Gone && v.UnresponsiveSince == nil {
			v.UnresponsiveSince = timeOrNil(a.SilentSince)
		}
	}
	v.VMSeconds, v.CostUSD, v.OnDemandUSD = j.Spent(now, 0)
	v.Limits = []api.Limit{}
	for _, l := range j.Limits(now) {
		v.Limits = append(v.Limits, api.Limit{
			Limit: string(l.Reason), Used: min(l.Used, math.MaxFloat64), Message: l.Message, Near: l.Used >= job.LimitNear && !j.State.Terminal(),
		})
	}
	if v.StartedAt != nil {
		stop := end
		if j.State.Terminal() || j.State == job.Stopping {
			stop = lastStop(j, end) // disposal is no down time
		}
		v.DownSeconds = max(0, stop.Sub(*v.StartedAt).Seconds()-up)
	}
	v.Checkpoint = c.checkpointView(j, now)
	return v
}

func secondsOf(from, to, now time.Time) float64 {
	if to.IsZero() {
		to = now
	}
	return max(0, to.Sub(from).Seconds())
}

// lastStop is when the last container of an ending job stopped.
func lastStop(j *job.Job, end time.Time) time.Time {
	var last time.Time
	for i := range j.Attempts {
		if a := &j.Attempts[i]; !a.ContainerStartedAt.IsZero() {
			if a.ContainerStoppedAt.IsZero() {
				return end
			}
			if a.ContainerStoppedAt.After(last) {
				last = a.ContainerStoppedAt
			}
		}
	}
	return last
}

func (c *ControlPlane) checkpointView(j *job.Job, now time.Time) *api.Checkpoint {
	if j.Bucket == nil {
		return nil
	}
	v := &api.Checkpoint{Health: "none"}
	k := j.Checkpoint
	if k == nil {
		return v
	}
	*v = api.Checkpoint{
		Latest: k.Latest, Clean: k.Clean, CommittedAt: timeOrNil(k.CommittedAt), Files: k.Files, Bytes: k.Bytes,
		PauseSeconds: api.Pauses{P50: k.PauseP50, P99: k.PauseP99, Max: k.PauseMax}, Health: k.Health, Problem: k.Problem,
	}
	if v.Health == "ok" && j.State == job.Running {
		w := j.AttemptNo(j.Writer)
		since := k.CommittedAt
		if w != nil && w.ContainerStartedAt.After(since) {
			since = w.ContainerStartedAt
		}
		if now.Sub(since) > 3*j.Spec.CheckpointInterval.D() && w != nil && now.Sub(w.LastHeard) > 3*j.Spec.CheckpointInterval.D() {
			v.Health = "late"
		}
	}
	return v
}
