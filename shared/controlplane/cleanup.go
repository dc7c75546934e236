package controlplane

import (
	"context"
	"errors"
	"fmt"

	"anycloud/shared/bucket"
	"anycloud/shared/cloud"
	"anycloud/shared/job"
)

// Cleanup brings an ending job to its end, and an ended one's leftovers: it
// terminates what is doomed, disposes of the bucket when its time has come, and
// makes the job terminal once nothing is left.
func (c *ControlPlane) Cleanup(ctx context.Context, id string) error {
	return again(func() error { return c.cleanUpOnce(ctx, id) })
}

func (c *ControlPlane) cleanUpOnce(ctx context.Context, id string) error {
	j, err := c.Store.Get(ctx, id)
	if err != nil {
		return fmt.Errorf("clean up job %s: %w", id, err)
	}
	if err := c.terminateDue(ctx, j); err != nil {
		return err
	}
	if j.State != job.Stopping && !j.State.Terminal() || len(j.Doomed) > 0 {
		return nil
	}
	if j.BucketDue() || c.keptOut(j) {
		if j, err = c.apply(ctx, j, always(job.DisposalIntended{})); err != nil {
			return ignoreRefused(err)
		}
	}
	if j.Bucket != nil && j.Bucket.State == job.BucketDisposing {
		if j, err = c.dispose(ctx, j); err != nil || j == nil {
			return err
		}
	}
	if j.State == job.Stopping {
		_, err = c.apply(ctx, j, always(job.Finished{}))
	}
	return ignoreRefused(err)
}

// keptOut says that an ended job's bucket was kept for as long as was asked.
func (c *ControlPlane) keptOut(j *job.Job) bool {
	return j.State.Terminal() && !j.KeepUntil.IsZero() && !c.Now().Before(j.KeepUntil) &&
		j.Bucket != nil && (j.Bucket.State == job.BucketCreated || j.Bucket.State == job.BucketIntended)
}

// dispose carries the irrevocable intent out. It may be interrupted and
// repeated; a bucket that is not there is success. nil: more is left to do.
func (c *ControlPlane) dispose(ctx context.Context, j *job.Job) (*job.Job, error) {
	admin, err := c.bucketsOf(j.Bucket.Cloud)
	if err != nil {
		return nil, err
	}
	for {
		done, err := admin.Dispose(ctx, j.Bucket.Name)
		switch {
		case errors.Is(err, bucket.ErrNotOwned):
			// Ours is gone, somebody else's has its name: never touched.
			c.Logger.Warn("bucket of that name is not ours; left alone", "job", j.ID, "bucket", j.Bucket.Name)
			done = true
		case err != nil:
			return nil, fmt.Errorf("dispose of the bucket of job %s: %w", j.ID, err)
		}
		if done {
			return c.apply(ctx, j, always(job.BucketGone{}))
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// terminateDue asks for the end of every doomed VM whose time has come. The
// record is the intent; asking twice is harmless, and only the cloud's word
// that a VM is gone takes it off the record.
func (c *ControlPlane) terminateDue(ctx context.Context, j *job.Job) error {
	var errs []error
	for _, d := range j.Doomed {
		if d.VMID == "" || c.Now().Before(d.TerminateAfter) {
			continue
		}
		cl, err := c.cloudOf(d.Cloud)
		if err == nil {
			err = cl.Terminate(ctx, d.VMID)
		}
		if err != nil && !errors.Is(err, cloud.ErrNotFound) { // not found is no proof of absence: the sweep decides
			errs = append(errs, fmt.Errorf("terminate %s of job %s: %w", d.VMID, j.ID, err))
		}
	}
	return errors.Join(errs...)
}
