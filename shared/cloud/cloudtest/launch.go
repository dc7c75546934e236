package cloudtest

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"anycloud/shared/cloud"
	"anycloud/shared/job"
)

// classes are the clear refusals: no VM came of the call.
var classes = []error{cloud.ErrCapacity, cloud.ErrQuota, cloud.ErrThrottled, cloud.ErrDenied, cloud.ErrInvalid}

func testLaunch(t *testing.T, f *Fixture) {
	r := f.request(t, 1)
	vm, err := f.Cloud.Launch(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if vm.ID == "" || vm.LaunchedAt.IsZero() || !vm.EndedAt.IsZero() || vm.State == cloud.Terminated {
		t.Errorf("launched %+v", vm)
	}
	if !slices.Contains(r.Candidates, vm.Placement) {
		t.Errorf("placed at %+v, which is no candidate", vm.Placement)
	}
	for what, got := range map[string]cloud.VM{"launch": vm, "list": f.listed(t, vm.ID), "describe": f.await(t, vm.ID, cloud.Running)} {
		if tags(got) != "job-1/1/11" {
			t.Errorf("%s shows tags %s", what, tags(got))
		}
		if got.Placement != vm.Placement || !got.LaunchedAt.Equal(vm.LaunchedAt) {
			t.Errorf("%s shows %+v, launch answered %+v", what, got, vm)
		}
	}
}

func testLaunchTwice(t *testing.T, f *Fixture) {
	a, b := f.launch(t, 1), f.launch(t, 1)
	if a.ID != b.ID {
		t.Errorf("one token made %s and %s", a.ID, b.ID)
	}
	if c := f.launch(t, 2); c.ID == a.ID {
		t.Errorf("two tokens made one VM")
	}
	f.listed(t, a.ID)
	if vms, _ := f.list(t, f.Cloud); len(vms) > 2 {
		t.Errorf("%d VMs are listed", len(vms))
	}
}

func testLaunchAtOnce(t *testing.T, f *Fixture) {
	r := f.request(t, 1)
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			vm, err := f.Cloud.Launch(t.Context(), r)
			if err != nil {
				t.Errorf("launch: %v", err)
			}
			ids[i] = vm.ID
		})
	}
	wg.Wait()
	if got := slices.Compact(ids); len(got) != 1 {
		t.Fatalf("one token made %v", got)
	}
	f.await(t, ids[0], cloud.Running)
	if vms, _ := f.list(t, f.Cloud); len(vms) != 1 {
		t.Errorf("%d VMs are listed", len(vms))
	}
}

