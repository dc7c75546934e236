package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"anycloud/shared/api"
	"anycloud/shared/cloud"
	"anycloud/shared/job"
)

// Resubmit starts an ended job again from its bucket.
func (c *ControlPlane) Resubmit(ctx context.Context, id string, ifMatch int64, r api.ResubmitRequest) (api.Job, error) {
	j, err := c.Store.Get(ctx, id)
	if err != nil {
		return api.Job{}, userProblem(id, err)
	}
	spec, err := respec(j.Spec, r)
	if err != nil {
		return api.Job{}, err
	}
	spec = withDefaults(spec)
	if err := c.validate(spec); err != nil {
		return api.Job{}, err
	}
	var b *job.Bucket
	if j.Bucket == nil && spec.Spot {
		b = c.bucketFor(id, spec)
	}
	if j.State.Terminal() {
		if err := c.resumable(ctx, j, &spec, r.Fresh); err != nil {
			return api.Job{}, err
		}
	}
	got, err := c.guarded(ctx, id, ifMatch, func(now *job.Job) ([]job.Event, error) {
		if ifMatch == 0 && now.Run != j.Run {
			return nil, api.Errorf(http.StatusConflict, api.CodeConflict, "job %s was resubmitted by somebody else just now: anycloud status %s shows that run", id, id)
		}
		return []job.Event{job.Resubmitted{Spec: spec, Fresh: r.Fresh, Bucket: b}}, nil
	})
	if err != nil {
		return api.Job{}, err
	}
	return c.view(got), nil
}

// resumable refuses what the next run could only fail with, and resolves what
// is resolved at submit.
func (c *ControlPlane) resumable(ctx context.Context, j *job.Job, spec *job.Spec, fresh bool) error {
	conflict := func(format string, args ...any) error {
		return api.Errorf(http.StatusConflict, api.CodeConflict, format, args...)
	}
	if b := j.Bucket; b != nil {
		switch {
		case !spec.Spot:
			// Its agent would know nothing of the bucket, and start from the beginning.
			return conflict("job %s goes on from its checkpoints, which only spot jobs have: resubmit it with spot, or submit it anew", j.ID)
		case len(spec.Clouds) > 0 && spec.Clouds[0] != b.Cloud:
			return conflict("job %s is bound to cloud %s, where its checkpoints are: submit it anew to run in %s", j.ID, b.Cloud, spec.Clouds[0])
		case j.Checkpoint != nil && !fresh && b.Region != "" && len(spec.Region) > 0 && !slices.Contains(spec.Region, b.Region):
			return conflict("job %s is bound to region %s, where its checkpoints are: name that region too, or resubmit with --fresh", j.ID, b.Region)
		}
		if err := c.bucketThere(ctx, j, fresh); err != nil {
			return err
		}
	}
	next := j.Clone()
	next.Spec = *spec
	if fresh {
		next.Checkpoint = nil
	}
	offers, err := c.candidates(ctx, next)
	if errors.Is(err, cloud.ErrInvalid) {
		return noMachine(*spec, err)
	}
	// Other errors of a look at the offers refuse nothing: the job waits.
	*spec = spec.CountGPUs(offers)
	return nil
}

// bucketThere refuses to go on from a bucket that somebody deleted by hand. A
// fresh run needs nothing of it, recover makes it anew; but no run touches one
// that is somebody else's.
func (c *ControlPlane) bucketThere(ctx context.Context, j *job.Job, fresh bool) error {
	if j.Bucket.State != job.BucketCreated {
		return nil
	}
	admin, err := c.bucketsOf(j.Bucket.Cloud)
	if err != nil {
		return err
	}
	ok, err := admin.Exists(ctx, j.Bucket.Name)
	switch {
	case isNotOwned(err):
		return api.Errorf(http.StatusConflict, api.CodeConflict,
			"the bucket of job %s is gone, and somebody else's has its name: submit the job anew", j.ID)
	case err != nil:
		return fmt.Errorf("look for the bucket of job %s: %w", j.ID, err)
	case !ok && !fresh:
		return api.Errorf(http.StatusConflict, api.CodeConflict,
			"the bucket of job %s is gone, there is nothing to resume from: resubmit with --fresh to start from the beginning", j.ID)
	}
	return nil
}

// respec puts the fields given anew over the old ones.
func respec(old job.Spec, r api.ResubmitRequest) (job.Spec, error) {
	for _, name := range r.Set {
		if !slices.Contains(specFields, name) {
			return job.Spec{}, api.Errorf(http.StatusBadRequest, api.CodeInvalid, "set names %q, which is no field of a job: the fields are %s", name, strings.Join(specFields, ", "))
		}
	}
	if r.Spec == nil {
		if len(r.Set) > 0 {
			return job.Spec{}, api.Errorf(http.StatusBadRequest, api.CodeInvalid, "set names fields, and no spec holds their values: send both")
		}
		return old.Clone(), nil
	}
	fields := func(s job.Spec) (map[string]json.RawMessage, error) {
		b, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		m := map[string]json.RawMessage{}
		return m, json.Unmarshal(b, &m)
	}
	base, err := fields(old)
	if err != nil {
		return job.Spec{}, err
	}
	given, err := fields(*r.Spec)
	if err != nil {
		return job.Spec{}, err
	}
	// Each of them chooses the machine: the one given anew replaces the other.
	for name, other := range map[string]string{"gpu": "vm_type", "vm_type": "gpu"} {
		if slices.Contains(r.Set, name) && given[name] != nil && !slices.Contains(r.Set, other) {
			delete(base, other)
		}
	}
	for _, name := range r.Set {
		if v, ok := given[name]; ok {
			base[name] = v
		} else {
			delete(base, name) // given as its zero value
		}
	}
	b, err := json.Marshal(base)
	if err != nil {
		return job.Spec{}, err
	}
	var s job.Spec
	if err := json.Unmarshal(b, &s); err != nil {
		return job.Spec{}, err
	}
	return s, nil
}

// specFields are the JSON names of a job's fields.
var specFields = func() (names []string) {
	for f := range reflect.TypeFor[job.Spec]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}()
