package cloudtest

import (
	"testing"
	"time"

	"anycloud/shared/cloud"
	"anycloud/shared/preempt"
)

func testTerminate(t *testing.T, f *Fixture) {
	vm, bystander := f.running(t, 1), f.running(t, 2)
	for range 2 { // the second while it is going, or gone
		if err := f.Cloud.Terminate(t.Context(), vm.ID); err != nil {
			t.Fatal(err)
		}
		if now, err := f.Cloud.Describe(t.Context(), vm.ID); err != nil || now.State != cloud.Going && now.State != cloud.Terminated {
			t.Fatalf("after terminate: %+v, %v", now, err)
		}
	}
	end := f.await(t, vm.ID, cloud.Terminated)
	if end.EndedAt.Before(vm.LaunchedAt) || end.EndReason == "" {
		t.Errorf("ended at %v, launched at %v, reason %q", end.EndedAt, vm.LaunchedAt, end.EndReason)
	}
	if err := f.Cloud.Terminate(t.Context(), vm.ID); err != nil {
		t.Errorf("terminate of a terminated VM: %v", err)
	}
	wantErr(t, "drill of a terminated VM", f.Cloud.Drill(t.Context(), vm.ID, f.Drill), cloud.ErrNotFound)
	f.Wait()
	later := f.await(t, vm.ID, cloud.Terminated)
	if !later.EndedAt.Equal(end.EndedAt) || later.EndReason != end.EndReason {
		t.Errorf("the end changed: %+v, then %+v", end, later)
	}
	if shown := f.listed(t, vm.ID); tags(shown) != tags(vm) {
		t.Errorf("the ended VM is listed as %+v", shown)
	}
	if now := f.await(t, bystander.ID, cloud.Running); !now.EndedAt.IsZero() {
		t.Errorf("the other VM: %+v", now)
	}
}

func testDrill(t *testing.T, f *Fixture) {
	vm := f.running(t, 1)
	before := f.listed(t, vm.ID)
	if before.Notice != nil {
		t.Fatalf("a notice before the drill: %+v", before)
	}
	if err := f.Cloud.Drill(t.Context(), vm.ID, f.Drill); err != nil {
		t.Fatal(err)
	}
	var n *preempt.Notice
	f.until(t, "a listing shows the notice", func() bool {
		n = f.listed(t, vm.ID).Notice
		return n != nil
	})
	if n.VMID != vm.ID || n.Kind != preempt.Interruption || n.At.IsZero() || n.Source == "" || !n.Drill {
		t.Errorf("notice %+v", n)
	}
	if got := n.Deadline.Sub(n.At); got != f.Drill {
		t.Errorf("the notice gives %v, asked %v", got, f.Drill)
	}
	end := f.await(t, vm.ID, cloud.Terminated)
	if late := end.EndedAt.Sub(n.Deadline); late < -time.Second || late > time.Minute {
		t.Errorf("ended %v after its deadline", late)
	}
}

func testDrillUnwarned(t *testing.T, f *Fixture) {
	vm := f.running(t, 1)
	if err := f.Cloud.Drill(t.Context(), vm.ID, 0); err != nil {
		t.Fatal(err)
	}
	if end := f.await(t, vm.ID, cloud.Terminated); end.Notice != nil || end.EndedAt.Before(end.LaunchedAt) {
		t.Errorf("taken without a word: %+v", end)
	}
	wantErr(t, "a negative notice", f.Cloud.Drill(t.Context(), f.running(t, 2).ID, -time.Second), cloud.ErrInvalid)
}

// testDrillTerminate: a VM with a notice can be terminated before its deadline.
func testDrillTerminate(t *testing.T, f *Fixture) {
	vm := f.running(t, 1)
	if err := f.Cloud.Drill(t.Context(), vm.ID, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := f.Cloud.Terminate(t.Context(), vm.ID); err != nil {
		t.Fatal(err)
	}
	if end := f.await(t, vm.ID, cloud.Terminated); end.EndedAt.After(vm.LaunchedAt.Add(30 * time.Minute)) {
		t.Errorf("ended at %v", end.EndedAt)
	}
}
