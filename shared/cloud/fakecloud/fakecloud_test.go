package fakecloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"anycloud/shared/cloud"
	"anycloud/shared/cloud/cloudtest"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

type clock struct{ now time.Time }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

func newFake(o Options) (*Cloud, *clock) {
	c := &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	o.Now = func() time.Time { return c.now }
	return New(o), c
}

func TestSuite(t *testing.T) {
	for name, knobs := range map[string]Knobs{
		"prompt":   {},
		"sluggish": {Hidden: 7 * time.Second, Stale: 5 * time.Second, NotFound: 0},
	} {
		t.Run(name, func(t *testing.T) {
			cloudtest.Run(t, func(t *testing.T) *cloudtest.Fixture {
				c, clk := newFake(Options{PageSize: 2, Knobs: knobs})
				return &cloudtest.Fixture{
					Cloud: c, Other: c.As("other"),
					Machine: job.Machine{CPUs: 1, Memory: 1 << 30, Arch: "amd64"},
					Wait:    func() { clk.pass(time.Second) },
					Proof:   func(_ *testing.T, id string) string { return Proof(id) },
					Full: func(_ *testing.T, zones ...string) {
						c.Set(func(k *Knobs) { k.Full = func(p job.Placement) bool { return slices.Contains(zones, p.Zone) } })
					},
					Unanswer: func(_ *testing.T, on bool) {
						c.Set(func(k *Knobs) {
							k.OnLaunch = func(cloud.LaunchRequest) LaunchFault { return LaunchFault{Unanswered: on} }
						})
					},
					Throttle: func(_ *testing.T, on bool) {
						c.Set(func(k *Knobs) { k.ThrottleEvery = map[bool]int{true: 1}[on] })
					},
					Quota:    func(_ *testing.T, n int) { c.Set(func(k *Knobs) { k.Quota = n }) },
					MinPages: 2, Drill: 2 * time.Minute,
				}
			})
		})
	}
}

func launch(t testing.TB, c *Cloud, token string) cloud.VM {
	t.Helper()
	vm, err := c.Launch(context.Background(), request(t, c, token))
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func request(t testing.TB, c *Cloud, token string) cloud.LaunchRequest {
	t.Helper()
	ps, err := c.Offers(context.Background(), cloud.Needs{Machine: job.Machine{CPUs: 1}, Spot: true})
	if err != nil {
		t.Fatal(err)
	}
	return cloud.LaunchRequest{Token: token, Job: "j", Attempt: 1, Launch: 1, Candidates: ps}
}

func wantState(t *testing.T, c *Cloud, id string, want cloud.State) cloud.VM {
	t.Helper()
	vm, err := c.Describe(t.Context(), id)
	if err != nil || vm.State != want {
		t.Fatalf("%s: %+v, %v; want %s", id, vm, err, want)
	}
	return vm
}

func TestLife(t *testing.T) {
	c, clk := newFake(Options{BootDelay: 10 * time.Second, TerminationDelay: 5 * time.Second, Shown: time.Minute})
	vm := launch(t, c, "a")
	wantState(t, c, vm.ID, cloud.Pending)
	clk.pass(10 * time.Second)
	wantState(t, c, vm.ID, cloud.Running)
	if err := c.Terminate(t.Context(), vm.ID); err != nil {
		t.Fatal(err)
	}
	wantState(t, c, vm.ID, cloud.Going)
	clk.pass(5 * time.Second)
	end := wantState(t, c, vm.ID, cloud.Terminated)
	if got := end.EndedAt.Sub(end.LaunchedAt); got != 15*time.Second || end.EndReason != string(ByTerminate) {
		t.Errorf("lived %v, %s", got, end.EndReason)
	}
	clk.pass(time.Minute)
	if _, err := c.Describe(t.Context(), vm.ID); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("shown for ever: %v", err)
	}
	truth := c.All()[0]
	if truth.TerminateCalled.Sub(truth.Created) != 10*time.Second || truth.EndedBy != ByTerminate || !truth.Answered || truth.Alive(clk.now) {
		t.Errorf("truth %+v", truth)
	}
}

func TestInterrupt(t *testing.T) {
	var heard []preempt.Notice
	c, clk := newFake(Options{BootDelay: -1, Knobs: Knobs{OnNotice: func(n preempt.Notice) { heard = append(heard, n) }}})
	warned, unwarned, shot := launch(t, c, "a").ID, launch(t, c, "b").ID, launch(t, c, "c").ID
	c.Interrupt(warned, 30*time.Second, true)
	c.Interrupt(unwarned, 30*time.Second, false)
	c.Interrupt(shot, 0, false)
	c.Rebalance(warned) // no news beside an interruption
	wantState(t, c, shot, cloud.Terminated)
	if wantState(t, c, unwarned, cloud.Running).Notice != nil || c.Notice(unwarned) != nil {
		t.Error("the warning was not lost")
	}
	if n := wantState(t, c, warned, cloud.Running).Notice; n == nil || *n != *c.Notice(warned) || len(heard) != 1 || heard[0] != *n || n.Drill {
		t.Errorf("notice %+v, heard %+v", n, heard)
	}
	clk.pass(30 * time.Second)
	wantState(t, c, warned, cloud.Terminated)
	wantState(t, c, unwarned, cloud.Terminated)
	if c.Interrupt(warned, 0, true) || c.Vanish(warned) || c.Interrupt("i-x", 0, true) {
		t.Error("an ended VM was taken again")
	}
}

