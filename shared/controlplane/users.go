package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/cloud"
	"anycloud/shared/job"
	"anycloud/shared/store"
)

// Get shows a job.
func (c *ControlPlane) Get(ctx context.Context, id string) (api.Job, error) {
	j, err := c.Store.Get(ctx, id)
	if err != nil {
		return api.Job{}, userProblem(id, err)
	}
	return c.view(j), nil
}

// List shows jobs by id; ended ones only if asked for.
func (c *ControlPlane) List(ctx context.Context, q api.ListQuery) (api.JobPage, error) {
	page := api.JobPage{Jobs: []api.Job{}}
	jobs, next, err := c.Store.List(ctx, store.Filter{State: q.State, After: q.After, Limit: q.Limit})
	if err != nil {
		return page, fmt.Errorf("list jobs: %w", err)
	}
	for _, j := range jobs {
		if q.All || q.State != "" || !j.State.Terminal() || len(j.Kept) > 0 {
			page.Jobs = append(page.Jobs, c.view(j))
		}
	}
	page.Next = next
	return page, nil
}

// userProblem words an error for the user who named a job.
func userProblem(id string, err error) error {
	var r *job.Refused
	switch {
	case errors.Is(err, store.ErrNotFound):
		return api.Errorf(http.StatusNotFound, api.CodeNotFound, "no job %q: anycloud list --all shows the jobs that there are", id)
	case errors.Is(err, store.ErrNewer):
		return api.Errorf(http.StatusConflict, api.CodeConflict, "job %s was written by a newer version of anycloud: upgrade this one", id)
	case errors.As(err, &r):
		return api.Errorf(http.StatusConflict, api.CodeConflict, "job %s is %s: %s", id, r.State, r.Why)
	}
	return err
}

// guarded is change for a user who acts on what they saw: refused as stale if
// the job went on since in a way that they would care about.
func (c *ControlPlane) guarded(ctx context.Context, id string, seen int64, decide func(*job.Job) ([]job.Event, error)) (*job.Job, error) {
	j, err := c.change(ctx, id, func(j *job.Job) ([]job.Event, error) {
		if !j.Guard(seen) {
			return nil, api.Errorf(http.StatusPreconditionFailed, api.CodeStale,
				"job %s changed since revision %d (it is %s at revision %d): look again, and repeat if you still want it", id, seen, j.State, j.Revision)
		}
		return decide(j)
	})
	if err != nil {
		return nil, userProblem(id, err)
	}
	return j, nil
}

// Cancel ends a job in order; on an ended job it releases the kept VMs.
func (c *ControlPlane) Cancel(ctx context.Context, id string, ifMatch int64, r api.CancelRequest) (api.Job, error) {
	j, err := c.guarded(ctx, id, ifMatch, always(job.CancelRequested{Now: r.Now}))
	if err != nil {
		return api.Job{}, err
	}
	return c.view(j), nil
}

// Preempt is the drill: the cloud's own interruption of the writer's VM.
func (c *ControlPlane) Preempt(ctx context.Context, id string, r api.PreemptRequest) (api.Job, error) {
	j, err := c.Store.Get(ctx, id)
	if err != nil {
		return api.Job{}, userProblem(id, err)
	}
	a := j.AttemptNo(j.Attempt)
	if j.State.Terminal() {
		return api.Job{}, api.Errorf(http.StatusConflict, api.CodeConflict, "job %s has ended (%s) and has no VM to preempt: resubmit it first", id, j.State)
	}
	if j.State == job.Stopping || a == nil || a.Gone || a.Doomed || a.Kept {
		return api.Job{}, api.Errorf(http.StatusConflict, api.CodeConflict, "job %s is %s and has no VM to preempt: try again when it is running", id, j.State)
	}
	cl, err := c.cloudOf(a.Placement.Cloud)
	if err != nil {
		return api.Job{}, err
	}
	notice := 10 * time.Second
	if r.Notice != nil {
		notice = r.Notice.D()
	}
	if notice < 0 {
		return api.Job{}, api.Errorf(http.StatusBadRequest, api.CodeInvalid, "a notice cannot be negative: give for example 10s, or 0s for none")
	}
	switch err := cl.Drill(ctx, a.VMID, notice); {
	case errors.Is(err, cloud.ErrUnsupported):
		return api.Job{}, api.Errorf(http.StatusBadRequest, api.CodeInvalid, "%v", err)
	case errors.Is(err, cloud.ErrNotFound):
		return api.Job{}, api.Errorf(http.StatusConflict, api.CodeConflict, "VM %s of job %s is gone already", a.VMID, id)
	case err != nil:
		return api.Job{}, fmt.Errorf("preempt %s: %w", a.VMID, err)
	}
	return c.view(j), nil
}

