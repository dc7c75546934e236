package controlplane

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/cloud"
	"anycloud/shared/cloud/fakecloud"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
	"anycloud/shared/store/memstore"
)

// TestWholeLoop: submit, run, warned preemption with its hand-over, exit, end.
func TestWholeLoop(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	first := s.vm(id)

	s.cloud.Interrupt(first, 2*time.Minute, true)
	s.must(s.Notice(ctx, *s.cloud.Notice(first)))
	s.must(s.Notice(ctx, *s.cloud.Notice(first))) // doubled
	s.state(id, job.Recovering)
	s.must(s.Recover(ctx, id))
	second := s.vm(id)
	if second == first || !s.alive(first) {
		t.Fatalf("second VM %s; the first alive: %v", second, s.alive(first))
	}
	if d := s.job(id).AttemptNo(2).Placement; d.Pool() == s.job(id).AttemptNo(1).Placement.Pool() {
		t.Errorf("launched in the pool that was just lost: %s", d.Pool())
	}
	reply, err := s.claim(second)
	s.must(err)
	if reply.Orders.Role != api.Standby {
		t.Fatalf("role %s while attempt 1 still works", reply.Orders.Role)
	}
	old, err := s.reportAs(id, 1, api.Report{})
	s.must(err)
	if old.Role != api.Writer || old.Notice == nil {
		t.Fatalf("orders of the dying writer: %+v", old)
	}
	_, err = s.reportAs(id, 1, api.Report{Sealed: true, StoppedAt: s.now, Checkpoint: &job.Checkpoint{Latest: 4, Health: "ok"}})
	s.must(err)
	o, err := s.reportAs(id, 2, api.Report{})
	s.must(err)
	if o.Role != api.Writer || o.NewestCommit != 4 {
		t.Fatalf("orders after the seal: %+v", o)
	}
	s.must(s.Recover(ctx, id)) // terminates the sealed one
	if s.alive(first) {
		t.Error("the sealed VM still lives")
	}
	_, err = s.reportAs(id, 2, api.Report{Started: &api.ContainerStarted{At: s.now, Restored: 4, CapturedAt: s.now}})
	s.must(err)
	s.state(id, job.Running)
	x, err := s.reportAs(id, 2, api.Report{Exit: &api.Exit{Attempt: 2}})
	s.must(err)
	if !x.Exited {
		t.Errorf("orders after the exit: %+v", x)
	}
	s.must(s.Cleanup(ctx, id))
	s.tick()
	s.state(id, job.Succeeded)
	if ok, _ := s.buckets.Exists(ctx, id); ok {
		t.Error("the bucket is left")
	}
	for _, want := range []string{"job.submitted", "job.started", "job.preempted", "job.recovered", "job.exited", "job.succeeded"} {
		if n := count(s.types(), want); n != 1 && want != "job.exited" || n == 0 {
			t.Errorf("%s sent %d times", want, n)
		}
	}
}

func count(xs []string, x string) (n int) {
	for _, y := range xs {
		if x == y {
			n++
		}
	}
	return n
}

// TestSweepIsTheFloor: without any event, ticks alone bring a job through.
func TestSweepIsTheFloor(t *testing.T) {
	s := newStack(t)
	id := s.submit(job.Spec{Spot: true})
	s.sent = nil
	s.tick()
	s.state(id, job.Starting)
	_, err := s.claim(s.vm(id))
	s.must(err)
	_, err = s.report(id, api.Report{Started: &api.ContainerStarted{At: s.now}})
	s.must(err)
	s.cloud.Vanish(s.vm(id))
	s.tick()
	s.state(id, job.Starting) // attempt 2 already
	if s.job(id).Attempt != 2 || s.job(id).Preemptions != 1 {
		t.Errorf("attempt %d, preemptions %d", s.job(id).Attempt, s.job(id).Preemptions)
	}
	s.cloud.Forget(s.vm(id))
	s.tick()
	s.state(id, job.Starting)
	if s.job(id).Attempt != 2 {
		t.Fatal("one missing sweep is no proof")
	}
	s.tick()
	s.pass(10 * time.Minute)
	s.tick()
	if s.job(id).Attempt != 3 {
		t.Errorf("attempt %d after the VM was absent", s.job(id).Attempt)
	}
}

