package controlplane

import (
	"strings"
	"testing"

	"anycloud/shared/api"
	"anycloud/shared/cloud"
	"anycloud/shared/job"
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
