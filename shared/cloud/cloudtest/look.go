package cloudtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"anycloud/shared/cloud"
)

func testList(t *testing.T, f *Fixture) {
	if vms, _ := f.list(t, f.Cloud); len(vms) != 0 {
		t.Fatalf("a fresh account lists %+v", vms)
	}
	want := map[string]string{}
	for n := 1; n <= Room; n++ {
		vm := f.launch(t, n)
		want[vm.ID] = fmt.Sprintf("job-%d/%d/%d", n, n, n+10)
	}
	var vms []cloud.VM
	pages := 0
	f.until(t, "a listing shows all", func() bool {
		vms, pages = f.list(t, f.Cloud)
		return len(vms) >= Room
	})
	got := map[string]string{}
	for _, vm := range vms {
		got[vm.ID] = tags(vm)
	}
	if len(vms) != Room || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("listed %v, want %v", got, want)
	}
	if pages < f.MinPages {
		t.Errorf("%d pages, want %d", pages, f.MinPages)
	}
	_, _, err := f.Cloud.List(t.Context(), "no such page!")
	wantErr(t, "list of a page that is none", err, cloud.ErrInvalid)
}

func testListShowsWhatDescribeDoes(t *testing.T, f *Fixture) {
	id := f.running(t, 1).ID
	listed := f.listed(t, id)
	f.until(t, "the listing caught up", func() bool {
		listed = f.listed(t, id)
		return listed.State == cloud.Running
	})
	described, err := f.Cloud.Describe(t.Context(), id)
	if err != nil || fmt.Sprint(listed) != fmt.Sprint(described) {
		t.Errorf("listed %+v, described %+v, %v", listed, described, err)
	}
	if listed.Impaired || listed.Notice != nil || listed.EndReason != "" {
		t.Errorf("a healthy VM is listed as %+v", listed)
	}
}

func testUnknown(t *testing.T, f *Fixture) {
	for _, id := range []string{"i-nobody", "", "../x", "i-local-aaaaaaaaaaaa"} {
		_, err := f.Cloud.Describe(t.Context(), id)
		wantErr(t, "describe "+id, err, cloud.ErrNotFound)
		wantErr(t, "terminate "+id, f.Cloud.Terminate(t.Context(), id), cloud.ErrNotFound)
		wantErr(t, "drill "+id, f.Cloud.Drill(t.Context(), id, f.Drill), cloud.ErrNotFound)
	}
}

func testOtherStack(t *testing.T, f *Fixture) {
	r := f.request(t, 1)
	vm := f.running(t, 1)
	if vms, _ := f.list(t, f.Other); len(vms) != 0 {
		t.Errorf("the other stack sees %+v", vms)
	}
	_, err := f.Other.Describe(t.Context(), vm.ID)
	wantErr(t, "describe", err, cloud.ErrNotFound)
	wantErr(t, "terminate", f.Other.Terminate(t.Context(), vm.ID), cloud.ErrNotFound)
	wantErr(t, "drill", f.Other.Drill(t.Context(), vm.ID, f.Drill), cloud.ErrNotFound)
	_, err = f.Other.VerifyProof(t.Context(), f.Proof(t, vm.ID))
	wantErr(t, "verify", err, cloud.ErrBadProof)
	theirs, err := f.Other.Launch(t.Context(), r)
	if err != nil || theirs.ID == vm.ID {
		t.Errorf("the other stack's launch with the same token: %+v, %v", theirs, err)
	}
	if now, err := f.Cloud.Describe(t.Context(), vm.ID); err != nil || now.State != cloud.Running || now.Notice != nil {
		t.Errorf("the other stack did this: %+v, %v", now, err)
	}
}

func testOffers(t *testing.T, f *Fixture) {
	for _, spot := range []bool{true, false} {
		ps, err := f.Cloud.Offers(t.Context(), cloud.Needs{Machine: f.Machine, Spot: spot})
		if err != nil || len(ps) == 0 {
			t.Fatalf("offers: %v, %v", ps, err)
		}
		last := ps[0].Price
		seen := map[string]bool{}
		for _, p := range ps {
			if p.Cloud != f.Cloud.Name() || p.Region == "" || p.Zone == "" || p.Type == "" || p.Spot != spot || p.Price > p.List {
				t.Errorf("offer %+v", p)
			}
			if p.Price < last {
				t.Errorf("offers are not cheapest first: %v after %v", p.Price, last)
			}
			if last = p.Price; seen[p.Pool()] {
				t.Errorf("offered twice: %s", p.Pool())
			}
			seen[p.Pool()] = true
		}
	}
	ps := f.offers(t)
	one, err := f.Cloud.Offers(t.Context(), cloud.Needs{Machine: f.Machine, Spot: true, Regions: []string{ps[0].Region}, Zones: []string{ps[0].Zone}})
	if err != nil || len(one) == 0 {
		t.Errorf("offers in %s: %v, %v", ps[0].Zone, one, err)
	}
	for _, p := range one {
		if p.Zone != ps[0].Zone {
			t.Errorf("offers %s where only %s was wanted", p.Zone, ps[0].Zone)
		}
	}
	huge, odd, gpus := f.Machine, f.Machine, f.Machine
	huge.Memory, odd.VMType, gpus.GPU, gpus.GPUs = 1<<60, "none.such", "no-such-gpu", 1
	for what, n := range map[string]cloud.Needs{
		"memory": {Machine: huge}, "type": {Machine: odd}, "gpu": {Machine: gpus},
		"region": {Machine: f.Machine, Regions: []string{"nowhere"}}, "zone": {Machine: f.Machine, Zones: []string{"nowhere-1a"}},
	} {
		ps, err := f.Cloud.Offers(t.Context(), n)
		if !errors.Is(err, cloud.ErrInvalid) || len(ps) != 0 {
			t.Errorf("offers that no machine fits (%s): %v, %v", what, ps, err)
		}
		if err != nil && len(err.Error()) < len(cloud.ErrInvalid.Error())+10 {
			t.Errorf("%s: %q does not say why", what, err)
		}
	}
	if !slices.Equal(ps, f.offers(t)) {
		t.Errorf("offers change their order")
	}
}

func testContext(t *testing.T, f *Fixture) {
	r := f.request(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Cloud.Launch(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("launch: %v", err)
	}
	if _, _, err := f.Cloud.List(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v", err)
	}
	if vms, _ := f.list(t, f.Cloud); len(vms) != 0 {
		t.Errorf("a cancelled launch left %+v", vms)
	}
}
