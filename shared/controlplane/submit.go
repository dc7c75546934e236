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
	"anycloud/shared/catalog"
	"anycloud/shared/cloud"
	"anycloud/shared/job"
	"anycloud/shared/store"
)

// keepKey is how long an Idempotency-Key is remembered.
const keepKey = 7 * 24 * time.Hour

// claimOfKey is what a key stands for, written before the job: a repeat after a
// crash creates the same job under the same id.
type claimOfKey struct {
	JobID   string `json:"job_id"`
	Request string `json:"request"` // hash of what was asked for
	doc     string
}

// Submit accepts a job.
func (c *ControlPlane) Submit(ctx context.Context, r api.SubmitRequest, key string) (api.SubmitReply, error) {
	if key != "" && !r.DryRun {
		if j, err := c.repeated(ctx, key, r.Spec); err != nil {
			return api.SubmitReply{}, err
		} else if j != nil {
			return api.SubmitReply{Job: c.view(j), Repeat: true}, nil
		}
	}
	spec := withDefaults(r.Spec)
	if err := c.validate(spec); err != nil {
		return api.SubmitReply{}, err
	}
	id := c.Prefix + "-" + slug(spec) + "-" + c.NewID()
	probe := &job.Job{ID: id, Spec: spec}
	offers, err := c.candidates(ctx, probe)
	if errors.Is(err, cloud.ErrInvalid) {
		return api.SubmitReply{}, noMachine(spec, err)
	}
	if err != nil && r.DryRun {
		return api.SubmitReply{}, fmt.Errorf("find placements: %w", err)
	}
	// Other errors of a look at the offers do not refuse a job: it waits.
	spec = spec.CountGPUs(offers)
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

// noMachine is the refusal of a job that no machine can hold, with the GPU that a
// mistyped name most likely means.
func noMachine(s job.Spec, why error) error {
	text := "no machine can hold this job: " + why.Error()
	if name, _, err := catalog.ParseGPU(s.GPU); err == nil {
		if near := catalog.NearestGPU(name); near != "" && near != name {
			text += ": did you mean " + near + "?"
		}
	}
	return api.Errorf(http.StatusUnprocessableEntity, api.CodeInvalid, "%s", text)
}

// repeated finds the job that an earlier submit with this key made; nil: none
// yet. It comes before everything that could have changed since and refuse the
// repeat: a deadline, an offer.
func (c *ControlPlane) repeated(ctx context.Context, key string, asked job.Spec) (*job.Job, error) {
	want, err := keyFor(key, "", asked)
	if err != nil {
		return nil, err
	}
	id, _, err := c.readKey(ctx, want)
	if err != nil || id == "" {
		return nil, err
	}
	j, err := c.Store.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil // its submit went no further; this one goes on
	}
	if err != nil {
		return nil, fmt.Errorf("read job %s: %w", id, err)
	}
	return j, nil
}

// keyFor says what a key is to stand for.
func keyFor(key, id string, asked job.Spec) (claimOfKey, error) {
	if len(key) > 256 {
		return claimOfKey{}, api.Errorf(http.StatusBadRequest, api.CodeInvalid, "the idempotency key has %d characters: at most 256 are allowed", len(key))
	}
	b, err := json.Marshal(asked)
	if err != nil {
		return claimOfKey{}, err
	}
	request, name := sha256.Sum256(b), sha256.Sum256([]byte(key))
	return claimOfKey{JobID: id, Request: hex.EncodeToString(request[:]), doc: "idempotency/" + hex.EncodeToString(name[:])}, nil
}

// readKey returns the id that the key is bound to, "" if it is not.
func (c *ControlPlane) readKey(ctx context.Context, want claimOfKey) (id string, version int64, err error) {
	data, version, err := c.Store.GetDoc(ctx, want.doc)
	if errors.Is(err, store.ErrNotFound) {
		return "", version, nil
	}
	var got claimOfKey
	if err == nil {
		err = json.Unmarshal(data, &got)
	}
	if err != nil {
		return "", 0, fmt.Errorf("read idempotency key: %w", err)
	}
	if got.Request != want.Request {
		return "", 0, api.Errorf(http.StatusUnprocessableEntity, api.CodeConflict, "the idempotency key was used for another job (%s): use a new key", got.JobID)
	}
	return got.JobID, version, nil
}

// claimKey binds the key to an id, once, and returns the id that it is bound to.
func (c *ControlPlane) claimKey(ctx context.Context, key, id string, asked job.Spec) (string, error) {
	want, err := keyFor(key, id, asked)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(want)
	if err != nil {
		return "", err
	}
	for range tries {
		bound, version, err := c.readKey(ctx, want)
		if err != nil || bound != "" {
			return bound, err
		}
		err = c.Store.PutDoc(ctx, want.doc, body, version, c.Now().Add(keepKey))
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
