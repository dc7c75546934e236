package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/cloud"
	"anycloud/shared/job"
	"anycloud/shared/store"
)

// Recover brings a job on: it terminates what is doomed, and launches the VM
// that is missing, first or next. It is woken by job.submitted, job.preempted
// and job.retry, and by the sweep; called at a wrong time, it does nothing.
func (c *ControlPlane) Recover(ctx context.Context, id string) error {
	return again(func() error { return c.recoverOnce(ctx, id) })
}

// again repeats a reconciler that lost a write: somebody else got the job on,
// and what is left to do is to be seen in the row as it is now. What was refused
// is no failure.
func again(once func() error) error {
	var err error
	for range tries {
		if err = once(); !errors.Is(err, store.ErrConflict) {
			return ignoreRefused(err)
		}
	}
	return err
}

func (c *ControlPlane) recoverOnce(ctx context.Context, id string) error {
	j, err := c.Store.Get(ctx, id)
	if err != nil {
		return fmt.Errorf("recover job %s: %w", id, err)
	}
	if l := j.LimitDue(c.Now()); l != nil {
		_, err := c.apply(ctx, j, always(job.LimitReached{Reason: l.Reason, Message: l.Message}))
		return err
	}
	terr := c.terminateDue(ctx, j)
	switch j.State {
	case job.Pending, job.Recovering:
		err = c.launchNext(ctx, j)
	case job.Provisioning:
		err = c.replayLaunch(ctx, j)
	}
	return errors.Join(terr, err)
}

func (c *ControlPlane) launchNext(ctx context.Context, j *job.Job) error {
	now := c.Now()
	if now.Before(j.WakeAt) {
		return nil
	}
	if j.Bucket != nil && j.Bucket.State == job.BucketIntended {
		var err error
		if j, err = c.makeBucket(ctx, j); err != nil || j == nil {
			return err
		}
	}
	candidates, err := c.candidates(ctx, j)
	switch {
	case errors.Is(err, cloud.ErrInvalid):
		_, err = c.apply(ctx, j, always(job.Unlaunchable{Message: err.Error()}))
		return ignoreRefused(err)
	case errors.Is(err, cloud.ErrDenied):
		return c.postpone(ctx, j, fmt.Sprintf("find a machine: %v", err))
	case err != nil:
		return fmt.Errorf("find candidates for job %s: %w", j.ID, err)
	}
	// The intent first: whoever comes after a crash replays the same call.
	j, err = c.apply(ctx, j, always(job.LaunchIntended{Candidates: candidates, Deadline: now.Add(c.LaunchFor)}))
	if err != nil || j.Launch == nil {
		return ignoreRefused(err)
	}
	return c.launch(ctx, j)
}

// launch makes the call that the row intends, within its deadline.
func (c *ControlPlane) launch(ctx context.Context, j *job.Job) error {
	l := j.Launch
	cl, err := c.cloudOf(l.Candidates[0].Cloud)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, l.Deadline.Sub(c.Now()))
	defer cancel()
	vm, err := cl.Launch(ctx, cloud.LaunchRequest{
		Token: l.Token, Job: j.ID, Attempt: l.Attempt, Launch: l.Number, Candidates: l.Candidates, Needs: machineOf(j.Spec),
	})
	if err == nil {
		_, err = c.change(context.WithoutCancel(ctx), j.ID, always(job.Launched{VM: facts(vm, cl.Name())}))
		return ignoreRefused(err)
	}
	return c.launchFailed(context.WithoutCancel(ctx), j, err)
}