func TestLosses(t *testing.T) {
	c, clk := newFake(Options{BootDelay: -1})
	a, b, d, e := launch(t, c, "a").ID, launch(t, c, "b").ID, launch(t, c, "c").ID, launch(t, c, "d").ID
	if !c.Vanish(a) || !c.Forget(b) || !c.PowerOff(d) || !c.Impair(e) {
		t.Fatal("not found")
	}
	wantState(t, c, a, cloud.Terminated)
	wantState(t, c, d, cloud.Going)
	if _, err := c.Describe(t.Context(), b); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("forgotten: %v", err)
	}
	if vms, _, _ := c.List(t.Context(), ""); len(vms) != 3 {
		t.Errorf("listed %+v", vms)
	}
	clk.pass(time.Minute)
	wantState(t, c, d, cloud.Terminated)
	if !wantState(t, c, e, cloud.Running).Impaired {
		t.Error("not impaired")
	}
	if c.Get(b).Alive(clk.now) || c.Get(b).EndedBy != ByVanish {
		t.Errorf("truth %+v", c.Get(b))
	}
}

// TestLag: what Describe and List do not show yet.
func TestLag(t *testing.T) {
	c, clk := newFake(Options{BootDelay: -1, Knobs: Knobs{Hidden: 20 * time.Second, NotFound: 5 * time.Second}})
	listed := func() int {
		vms, _, err := c.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		return len(vms)
	}
	id := launch(t, c, "a").ID
	if _, err := c.Describe(t.Context(), id); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("describe: %v", err)
	}
	clk.pass(5 * time.Second)
	wantState(t, c, id, cloud.Running)
	if listed() != 0 {
		t.Error("listed at once")
	}
	clk.pass(15 * time.Second)
	if listed() != 1 {
		t.Error("not listed")
	}
	c.Set(func(k *Knobs) { k.Stale = 10 * time.Second })
	c.Vanish(id)
	if vms, _, _ := c.List(t.Context(), ""); vms[0].State != cloud.Running {
		t.Errorf("not stale: %+v", vms)
	}
	clk.pass(10 * time.Second)
	if vms, _, _ := c.List(t.Context(), ""); vms[0].State != cloud.Terminated {
		t.Errorf("stale for ever: %+v", vms)
	}
}

func TestLaunchFaults(t *testing.T) {
	fault := LaunchFault{Late: time.Minute}
	c, clk := newFake(Options{BootDelay: -1, Knobs: Knobs{OnLaunch: func(cloud.LaunchRequest) LaunchFault { return fault }}})
	late := func(token string) {
		if _, err := c.Launch(t.Context(), request(t, c, token)); err == nil {
			t.Error("answered")
		}
	}
	late("a")
	late("b")
	if vms, _, _ := c.List(t.Context(), ""); len(vms) != 0 {
		t.Errorf("too early: %+v", vms)
	}
	clk.pass(time.Second)
	fault = LaunchFault{}
	if vm := launch(t, c, "b"); !vm.LaunchedAt.Equal(clk.now) {
		t.Errorf("replayed before it came: %+v", vm)
	}
	clk.pass(time.Minute)
	if vms, _, _ := c.List(t.Context(), ""); len(vms) != 2 || c.All()[0].Answered || !c.All()[1].Answered {
		t.Errorf("listed %+v", vms)
	}
	fault = LaunchFault{Refuse: cloud.ErrDenied}
	if _, err := c.Launch(t.Context(), request(t, c, "c")); !errors.Is(err, cloud.ErrDenied) || len(c.All()) != 2 {
		t.Errorf("refused: %v", err)
	}
	other := request(t, c, "b")
	other.Candidates = other.Candidates[1:]
	if _, err := c.Launch(t.Context(), other); err == nil {
		t.Error("a token was used for two things")
	}
}

func TestHook(t *testing.T) {
	var seen []string
	lost := errors.New("lost")
	var fail When = -1
	c, _ := newFake(Options{Hook: func(_ context.Context, c Call) error {
		if c.Op == OpOffers {
			return nil
		}
		seen = append(seen, fmt.Sprint(c.Op, " ", c.Key, " ", c.When))
		if c.When == fail {
			return lost
		}
		return nil
	}})
	r := request(t, c, "a")
	for _, fail = range []When{Before, After} {
		if _, err := c.Launch(t.Context(), r); err != lost {
			t.Errorf("error %v", err)
		}
		if want := int(fail); len(c.All()) != want || c.Calls(OpLaunch) != want {
			t.Errorf("failed at %d: %d VMs, %d calls", fail, len(c.All()), c.Calls(OpLaunch))
		}
	}
	if want := []string{"launch a 0", "launch a 0", "launch a 1"}; !slices.Equal(seen, want) {
		t.Errorf("seen %q", seen)
	}
}

func TestThrottleEvery(t *testing.T) {
	c, _ := newFake(Options{Knobs: Knobs{ThrottleEvery: 3}})
	var refused []int
	for i := range 9 {
		if _, _, err := c.List(t.Context(), ""); errors.Is(err, cloud.ErrThrottled) {
			refused = append(refused, i)
		}
	}
	if !slices.Equal(refused, []int{2, 5, 8}) {
		t.Errorf("refused %v", refused)
	}
}

func BenchmarkLife(b *testing.B) {
	for b.Loop() {
		c, clk := newFake(Options{})
		for i := range 8 {
			vm := launch(b, c, fmt.Sprint(i))
			for range 10 {
				clk.pass(time.Second)
				c.List(context.Background(), "")
				c.Describe(context.Background(), vm.ID)
			}
			c.Terminate(context.Background(), vm.ID)
		}
	}
}