// Checkpoint asks for a commit, or looks whether the one asked for is durable.
func (c *ControlPlane) Checkpoint(ctx context.Context, id string, r api.CheckpointRequest) (api.CheckpointReply, error) {
	var j *job.Job
	var err error
	if r.Request != 0 {
		j, err = c.Store.Get(ctx, id)
		if err == nil && (r.Request < 0 || r.Request > j.SaveRequest) {
			return api.CheckpointReply{}, api.Errorf(http.StatusBadRequest, api.CodeInvalid,
				"nobody asked job %s for a commit by the number %d: leave the number out to ask for one", id, r.Request)
		}
	} else {
		j, err = c.change(ctx, id, always(job.SaveRequested{}))
		if j != nil {
			r.Request = j.SaveRequest
		}
	}
	if err != nil {
		return api.CheckpointReply{}, userProblem(id, err)
	}
	reply := api.CheckpointReply{Request: r.Request, Done: j.SaveDone >= r.Request}
	if reply.Done {
		reply.Commit = j.SaveDoneAs
	} else if j.State.Terminal() || j.State == job.Stopping {
		return reply, api.Errorf(http.StatusConflict, api.CodeConflict, "job %s is %s: the commit that was asked for will not be made", id, j.State)
	}
	return reply, nil
}

// Checkpoints lists the job's commits.
func (c *ControlPlane) Checkpoints(ctx context.Context, id string) (api.CommitPage, error) {
	page := api.CommitPage{Commits: []api.Commit{}}
	j, err := c.readable(ctx, id)
	if err != nil {
		return page, err
	}
	admin, err := c.bucketsOf(j.Bucket.Cloud)
	if err != nil {
		return page, err
	}
	objects, err := admin.Open(ctx, j.Bucket.Name)
	if err == nil {
		page.Commits, err = c.Commits(ctx, objects)
	}
	return page, bucketProblem(j, err)
}

// bucketProblem words what a user can know of a bucket that cannot be read.
func bucketProblem(j *job.Job, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bucket.ErrNoBucket), isNotOwned(err):
		return api.Errorf(http.StatusConflict, api.CodeConflict,
			"the bucket %s of job %s is gone, somebody deleted it: resubmit with --fresh to start from the beginning", j.Bucket.Name, j.ID)
	}
	return fmt.Errorf("read the bucket of job %s: %w", j.ID, err)
}

// readable is a job whose bucket can be read.
func (c *ControlPlane) readable(ctx context.Context, id string) (*job.Job, error) {
	j, err := c.Store.Get(ctx, id)
	if err != nil {
		return nil, userProblem(id, err)
	}
	switch {
	case j.Bucket == nil:
		return nil, api.Errorf(http.StatusConflict, api.CodeConflict, "job %s has no checkpoints: it was not submitted with --spot", id)
	case j.Bucket.State == job.BucketIntended:
		return nil, api.Errorf(http.StatusConflict, api.CodeConflict, "job %s has no checkpoints yet: try again when it is running", id)
	case j.Bucket.State != job.BucketCreated:
		return nil, api.Errorf(http.StatusConflict, api.CodeConflict,
			"the bucket of job %s is %s: submit with --persist-bucket to keep checkpoints after success", id, j.Bucket.State)
	}
	return j, nil
}

// CheckpointAccess hands out credentials to read the job's bucket.
func (c *ControlPlane) CheckpointAccess(ctx context.Context, id string) (bucket.Access, error) {
	j, err := c.readable(ctx, id)
	if err != nil {
		return bucket.Access{}, err
	}
	admin, err := c.bucketsOf(j.Bucket.Cloud)
	if err != nil {
		return bucket.Access{}, err
	}
	access, err := admin.Access(ctx, j.Bucket.Name)
	return access, bucketProblem(j, err)
}
