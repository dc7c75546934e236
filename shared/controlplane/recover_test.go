package controlplane

import (
	"context"
	"errors"
	"strings"
	"testing"

	"anycloud/shared/bucket"
	"anycloud/shared/bucket/membucket"
	"anycloud/shared/cloud"
	"anycloud/shared/cloud/fakecloud"
	"anycloud/shared/job"
)

// TestBucketCreation: no VM before the bucket; unanswered it is repeated, and
// what a person must mend is shown, not fatal.
func TestBucketCreation(t *testing.T) {
	ctx := t.Context()
	for name, at := range map[string]membucket.When{"refused": membucket.Before, "unanswered": membucket.After} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t)
			id := s.submit(job.Spec{Spot: true})
			s.buckets.Hook = func(_ context.Context, c membucket.Call) error {
				if c.Op == membucket.OpCreate && c.When == at {
					return errors.New("time-out")
				}
				return nil
			}
			if err := s.Recover(ctx, id); err == nil {
				t.Error("no error, so no other delivery")
			}
			if s.state(id, job.Pending); s.cloud.Calls(fakecloud.OpLaunch) > 0 {
				t.Error("launched without its bucket")
			}
			s.buckets.Hook = nil
			s.must(s.Recover(ctx, id))
			s.state(id, job.Starting)
		})
	}
	for name, class := range map[string]error{"denied": bucket.ErrDenied, "full": bucket.ErrFull} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t)
			id := s.submit(job.Spec{Spot: true})
			s.buckets.Hook = func(context.Context, membucket.Call) error { return class }
			s.must(s.Recover(ctx, id))
			v, err := s.Get(ctx, id)
			s.must(err)
			if v.State != job.Pending || v.WaitingFor == nil || !strings.Contains(v.WaitReason, class.Error()) {
				t.Errorf("%s waits for %v: %q", v.State, v.WaitingFor, v.WaitReason)
			}
			s.buckets.Hook = nil
			s.tick()
			if s.state(id, job.Starting); s.job(id).WaitingFor != "" {
				t.Error("it still waits")
			}
		})
	}
	t.Run("offers denied", func(t *testing.T) {
		s := newStack(t)
		id := s.submit(job.Spec{})
		s.Clouds["fake"] = s.cloud.WithHook(func(_ context.Context, c fakecloud.Call) error {
			if c.Op == fakecloud.OpOffers {
				return cloud.ErrDenied
			}
			return nil
		})
		s.must(s.Recover(ctx, id))
		if v, err := s.Get(ctx, id); err != nil || !strings.Contains(v.WaitReason, "permission denied") {
			t.Errorf("waits for %q, %v", v.WaitReason, err)
		}
		s.Clouds["fake"] = s.cloud
		s.tick()
		s.state(id, job.Starting)
	})
}