func testLaunchUnanswered(t *testing.T, f *Fixture) {
	r := f.request(t, 1)
	f.Unanswer(t, true)
	vm, err := f.Cloud.Launch(t.Context(), r)
	f.Unanswer(t, false)
	if err == nil {
		t.Fatalf("the launch was answered with %+v", vm)
	}
	for _, class := range classes {
		if errors.Is(err, class) {
			t.Fatalf("%v says that no VM was made", err)
		}
	}
	again, err := f.Cloud.Launch(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	f.await(t, again.ID, cloud.Running)
	if vms, _ := f.list(t, f.Cloud); len(vms) != 1 || tags(vms[0]) != "job-1/1/11" {
		t.Errorf("listed: %+v", vms)
	}
}

func testLaunchAfterEnd(t *testing.T, f *Fixture) {
	vm := f.running(t, 1)
	if err := f.Cloud.Terminate(t.Context(), vm.ID); err != nil {
		t.Fatal(err)
	}
	f.await(t, vm.ID, cloud.Terminated)
	if again := f.launch(t, 1); again.ID != vm.ID || again.State != cloud.Terminated {
		t.Errorf("the token of the ended %s gave %+v", vm.ID, again)
	}
}

// refused checks a refusal and that it left nothing.
func (f *Fixture) refused(t *testing.T, r cloud.LaunchRequest, class error, pools []job.Placement) {
	t.Helper()
	before, _ := f.list(t, f.Cloud)
	_, err := f.Cloud.Launch(t.Context(), r)
	wantErr(t, "launch", err, class)
	var ref *cloud.Refusal
	if len(pools) > 0 {
		if !errors.As(err, &ref) || ref.Message == "" {
			t.Fatalf("%v is no refusal with a message", err)
		}
		if !slices.Equal(ref.Pools, pools) {
			t.Errorf("the refusal names %v, want %v", ref.Pools, pools)
		}
	}
	f.Wait()
	if after, _ := f.list(t, f.Cloud); len(after) != len(before) {
		t.Errorf("a refused launch left %+v", after)
	}
}

func testLaunchFull(t *testing.T, f *Fixture) {
	r := f.request(t, 1)
	var zones []string
	for _, p := range r.Candidates {
		zones = append(zones, p.Zone)
	}
	f.Full(t, zones...)
	f.refused(t, r, cloud.ErrCapacity, r.Candidates)
	f.Full(t)
	f.launch(t, 1) // afresh, with the same token
}

func testFullThenRoom(t *testing.T, f *Fixture) {
	r := f.request(t, 1)
	first := r.Candidates[0].Zone
	if !slices.ContainsFunc(r.Candidates, func(p job.Placement) bool { return p.Zone != first }) {
		t.Fatalf("the driver offers one zone only: %v", r.Candidates)
	}
	f.Full(t, first)
	vm, err := f.Cloud.Launch(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if vm.Placement.Zone == first {
		t.Errorf("launched in %s, which has no room", first)
	}
	f.Full(t)
	if vm := f.launch(t, 2); vm.Placement != r.Candidates[0] {
		t.Errorf("launched at %+v, the first candidate is %+v", vm.Placement, r.Candidates[0])
	}
}

func testLaunchQuota(t *testing.T, f *Fixture) {
	vm := f.running(t, 1)
	f.Quota(t, 1)
	f.refused(t, f.request(t, 2), cloud.ErrQuota, f.offers(t))
	if again := f.launch(t, 1); again.ID != vm.ID {
		t.Errorf("a repeated launch under the quota made %s", again.ID)
	}
	if err := f.Cloud.Terminate(t.Context(), vm.ID); err != nil {
		t.Fatal(err)
	}
	f.await(t, vm.ID, cloud.Terminated)
	f.launch(t, 2)
}

func testLaunchThrottled(t *testing.T, f *Fixture) {
	r := f.request(t, 1)
	f.Throttle(t, true)
	_, err := f.Cloud.Launch(t.Context(), r)
	wantErr(t, "launch", err, cloud.ErrThrottled)
	_, _, err = f.Cloud.List(t.Context(), "")
	wantErr(t, "list", err, cloud.ErrThrottled)
	f.Throttle(t, false)
	if vms, _ := f.list(t, f.Cloud); len(vms) != 0 {
		t.Errorf("a throttled launch left %+v", vms)
	}
	f.launch(t, 1)
}

func testLaunchInvalid(t *testing.T, f *Fixture) {
	r := f.request(t, 1)
	for name, spoil := range map[string]func(*cloud.LaunchRequest){
		"no token":      func(r *cloud.LaunchRequest) { r.Token = "" },
		"no candidates": func(r *cloud.LaunchRequest) { r.Candidates = nil },
		"type":          func(r *cloud.LaunchRequest) { r.Candidates[0].Type = "none.such" },
		"zone":          func(r *cloud.LaunchRequest) { r.Candidates[0].Zone = "nowhere-1a" },
		"cloud":         func(r *cloud.LaunchRequest) { r.Candidates[0].Cloud = "cumulus" },
	} {
		t.Run(name, func(t *testing.T) {
			bad := r
			bad.Candidates = slices.Clone(r.Candidates[:1])
			spoil(&bad)
			f.refused(t, bad, cloud.ErrInvalid, nil)
		})
	}
}

func testSpotAndOnDemand(t *testing.T, f *Fixture) {
	ps, err := f.Cloud.Offers(t.Context(), cloud.Needs{Machine: f.Machine})
	if err != nil {
		t.Fatal(err)
	}
	r := f.request(t, 1)
	r.Candidates = ps
	vm, err := f.Cloud.Launch(t.Context(), r)
	if err != nil || vm.Placement.Spot {
		t.Errorf("on-demand launch: %+v, %v", vm, err)
	}
}
