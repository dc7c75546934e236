package controlplane

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/cloud/fakecloud"
	"anycloud/shared/job"
	"anycloud/shared/store"
	"anycloud/shared/store/memstore"
)

func TestIDsAreLabels(t *testing.T) {
	s := newStack(t)
	label := regexp.MustCompile(`^ac-[a-z0-9]([a-z0-9-]*[a-z0-9])?-id[0-9]{8}$`)
	for _, spec := range []job.Spec{
		{Image: "ghcr.io/Acme-Corp/My_Training:latest"}, {Image: "i", Name: "Größe & Co. " + strings.Repeat("very ", 16)}, {Image: "i", Name: "日本"}, {Image: "i", Name: strings.Repeat("n", 40)},
		{Image: "exec:", Command: []string{"/opt/bin/train.sh"}}, {Image: "i", Name: "---"},
	} {
		if spec.Image == "ghcr.io/Acme-Corp/My_Training:latest" {
			spec.Image = strings.ToLower(spec.Image)
		}
		if id := s.submit(spec); len(id) > 50 || !label.MatchString(id) {
			t.Errorf("%q %q: id %q", spec.Image, spec.Name, id)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	ask := api.SubmitRequest{Spec: job.Spec{Image: "acme/train", Spot: true}}
	first, err := s.Submit(ctx, ask, "key")
	s.must(err)
	again, err := s.Submit(ctx, ask, "key")
	s.must(err)
	if again.Job.ID != first.Job.ID || !again.Repeat || first.Repeat {
		t.Errorf("%+v then %+v", first, again)
	}
	other := ask
	other.Image = "acme/other"
	_, err = s.Submit(ctx, other, "key")
	refused(t, err, http.StatusUnprocessableEntity, "use a new key")
	_, err = s.Submit(ctx, ask, strings.Repeat("k", 300))
	refused(t, err, http.StatusBadRequest, "256")
	dry, err := s.Submit(ctx, api.SubmitRequest{Spec: ask.Spec, DryRun: true}, "")
	s.must(err)
	if len(dry.Offers) == 0 {
		t.Error("a dry run without offers")
	}
	if page, err := s.List(ctx, api.ListQuery{}); err != nil || len(page.Jobs) != 1 {
		t.Errorf("%d jobs, %v", len(page.Jobs), err)
	}
}

// TestForeignBucketIsNeverTouched: a bucket of the job's name that is not ours
// ends the job before any VM.
func TestForeignBucketIsNeverTouched(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.submit(job.Spec{Spot: true})
	other := s.buckets.As("somebody else")
	s.must(other.Create(ctx, id))
	o, err := other.Open(ctx, id)
	s.must(err)
	s.must(o.PutIfAbsent(ctx, "theirs", []byte("data")))
	s.must(s.Recover(ctx, id))
	s.must(s.Cleanup(ctx, id))
	j := s.job(id)
	if j.State != job.Failed || j.Outcome.Reason != job.ReasonLaunchRefused || !strings.Contains(j.Outcome.Message, "not ours") || len(j.Attempts) > 0 {
		t.Errorf("%s: %+v", j.State, j.Outcome)
	}
	s.pass(365 * 24 * time.Hour)
	s.tick()
	if page, _, err := o.List(ctx, "", "", 0); err != nil || len(page) != 1 {
		t.Errorf("their bucket: %v, %v", page, err)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	s := newStack(t)
	s.store.Hook = func(_ context.Context, c memstore.Call) error {
		if c.Op == memstore.OpCreate || c.Op == memstore.OpPut || c.Op == memstore.OpPutDoc {
			t.Errorf("wrote: %s %s", c.Op, c.Key)
		}
		return nil
	}
	r, err := s.Submit(t.Context(), api.SubmitRequest{Spec: job.Spec{Image: "i", Spot: true}, DryRun: true}, "key")
	s.must(err)
	if len(r.Offers) == 0 || !r.Offers[0].Spot || r.Offers[0].Price <= 0 || len(s.sent) > 0 || s.cloud.Calls(fakecloud.OpLaunch) > 0 {
		t.Errorf("%+v, sent %v", r.Offers, s.types())
	}
}

// TestSubmitWhenTheTableFails: refused leaves nothing; not answered, the same
// key finds or makes the one job.
func TestSubmitWhenTheTableFails(t *testing.T) {
	ctx := t.Context()
	ask := api.SubmitRequest{Spec: job.Spec{Image: "i"}}
	for name, at := range map[string]memstore.Call{
		"key refused":      {Op: memstore.OpPutDoc, When: memstore.Before},
		"key unanswered":   {Op: memstore.OpPutDoc, When: memstore.After},
		"job refused":      {Op: memstore.OpCreate, When: memstore.Before},
		"job unanswered":   {Op: memstore.OpCreate, When: memstore.After},
		"repeat not read":  {Op: memstore.OpGet, When: memstore.Before},
		"key not readable": {Op: memstore.OpGetDoc, When: memstore.Before},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStack(t)
			if at.Op == memstore.OpGet {
				_, err := s.Submit(ctx, ask, "key")
				s.must(err)
			}
			s.store.Hook = func(_ context.Context, c memstore.Call) error {
				if c.Op == at.Op && c.When == at.When && c.Key != poolsDoc {
					return store.ErrFull
				}
				return nil
			}
			_, err := s.Submit(ctx, ask, "key")
			if !errors.Is(err, store.ErrFull) {
				t.Fatalf("got %v", err)
			}
			s.store.Hook = nil
			first, err := s.Submit(ctx, ask, "key")
			s.must(err)
			again, err := s.Submit(ctx, ask, "key")
			s.must(err)
			if again.Job.ID != first.Job.ID || !again.Repeat {
				t.Errorf("%s then %s", first.Job.ID, again.Job.ID)
			}
			s.tick()
			page, err := s.List(ctx, api.ListQuery{All: true})
			s.must(err)
			if len(page.Jobs) != 1 || page.Jobs[0].Attempt != 1 || count(s.types(), "job.submitted") != 1 {
				t.Errorf("%d jobs, sent %v", len(page.Jobs), s.types())
			}
		})
	}
}

// TestOneKeyAtOnce: two callers with one key make one job; after its time a key
// is a new one.
func TestOneKeyAtOnce(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	ask := api.SubmitRequest{Spec: job.Spec{Image: "i"}}
	var rival api.SubmitReply
	s.store.Hook = func(_ context.Context, c memstore.Call) error {
		if c.Op == memstore.OpPutDoc && c.When == memstore.Before {
			s.store.Hook = nil
			var err error
			rival, err = s.Submit(ctx, ask, "key")
			s.must(err)
		}
		return nil
	}
	mine, err := s.Submit(ctx, ask, "key")
	s.must(err)
	if rival.Job.ID == "" || mine.Job.ID != rival.Job.ID || !mine.Repeat {
		t.Errorf("rival %s, mine %s", rival.Job.ID, mine.Job.ID)
	}
	s.pass(keepKey)
	later, err := s.Submit(ctx, ask, "key")
	s.must(err)
	if later.Repeat || later.Job.ID == mine.Job.ID {
		t.Errorf("%s after a week", later.Job.ID)
	}
}

// TestRepeatOutlivesItsDeadline: what would refuse a job now refuses no repeat of
// the submit that made it.
func TestRepeatOutlivesItsDeadline(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	ask := api.SubmitRequest{Spec: job.Spec{Image: "i", VMType: "fake.small", Deadline: s.now.Add(time.Hour)}}
	first, err := s.Submit(ctx, ask, "key")
	s.must(err)
	s.pass(2 * time.Hour)
	_, err = s.Submit(ctx, ask, "another key")
	refused(t, err, http.StatusBadRequest, "has passed: give a later one")
	s.Clouds["fake"] = fakecloud.New(fakecloud.Options{Now: s.Now, Stack: "st", Types: fakecloud.DefaultTypes[4:]})
	again, err := s.Submit(ctx, ask, "key")
	s.must(err)
	if again.Job.ID != first.Job.ID || !again.Repeat {
		t.Errorf("%+v", again)
	}
}

// TestAllGPUs is a number from submit on; where no offer is to be had then, from
// the first launch on.
func TestAllGPUs(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	now := func() time.Time { return s.now }
	s.cloud = fakecloud.New(fakecloud.Options{Now: now, Stack: "st", Types: fakecloud.DefaultTypes[4:]})
	s.Clouds["fake"] = s.cloud
	all := s.submit(job.Spec{GPU: "a100:all"})
	if got := s.job(all).Spec.GPU; got != "a100:8" {
		t.Errorf("resolved to %q", got)
	}
	s.must(s.Recover(ctx, all))
	if p := s.job(all).Attempts[0].Placement; p.GPUs != 8 {
		t.Errorf("placed on %+v", p)
	}
	s.Clouds["fake"] = s.cloud.WithHook(func(context.Context, fakecloud.Call) error { return errors.New("time-out") })
	late := s.submit(job.Spec{GPU: "a100:all"})
	if got := s.job(late).Spec.GPU; got != "a100:all" {
		t.Errorf("without offers: %q", got)
	}
	s.Clouds["fake"] = s.cloud
	s.must(s.Recover(ctx, late))
	if got := s.job(late).Spec.GPU; got != "a100:8" {
		t.Errorf("at the first launch: %q", got)
	}
	for gpu, want := range map[string]int{"a100:all": 0, "a100": 1, "a100:4": 4} {
		if m := machineOf(job.Spec{GPU: gpu}); m.GPU != "a100" || m.GPUs != want {
			t.Errorf("%s: %+v", gpu, m)
		}
	}
}
