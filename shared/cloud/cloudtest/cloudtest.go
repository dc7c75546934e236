// Package cloudtest is the suite that every cloud driver passes.
//
//	launch.go   tokens, tags, refusals
//	look.go     listings, describe, other stacks, offers
//	end.go      terminate, drills
//	proof.go    identity
package cloudtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"anycloud/shared/cloud"
	"anycloud/shared/job"
)

// Fixture is one fresh account with no VM in it.
type Fixture struct {
	// Cloud is the driver, as the stack under test.
	Cloud cloud.Cloud
	// Other is another stack's driver on the same account.
	Other cloud.Cloud
	// Machine is what to ask for: small enough that Room VMs fit.
	Machine job.Machine
	// Wait lets a little time pass: the fake turns its clock on, a real driver
	// sleeps some milliseconds.
	Wait func()
	// Tries is how many Waits the slowest change may take; 0: 1000.
	Tries int
	// Proof returns what the VM's metadata gives its agent.
	Proof func(t *testing.T, vmID string) string
	// Full takes the capacity of zones away, or (none given) gives it back.
	Full func(t *testing.T, zones ...string)
	// Unanswer makes the next launch that makes a VM go unanswered, or every
	// launch until it is called with false.
	Unanswer func(t *testing.T, on bool)
	// Throttle makes the driver refuse every call, or stop it.
	Throttle func(t *testing.T, on bool)
	// Quota is the most VMs that may live; 0: no limit.
	Quota func(t *testing.T, n int)
	// MinPages is how many pages a listing of Room VMs has at least; 0: 1.
	MinPages int
	// Drill is a notice that the cloud can give.
	Drill time.Duration
}

// Room is how many VMs live at once in the suite.
const Room = 3

// Run runs the suite; open makes a fresh account for each test.
func Run(t *testing.T, open func(t *testing.T) *Fixture) {
	for name, f := range map[string]func(*testing.T, *Fixture){
		"launch":                testLaunch,
		"launch twice":          testLaunchTwice,
		"launch at once":        testLaunchAtOnce,
		"launch unanswered":     testLaunchUnanswered,
		"launch after its end":  testLaunchAfterEnd,
		"launch without room":   testLaunchFull,
		"launch over quota":     testLaunchQuota,
		"launch throttled":      testLaunchThrottled,
		"launch invalid":        testLaunchInvalid,
		"list pages":            testList,
		"unknown ids":           testUnknown,
		"other stack":           testOtherStack,
		"offers":                testOffers,
		"terminate":             testTerminate,
		"proof":                 testProof,
		"drill":                 testDrill,
		"drill without a word":  testDrillUnwarned,
		"drill and terminate":   testDrillTerminate,
		"cancelled context":     testContext,
		"spot and on-demand":    testSpotAndOnDemand,
		"capacity comes back":   testFullThenRoom,
		"listing shows no more": testListShowsWhatDescribeDoes,
	} {
		t.Run(name, func(t *testing.T) { f(t, open(t)) })
	}
}

// offers returns spot placements, at least one.
func (f *Fixture) offers(t *testing.T) []job.Placement {
	t.Helper()
	ps, err := f.Cloud.Offers(t.Context(), cloud.Needs{Machine: f.Machine, Spot: true})
	if err != nil || len(ps) == 0 {
		t.Fatalf("offers: %v, %v", ps, err)
	}
	return ps
}

func (f *Fixture) request(t *testing.T, n int) cloud.LaunchRequest {
	t.Helper()
	return cloud.LaunchRequest{
		Token: fmt.Sprintf("token-%s-%d", strings.ReplaceAll(t.Name(), " ", "_"), n),
		Job:   fmt.Sprintf("job-%d", n), Attempt: n, Launch: n + 10,
		Candidates: f.offers(t), Needs: f.Machine,
	}
}

func (f *Fixture) launch(t *testing.T, n int) cloud.VM {
	t.Helper()
	vm, err := f.Cloud.Launch(t.Context(), f.request(t, n))
	if err != nil {
		t.Fatalf("launch: %v", err)
	}
	return vm
}

// running launches a VM and waits until it runs.
func (f *Fixture) running(t *testing.T, n int) cloud.VM {
	t.Helper()
	return f.await(t, f.launch(t, n).ID, cloud.Running)
}

// await waits until the VM is in the state and returns it. A terminated VM that
// was to reach another state fails at once.
func (f *Fixture) await(t *testing.T, id string, s cloud.State) cloud.VM {
	t.Helper()
	var vm cloud.VM
	f.until(t, fmt.Sprintf("vm %s is %s", id, s), func() bool {
		var err error
		vm, err = f.Cloud.Describe(t.Context(), id)
		if err != nil && !errors.Is(err, cloud.ErrNotFound) {
			t.Fatalf("describe %s: %v", id, err)
		}
		if err == nil && vm.State == cloud.Terminated && s != cloud.Terminated {
			t.Fatalf("%s is terminated (%s), want %s", id, vm.EndReason, s)
		}
		return err == nil && vm.State == s
	})
	return vm
}

func (f *Fixture) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tries := f.Tries
	if tries == 0 {
		tries = 1000
	}
	for range tries {
		if ok() {
			return
		}
		f.Wait()
	}
	t.Fatalf("never: %s", what)
}

// list walks all pages.
func (f *Fixture) list(t *testing.T, c cloud.Cloud) (vms []cloud.VM, pages int) {
	t.Helper()
	page := ""
	for {
		got, next, err := c.List(t.Context(), page)
		if err != nil {
			t.Fatalf("list %q: %v", page, err)
		}
		vms = append(vms, got...)
		pages++
		if next == "" {
			return vms, pages
		}
		if pages > 100 {
			t.Fatalf("list: page %q and no end", next)
		}
		page = next
	}
}

// listed waits until a listing shows the VM, and returns it from there.
func (f *Fixture) listed(t *testing.T, id string) cloud.VM {
	t.Helper()
	var vm cloud.VM
	f.until(t, "a listing shows "+id, func() bool {
		vms, _ := f.list(t, f.Cloud)
		i := slices.IndexFunc(vms, func(v cloud.VM) bool { return v.ID == id })
		if i >= 0 {
			vm = vms[i]
		}
		return i >= 0
	})
	return vm
}

func wantErr(t *testing.T, what string, err, class error) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Fatalf("%s: error %v, want %v", what, err, class)
	}
}

func tags(vm cloud.VM) string { return fmt.Sprintf("%s/%d/%d", vm.Job, vm.Attempt, vm.Launch) }