// TestLaunchAnswers: refused, unanswered, late, crashed between intent and call.
func TestLaunchAnswers(t *testing.T) {
	ctx := t.Context()
	t.Run("no capacity waits and tries again", func(t *testing.T) {
		s := newStack(t)
		s.cloud.Set(func(k *fakecloud.Knobs) { k.Full = func(job.Placement) bool { return true } })
		id := s.submit(job.Spec{Spot: true})
		s.must(s.Recover(ctx, id))
		s.state(id, job.Pending)
		j := s.job(id)
		if j.WaitingFor != job.WaitCapacity || j.RefusedLaunches != 1 || j.Attempt != 0 {
			t.Fatalf("waits for %q, refused %d, attempt %d", j.WaitingFor, j.RefusedLaunches, j.Attempt)
		}
		s.must(s.Recover(ctx, id)) // too early: nothing
		if s.cloud.Calls(fakecloud.OpLaunch) != 1 {
			t.Error("did not wait")
		}
		s.cloud.Set(func(k *fakecloud.Knobs) { k.Full = nil })
		s.tick()
		s.state(id, job.Starting)
	})
	t.Run("unanswered is replayed with its token after its deadline", func(t *testing.T) {
		s := newStack(t)
		s.cloud.Set(func(k *fakecloud.Knobs) {
			k.OnLaunch = func(cloud.LaunchRequest) fakecloud.LaunchFault { return fakecloud.LaunchFault{Unanswered: true} }
		})
		id := s.submit(job.Spec{Spot: true})
		s.must(s.Recover(ctx, id))
		s.state(id, job.Provisioning)
		s.must(s.Recover(ctx, id))
		if n := s.cloud.Calls(fakecloud.OpLaunch); n != 1 {
			t.Fatalf("%d launch calls before the deadline", n)
		}
		s.pass(DefaultLaunchFor)
		s.tick()
		s.state(id, job.Starting)
		if n := len(s.cloud.All()); n != 1 {
			t.Errorf("%d VMs", n)
		}
	})
	t.Run("never answered is given up and found late", func(t *testing.T) {
		s := newStack(t)
		s.cloud.Set(func(k *fakecloud.Knobs) {
			k.OnLaunch = func(cloud.LaunchRequest) fakecloud.LaunchFault {
				return fakecloud.LaunchFault{Refuse: errors.New("connection reset")}
			}
		})
		id := s.submit(job.Spec{Spot: true})
		s.must(s.Recover(ctx, id))
		for range 4 {
			s.pass(DefaultLaunchFor)
			s.tick()
		}
		j := s.job(id)
		if j.Attempt < 1 || len(j.Doomed) == 0 {
			t.Fatalf("attempt %d, doomed %v", j.Attempt, j.Doomed)
		}
	})
	t.Run("a crash between intent and call", func(t *testing.T) {
		s := newStack(t)
		id := s.submit(job.Spec{Spot: true})
		s.store.Hook = func(_ context.Context, c memstore.Call) error {
			if c.Op == memstore.OpPut && c.When == memstore.After && s.cloud.Calls(fakecloud.OpOffers) > 1 {
				return errors.New("crashed here")
			}
			return nil
		}
		if err := s.Recover(ctx, id); err == nil {
			t.Fatal("no crash")
		}
		s.store.Hook = nil
		s.state(id, job.Provisioning)
		s.pass(DefaultLaunchFor)
		s.tick()
		s.state(id, job.Starting)
	})
	t.Run("a claim answers the launch", func(t *testing.T) {
		s := newStack(t)
		s.cloud.Set(func(k *fakecloud.Knobs) {
			k.OnLaunch = func(cloud.LaunchRequest) fakecloud.LaunchFault { return fakecloud.LaunchFault{Unanswered: true} }
		})
		id := s.submit(job.Spec{Spot: true})
		s.must(s.Recover(ctx, id))
		_, err := s.claim(s.cloud.All()[0].ID)
		s.must(err)
		s.state(id, job.Starting)
	})
}

