package controlplane

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket/membucket"
	"anycloud/shared/cloud"
	"anycloud/shared/cloud/fakecloud"
	"anycloud/shared/job"
	"anycloud/shared/store"
	"anycloud/shared/store/memstore"
)

// TestDoctor: what has no record is reported, and goes only when it is named.
func TestDoctor(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true, Persist: true})
	vm, err := s.cloud.Launch(ctx, cloud.LaunchRequest{Token: "x", Job: "ac-lost-1", Attempt: 1, Launch: 1, Candidates: []job.Placement{s.job(id).Attempts[0].Placement}})
	s.must(err)
	s.must(s.buckets.Create(ctx, "ac-lost-1"))
	s.DeadLetters = nil
	find := func(r api.DoctorReport, id string) *api.DoctorCheck {
		for i := range r.Checks {
			if r.Checks[i].ID == id {
				return &r.Checks[i]
			}
		}
		return nil
	}
	s.tick() // leaves both alone
	r, err := s.Doctor(ctx, nil)
	s.must(err)
	for _, want := range []string{"vm-" + vm.ID, "bucket-ac-lost-1"} {
		if k := find(r, want); k == nil || !k.Fixable || !strings.Contains(k.Do, "--fix") {
			t.Errorf("%s: %+v in %+v", want, k, r.Checks)
		}
	}
	// What a record names is never mended away, even if it is asked for.
	own := s.vm(id)
	_, err = s.Doctor(ctx, []string{"vm-" + own, "bucket-" + id, "vm-" + vm.ID, "bucket-ac-lost-1"})
	s.must(err)
	if ok, _ := s.buckets.Exists(ctx, id); !ok || !s.alive(own) {
		t.Error("doctor took what a job owns")
	}
	if ok, _ := s.buckets.Exists(ctx, "ac-lost-1"); ok || s.alive(vm.ID) {
		t.Error("what had no record is still there")
	}
	s.end(id, 0)
	r, err = s.Doctor(ctx, nil)
	s.must(err)
	if k := find(r, "kept-"+own+"-"+id); k == nil || k.Level != "warning" || !strings.Contains(k.Do, "anycloud cancel "+id) {
		t.Errorf("the kept VM: %+v", r.Checks)
	}
	_, err = s.Cancel(ctx, id, 0, api.CancelRequest{})
	s.must(err)
	s.tick()
	s.tick()
	if s.alive(own) {
		t.Error("the kept VM was not released")
	}
	s.state(id, job.Succeeded)
}

func check(r api.DoctorReport, id string) *api.DoctorCheck {
	for i := range r.Checks {
		if r.Checks[i].ID == id {
			return &r.Checks[i]
		}
	}
	return nil
}

// TestDoctorSparesWhatItCannotRead: the VM and the bucket of a job of a newer
// version are no orphans, and a table that does not answer proves nothing.
func TestDoctorSparesWhatItCannotRead(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	vm := s.vm(id)
	lost := s.launched("ac-lost-1", 1, 1)
	newer := s.job(id)
	newer.Format++
	s.store.PutRaw(newer)
	r, err := s.Doctor(ctx, []string{"vm-" + vm, "bucket-" + id})
	s.must(err)
	if check(r, "vm-"+vm) != nil || check(r, "bucket-"+id) != nil || check(r, "vm-"+lost) == nil {
		t.Errorf("%+v", r.Checks)
	}
	s.store.Hook = func(_ context.Context, c memstore.Call) error {
		if c.Op == memstore.OpGet {
			return errors.New("time-out")
		}
		return nil
	}
	_, err = s.Doctor(ctx, []string{"vm-" + lost})
	s.must(err)
	s.store.Hook = nil
	if ok, _ := s.buckets.Exists(ctx, id); !ok || !s.alive(vm) || !s.alive(lost) {
		t.Errorf("taken: bucket %v, VM %v, the other VM %v", !ok, !s.alive(vm), !s.alive(lost))
	}
	// One that carries no job's tag at all has no row to look for.
	untagged := s.launched("", 0, 0)
	r, err = s.Doctor(ctx, []string{"vm-" + untagged})
	s.must(err)
	if k := check(r, "vm-"+untagged); k == nil || k.Level != "ok" || s.alive(untagged) {
		t.Errorf("%+v", k)
	}
}