func (c *ControlPlane) launchFailed(ctx context.Context, j *job.Job, err error) error {
	l := j.Launch
	refused := job.LaunchRefused{
		Attempt: l.Attempt, Number: l.Number, Message: err.Error(), RetryAt: c.Now().Add(launchBackoff(j.RefusedInRow)),
	}
	progress := j.Writer >= j.RunFrom
	switch {
	case errors.Is(err, cloud.ErrCapacity):
		refused.For = job.WaitCapacity
	case errors.Is(err, cloud.ErrQuota):
		refused.For = job.WaitQuota
	case errors.Is(err, cloud.ErrThrottled):
		refused.For = job.WaitBackoff
	case errors.Is(err, cloud.ErrDenied) && progress:
		// A person must act; work done so far is not thrown away for it.
		refused.For = job.WaitBackoff
	case errors.Is(err, cloud.ErrDenied), errors.Is(err, cloud.ErrInvalid):
		refused.Fatal = true
	default:
		// Unknown: the VM may exist. The deadline passes, and the launch is
		// replayed with its token.
		c.Logger.Warn("launch not answered", "job", j.ID, "attempt", l.Attempt, "err", err)
		return nil
	}
	var r *cloud.Refusal
	if errors.As(err, &r) && errors.Is(err, cloud.ErrCapacity) {
		c.markPools(ctx, r.Pools)
	}
	_, err = c.change(ctx, j.ID, always(refused))
	return ignoreRefused(err)
}

// launchBackoff after n refusals in a row: 2 s doubled, at most 2 min.
func launchBackoff(n int) time.Duration { return min(2*time.Second<<min(n, 10), 2*time.Minute) }

// replayLaunch settles a launch whose caller did not come back: a listing may
// know its VM; else the same call is made again; at last it is given up.
func (c *ControlPlane) replayLaunch(ctx context.Context, j *job.Job) error {
	l := j.Launch
	if l == nil || c.Now().Before(l.Deadline) {
		return nil
	}
	cl, err := c.cloudOf(l.Candidates[0].Cloud)
	if err != nil {
		return err
	}
	if l.Replays >= job.MaxReplays {
		_, err := c.apply(ctx, j, always(job.LaunchUnanswered{Attempt: l.Attempt, Number: l.Number}))
		return ignoreRefused(err)
	}
	vm, found, err := findLaunch(ctx, cl, j.ID, l.Attempt, l.Number)
	if err != nil {
		return fmt.Errorf("look for the VM of job %s: %w", j.ID, err)
	}
	if found {
		_, err := c.change(ctx, j.ID, always(seenEvent(vm, cl.Name())))
		return ignoreRefused(err)
	}
	j, err = c.apply(ctx, j, always(job.LaunchReplayed{Attempt: l.Attempt, Number: l.Number, Deadline: c.Now().Add(c.LaunchFor)}))
	if err != nil {
		return ignoreRefused(err)
	}
	return c.launch(ctx, j)
}

// findLaunch looks for a VM by its tags.
func findLaunch(ctx context.Context, cl cloud.Cloud, id string, attempt, launch int) (cloud.VM, bool, error) {
	for page := ""; ; {
		vms, next, err := cl.List(ctx, page)
		if err != nil {
			return cloud.VM{}, false, err
		}
		for _, vm := range vms {
			if vm.Job == id && vm.Attempt == attempt && vm.Launch == launch {
				return vm, true, nil
			}
		}
		if next == "" {
			return cloud.VM{}, false, nil
		}
		page = next
	}
}

// postpone lets the job wait where a person must act, and shows why.
func (c *ControlPlane) postpone(ctx context.Context, j *job.Job, why string) error {
	_, err := c.apply(ctx, j, always(job.Postponed{For: job.WaitBackoff, Message: why, Until: c.Now().Add(c.SweepEvery)}))
	return ignoreRefused(err)
}

// makeBucket creates the job's bucket before its first VM. Creation may be
// repeated; a bucket of that name that is not ours ends the job.
func (c *ControlPlane) makeBucket(ctx context.Context, j *job.Job) (*job.Job, error) {
	admin, err := c.bucketsOf(j.Bucket.Cloud)
	if err != nil {
		return nil, err
	}
	if err := admin.Create(ctx, j.Bucket.Name); err != nil {
		if isNotOwned(err) {
			_, err := c.apply(ctx, j, always(job.Unlaunchable{Message: fmt.Sprintf("bucket %s exists and is not ours: submit the job anew, under an id of its own", j.Bucket.Name)}))
			return nil, ignoreRefused(err)
		}
		if errors.Is(err, bucket.ErrDenied) || errors.Is(err, bucket.ErrFull) {
			return nil, c.postpone(ctx, j, fmt.Sprintf("create its bucket: %v", err))
		}
		return nil, fmt.Errorf("create the bucket of job %s: %w", j.ID, err)
	}
	return c.apply(ctx, j, always(job.BucketReady{}))
}
