package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/cloud"
	"anycloud/shared/job"
	"anycloud/shared/store"
)

// keyFor is how long an Idempotency-Key is remembered.
const keyFor = 7 * 24 * time.Hour

// claimOfKey is what a key stands for, written before the job: a repeat after a
// crash creates the same job under the same id.
type claimOfKey struct {
	JobID   string `json:"job_id"`
	Request string `json:"request"` // hash of what was asked for
}

// Submit accepts a job.
func (c *ControlPlane) Submit(ctx context.Context, r api.SubmitRequest, key string) (api.SubmitReply, error) {
	spec := withDefaults(r.Spec)
	if err := c.validate(spec); err != nil {
		return api.SubmitReply{}, err
	}
	id := c.Prefix + "-" + slug(spec) + "-" + c.NewID()
	probe := &job.Job{ID: id, Spec: spec}
	offers, err := c.candidates(ctx, probe)
	if errors.Is(err, cloud.ErrInvalid) {
		return api.SubmitReply{}, api.Errorf(http.StatusUnprocessableEntity, api.CodeInvalid, "no machine can hold this job: %v", err)
	}
	if err != nil && r.DryRun {
		return api.SubmitReply{}, fmt.Errorf("find placements: %w", err)
	}
	resolveGPUs(&spec, offers)
	// Other errors of a look at the offers do not refuse a job: it waits.
	if r.DryRun {
		return api.SubmitReply{Job: c.view(job.New(id, c.Stack, spec, c.bucketFor(id, spec), c.Now())), Offers: offers}, nil
	}
	if key != "" {
		if id, err = c.claimKey(ctx, key, id, r.Spec); err != nil {
			return api.SubmitReply{}, err
		}
	}
	j := job.New(id, c.Stack, spec, c.bucketFor(id, spec), c.Now())
	err = c.Store.Create(ctx, j)
	if errors.Is(err, store.ErrExists) && key != "" {
		first, err := c.Store.Get(ctx, id)
		if err != nil {
			return api.SubmitReply{}, fmt.Errorf("read job %s: %w", id, err)
		}
		return api.SubmitReply{Job: c.view(first), Repeat: true}, nil
	}
	if err != nil {
		return api.SubmitReply{}, fmt.Errorf("create job %s: %w", id, err)
	}
	c.publish(ctx, j)
	return api.SubmitReply{Job: c.view(j)}, nil
}

// resolveGPUs makes a number of "all": that of the best machine now, so that
// every later attempt finds as many. Without offers the first launch decides.
func resolveGPUs(s *job.Spec, offers []job.Placement) {
	if name, all := strings.CutSuffix(s.GPU, ":all"); all && len(offers) > 0 && offers[0].GPUs > 0 {
		s.GPU = fmt.Sprintf("%s:%d", name, offers[0].GPUs)
	}
}

// claimKey binds the key to an id, once, and returns the id that it is bound to.
func (c *ControlPlane) claimKey(ctx context.Context, key, id string, spec job.Spec) (string, error) {
	if len(key) > 256 {
		return "", api.Errorf(http.StatusBadRequest, api.CodeInvalid, "the idempotency key has %d characters: at most 256 are allowed", len(key))
	}
	asked, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(asked)
	want := claimOfKey{JobID: id, Request: hex.EncodeToString(sum[:])}
	body, err := json.Marshal(want)
	if err != nil {
		return "", err
	}
	ksum := sha256.Sum256([]byte(key))
	doc := "idempotency/" + hex.EncodeToString(ksum[:])
	for range tries {
		data, version, err := c.Store.GetDoc(ctx, doc)
		if err == nil {
			var got claimOfKey
			if err := json.Unmarshal(data, &got); err != nil {
				return "", fmt.Errorf("read idempotency key: %w", err)
			}
			if got.Request != want.Request {
				return "", api.Errorf(http.StatusUnprocessableEntity, api.CodeConflict, "the idempotency key was used for another job (%s): use a new key", got.JobID)
			}
			return got.JobID, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return "", fmt.Errorf("read idempotency key: %w", err)
		}
		err = c.Store.PutDoc(ctx, doc, body, version, c.Now().Add(keyFor))
		if err == nil {
			return id, nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return "", fmt.Errorf("write idempotency key: %w", err)
		}
	}
	return "", fmt.Errorf("idempotency key: %w", store.ErrConflict)
}

func (c *ControlPlane) bucketFor(id string, s job.Spec) *job.Bucket {
	if !s.Spot {
		return nil
	}
	b := &job.Bucket{Name: id, Cloud: c.DefaultCloud, State: job.BucketIntended}
	if len(s.Clouds) > 0 {
		b.Cloud = s.Clouds[0]
	}
	if len(s.Region) > 0 {
		b.Region = s.Region[0]
	}
	return b
}

// slug is the readable middle of a job's id: the name, or the image's last part.
func slug(s job.Spec) string {
	from := s.Name
	if from == "" {
		from = s.Image
		if from == "exec:" && len(s.Command) > 0 {
			from = s.Command[0]
		}
		from = from[strings.LastIndexByte(from, '/')+1:]
		from, _, _ = strings.Cut(from, ":")
	}
	var b strings.Builder
	for _, r := range strings.ToLower(from) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	out := b.String()
	// <prefix>-<slug>-<10>: at most 50 characters.
	if len(out) > 28 {
		out = out[:28]
	}
	if out = strings.Trim(out, "-"); out == "" {
		return "job"
	}
	return out
}