// TestDoctorGoesOn: what does not answer is a finding, and the rest is looked at.
func TestDoctorGoesOn(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.submit(job.Spec{})
	s.cloud.Set(func(k *fakecloud.Knobs) { k.Quota = 1 })
	s.launched("ac-lost-1", 1, 1)
	s.must(s.Recover(ctx, id))
	s.must(s.buckets.Create(ctx, "ac-lost-1"))
	broken := errors.New("not today")
	s.Clouds["fake"] = s.cloud.WithHook(func(context.Context, fakecloud.Call) error { return broken })
	s.DeadLetters = func(context.Context) ([]string, error) { return nil, broken }
	s.buckets.Hook = func(_ context.Context, c membucket.Call) error {
		if c.Op == membucket.OpDispose {
			return broken
		}
		return nil
	}
	r, err := s.Doctor(ctx, []string{"bucket-ac-lost-1"})
	s.must(err)
	for want, words := range map[string]string{
		"table": "1 jobs", "cloud-fake": "not today", "dead-letters": "not today", "waiting-" + id: "waits for quota",
	} {
		if k := check(r, want); k == nil || !strings.Contains(k.What, words) {
			t.Errorf("%s: %+v", want, k)
		}
	}
	if k := check(r, "bucket-ac-lost-1"); k == nil || !k.Fixable || !strings.Contains(k.Do, "failed: not today") {
		t.Errorf("a mending that failed: %+v", k)
	}
	s.buckets.Hook = func(context.Context, membucket.Call) error { return broken }
	s.DeadLetters = func(context.Context) ([]string, error) { return []string{"job.retry of ac-x-1"}, nil }
	r, err = s.Doctor(ctx, nil)
	s.must(err)
	if k := check(r, "buckets-fake"); k == nil || k.Level != "error" || k.Do == "" {
		t.Errorf("buckets: %+v", k)
	}
	if k := check(r, "dead-letter-1"); k == nil || !strings.Contains(k.What, "job.retry of ac-x-1") {
		t.Errorf("dead letters: %+v", k)
	}
	s.store.Hook = func(context.Context, memstore.Call) error { return store.ErrCorrupt }
	if _, err := s.Doctor(ctx, nil); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a damaged table: %v", err)
	}
}

// TestDoctorSpeaksOfSavesAndSilence of a job that runs.
func TestDoctorSpeaksOfSavesAndSilence(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	_, err := s.report(id, api.Report{Checkpoint: &job.Checkpoint{Latest: 1, CommittedAt: s.now, Health: "failing", Problem: "access denied"}})
	s.must(err)
	r, err := s.Doctor(ctx, nil)
	s.must(err)
	if k := check(r, "checkpoint-"+id); k == nil || !strings.HasSuffix(k.What, "are failing: access denied") {
		t.Errorf("%+v", k)
	}
	s.pass(time.Second)
	_, err = s.report(id, api.Report{Checkpoint: &job.Checkpoint{Latest: 2, CommittedAt: s.now, Health: "ok"}})
	s.must(err)
	if r, err = s.Doctor(ctx, nil); err != nil || check(r, "checkpoint-"+id) != nil {
		t.Errorf("healthy, and reported: %+v, %v", r, err)
	}
	for range 7 {
		s.tick()
	}
	r, err = s.Doctor(ctx, nil)
	s.must(err)
	if k := check(r, "silent-"+id); k == nil || !strings.Contains(k.Do, "--unresponsive-after") {
		t.Errorf("%+v", k)
	}
	if k := check(r, "checkpoint-"+id); k == nil || !strings.HasSuffix(k.What, "are late") {
		t.Errorf("%+v", k)
	}
}