// TestClaims: the same pair for ever, anybody else never.
func TestClaims(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.submit(job.Spec{Spot: true})
	s.must(s.Recover(ctx, id))
	vm := s.vm(id)
	for range 2 {
		_, err := s.claim(vm)
		s.must(err)
	}
	_, err := s.Claim(ctx, api.ClaimRequest{Proof: fakecloud.Proof(vm), Cloud: "fake", SecretHash: hash("another agent")})
	wantCode(t, err, api.CodeSuperseded)
	_, err = s.Claim(ctx, api.ClaimRequest{Proof: "forged", Cloud: "fake", SecretHash: hash("x")})
	wantCode(t, err, api.CodeUnauthorized)
	_, err = s.Report(ctx, id, 1, "wrong secret", api.Report{})
	wantCode(t, err, api.CodeUnauthorized)
	_, err = s.Credentials(ctx, id, 1, "wrong secret")
	wantCode(t, err, api.CodeUnauthorized)
	creds, err := s.Credentials(ctx, id, 1, secretOf(vm))
	s.must(err)
	if creds.Checkpoint == nil || creds.LogPrefix != "logs/"+id+"/000001/" {
		t.Errorf("%+v", creds)
	}
	s.cloud.Vanish(vm)
	s.tick()
	_, err = s.claim(s.vm(id)) // attempt 2 takes over
	s.must(err)
	_, err = s.Credentials(ctx, id, 1, secretOf(vm))
	wantCode(t, err, api.CodeSuperseded)
	o, err := s.reportAs(id, 1, api.Report{})
	s.must(err)
	if o.Role != api.Stop {
		t.Errorf("the old agent is told %s", o.Role)
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Errorf("%v, want code %s", err, code)
	}
}

// TestDeafKillsNobody: a machine that slept for an hour, and an agents' endpoint
// that answered nobody for 20 minutes, cost no claimed VM.
func TestDeafKillsNobody(t *testing.T) {
	s := newStack(t)
	id := s.running(job.Spec{Spot: true})
	vm := s.vm(id)
	s.pass(time.Hour)
	s.tick()
	s.state(id, job.Running)
	_, err := s.report(id, api.Report{})
	s.must(err)
	s.deaf = true
	for range 40 {
		s.tick()
	}
	s.deaf = false
	s.state(id, job.Running)
	if !s.alive(vm) {
		t.Fatal("a claimed VM was destroyed")
	}
	for n := range 29 {
		s.tick()
		v, err := s.Get(t.Context(), id)
		s.must(err)
		if shown := v.UnresponsiveSince != nil; shown != (n >= 2) {
			t.Errorf("after %d silent sweeps unresponsive_since is shown: %v", n+1, shown)
		}
	}
	s.state(id, job.Running)
	s.must(s.Tick(t.Context(), s.now)) // doubled
	s.state(id, job.Running)
	s.tick()
	if got := s.job(id).AttemptNo(1).EndReason; got != job.EndUnresponsive {
		t.Errorf("end reason %q after 15 min of hearing silence", got)
	}
}

// TestOrphans: what no row names is doomed by its row, read after the listing; a
// VM without a row is doctor's.
func TestOrphans(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	place := s.job(id).Attempts[0].Placement
	stray := func(owner string, launch int) string {
		vm, err := s.cloud.Launch(ctx, cloud.LaunchRequest{Token: owner, Job: owner, Attempt: 1, Launch: launch, Candidates: []job.Placement{place}})
		s.must(err)
		return vm.ID
	}
	orphan, nobody := stray(id, 77), stray("ac-nobody-0000000000", 1)
	s.tick()
	if s.alive(orphan) || !s.alive(s.vm(id)) {
		t.Errorf("orphan alive %v, the writer's VM alive %v", s.alive(orphan), s.alive(s.vm(id)))
	}
	if !s.alive(nobody) {
		t.Error("a VM without a row was destroyed")
	}
	r, err := s.Doctor(ctx, nil)
	s.must(err)
	if !slices.ContainsFunc(r.Checks, func(k api.DoctorCheck) bool { return k.ID == "vm-"+nobody && k.Fixable }) {
		t.Errorf("doctor does not report it: %+v", r.Checks)
	}
	_, err = s.Doctor(ctx, []string{"vm-" + nobody})
	s.must(err)
	if s.alive(nobody) {
		t.Error("doctor did not mend it")
	}
}

// TestOutbox: an event whose sending failed is sent by the next sweep.
func TestOutbox(t *testing.T) {
	s := newStack(t)
	s.fail = errors.New("bus down")
	id := s.submit(job.Spec{})
	if len(s.job(id).Outbox) != 1 {
		t.Fatalf("outbox %v", s.job(id).Outbox)
	}
	s.fail = nil
	s.tick()
	if count(s.types(), "job.submitted") != 1 || len(s.job(id).Outbox) > 0 {
		t.Errorf("sent %v, outbox %v", s.types(), s.job(id).Outbox)
	}
}

// TestNoticeOfAStranger costs one look-up and changes nothing.
func TestNoticeOfAStranger(t *testing.T) {
	s := newStack(t)
	s.must(s.Notice(t.Context(), preempt.Notice{VMID: "i-not-ours", Kind: preempt.Interruption, At: s.now}))
}
