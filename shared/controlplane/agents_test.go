package controlplane

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"anycloud/shared/api"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
	"anycloud/shared/store/memstore"
)

// TestReportsInAnyOrder: doubled and old reports change nothing.
func TestReportsInAnyOrder(t *testing.T) {
	s := newStack(t)
	id := s.running(job.Spec{Spot: true})
	newer := api.Report{Seq: 9, Checkpoint: &job.Checkpoint{Latest: 8, Health: "ok"}}
	_, err := s.report(id, newer)
	s.must(err)
	before := s.job(id)
	for _, r := range []api.Report{newer, {Seq: 3, Checkpoint: &job.Checkpoint{Latest: 2, Health: "failing"}}, {Seq: 1, Started: &api.ContainerStarted{At: s.now.Add(time.Hour)}}} {
		_, err := s.report(id, r)
		s.must(err)
	}
	if after := s.job(id); after.Revision != before.Revision {
		t.Errorf("old reports were taken: %+v then %+v", before.Checkpoint, after.Checkpoint)
	}
}

// TestFencedAttempt: once the next attempt is the writer, nothing that the old
// one says about commits, exits or failures is taken, and it is told to stop.
func TestFencedAttempt(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	old := s.vm(id)
	s.cloud.Vanish(old)
	s.tick()
	_, err := s.claim(s.vm(id))
	s.must(err)
	_, err = s.report(id, api.Report{Started: &api.ContainerStarted{At: s.now}, Checkpoint: &job.Checkpoint{Latest: 3, Health: "ok"}})
	s.must(err)
	before := s.job(id)
	for name, r := range map[string]api.Report{
		"commit":  {Checkpoint: &job.Checkpoint{Latest: 9, Health: "failing"}},
		"save":    {SaveDone: 5, SaveDoneAs: 9},
		"exit":    {Exit: &api.Exit{Attempt: 1}},
		"of 2":    {Exit: &api.Exit{Attempt: 2}},
		"failure": {Failure: &api.Failure{Reason: job.ReasonRestoreFailed, Permanent: true}},
	} {
		o, err := s.reportAs(id, 1, r)
		s.must(err)
		now := s.job(id)
		if o.Role != api.Stop || o.WriterNo != 2 || now.State != job.Running || *now.Checkpoint != *before.Checkpoint || now.SaveDone != 0 || now.Outcome != nil {
			t.Errorf("%s was taken: %+v, role %s", name, now, o.Role)
		}
	}
	_, err = s.reportAs(id, 2, api.Report{})
	s.must(err)
	// Its own exit, found in the log, is its successor's to report; by then it
	// has one of its own.
	_, err = s.reportAs(id, 2, api.Report{Exit: &api.Exit{Attempt: 2, Code: 0}})
	s.must(err)
	s.must(s.Cleanup(ctx, id))
	s.settle(id)
	if s.state(id, job.Succeeded); count(s.types(), "job.succeeded") != 1 {
		t.Errorf("sent %v", s.types())
	}
	// After the end.
	_, err = s.reportAs(id, 2, api.Report{Exit: &api.Exit{Attempt: 2, Code: 1}})
	s.must(err)
	s.state(id, job.Succeeded)
	_, err = s.Credentials(ctx, id, 2, secretOf(s.job(id).AttemptNo(2).VMID))
	wantCode(t, err, api.CodeSuperseded)
	_, err = s.Report(ctx, "ac-none-1", 1, "x", api.Report{})
	wantCode(t, err, api.CodeEnded)
	_, err = s.Credentials(ctx, "ac-none-1", 1, "x")
	wantCode(t, err, api.CodeEnded)
	_, err = s.Report(ctx, id, 7, "x", api.Report{})
	wantCode(t, err, api.CodeSuperseded)
}

// TestCredentialsAreTheWriters: an attempt that lives, but is fenced or kept, gets
// none.
func TestCredentialsAreTheWriters(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true, Persist: true})
	first := s.vm(id)
	s.cloud.Interrupt(first, 2*time.Minute, true)
	s.must(s.Notice(ctx, *s.cloud.Notice(first)))
	_, err := s.Credentials(ctx, id, 1, secretOf(first))
	s.must(err) // it still has to save
	s.must(s.Recover(ctx, id))
	second := s.vm(id)
	_, err = s.claim(second)
	s.must(err)
	_, err = s.Credentials(ctx, id, 2, secretOf(second))
	s.must(err) // to prefetch
	_, err = s.reportAs(id, 1, api.Report{Sealed: true, StoppedAt: s.now})
	s.must(err)
	_, err = s.Credentials(ctx, id, 1, secretOf(first))
	if wantCode(t, err, api.CodeSuperseded); !s.alive(first) {
		t.Fatal("the test wants it alive")
	}
	_, err = s.report(id, api.Report{Started: &api.ContainerStarted{At: s.now}})
	s.must(err)
	s.end(id, 0)
	s.settle(id)
	if s.state(id, job.Succeeded); !s.alive(second) {
		t.Fatal("the VM was not kept")
	}
	_, err = s.Credentials(ctx, id, 2, secretOf(second))
	wantCode(t, err, api.CodeSuperseded)
}

// TestReportsTwice: every fact doubled, and all of them again in the other
// order, counts once. What the table did not answer is reported again.
func TestReportsTwice(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true, Retries: 3})
	facts := []api.Report{
		{Started: &api.ContainerStarted{At: s.now}},
		{Checkpoint: &job.Checkpoint{Latest: 1, Health: "ok"}},
		{Checkpoint: &job.Checkpoint{Latest: 2, Health: "ok"}, SaveDone: 0},
		{StoppedAt: s.now, Exit: &api.Exit{Attempt: 1, Code: 5, StoppedAt: s.now}},
	}
	for i := range facts {
		facts[i].Seq = int64(i + 1)
	}
	s.store.Hook = func(_ context.Context, c memstore.Call) error {
		if c.Op == memstore.OpPut && c.When == memstore.After {
			return errors.New("not answered")
		}
		return nil
	}
	for _, f := range facts[1:] {
		if _, err := s.report(id, f); err == nil {
			t.Error("an unanswered write is an answered report")
		}
	}
	s.store.Hook = nil
	for i := range facts {
		for _, f := range []api.Report{facts[i], facts[len(facts)-1-i]} {
			_, err := s.reportAs(id, 1, f)
			s.must(err)
		}
	}
	j := s.job(id)
	if j.Failures != 1 || j.State != job.Recovering || j.Checkpoint.Latest != 2 || j.Attempt != 1 {
		t.Errorf("%s: failures %d, latest %d, attempt %d", j.State, j.Failures, j.Checkpoint.Latest, j.Attempt)
	}
	s.settleAttempt(id, 2)
	for range 3 { // of attempt 1, after attempt 2 is there
		_, err := s.reportAs(id, 1, facts[3])
		s.must(err)
	}
	if j := s.job(id); j.Failures != 1 || j.State != job.Starting {
		t.Errorf("%s, failures %d", j.State, j.Failures)
	}
	_, err := s.Cancel(ctx, id, 0, api.CancelRequest{})
	s.must(err)
	s.settle(id)
}

// settleAttempt sweeps until the job's attempt of that number has a VM.
func (s *stack) settleAttempt(id string, n int) {
	s.t.Helper()
	for range 60 {
		if s.job(id).AttemptNo(n) != nil {
			return
		}
		s.tick()
	}
	s.t.Fatalf("no attempt %d: %+v", n, s.job(id))
}

// TestReportedNotice: an agent speaks of its own VM only, and its warning counts
// as the cloud's does.
func TestReportedNotice(t *testing.T) {
	s := newStack(t)
	other := s.running(job.Spec{Spot: true})
	id := s.running(job.Spec{Spot: true})
	for _, kind := range []preempt.Kind{preempt.Gone, "nonsense"} {
		_, err := s.report(id, api.Report{Notice: &preempt.Notice{VMID: s.vm(id), Kind: kind, At: s.now}})
		s.must(err)
	}
	s.state(id, job.Running)
	o, err := s.report(id, api.Report{Notice: &preempt.Notice{VMID: s.vm(other), Kind: preempt.Rebalance, At: s.now}})
	s.must(err)
	if s.state(id, job.Running); !o.SaveNow {
		t.Errorf("a rebalance orders no save: %+v", o)
	}
	o, err = s.report(id, api.Report{Notice: &preempt.Notice{VMID: s.vm(other), Kind: preempt.Interruption, At: s.now, Deadline: s.now.Add(2 * time.Minute)}})
	s.must(err)
	s.state(id, job.Recovering)
	s.state(other, job.Running)
	if o.Role != api.Writer || o.Notice == nil || o.Notice.VMID != s.vm(id) {
		t.Errorf("%+v", o)
	}
	if pools, _ := s.readPools(t.Context()); pools[s.job(id).Attempts[0].Placement.Pool()].IsZero() {
		t.Errorf("bad pools: %v", pools)
	}
}

// TestReportedFailure ends the job if another VM would fail the same way, and is
// made up for by another VM if not; its words are bounded.
func TestReportedFailure(t *testing.T) {
	s := newStack(t)
	id := s.running(job.Spec{Spot: true})
	_, err := s.report(id, api.Report{
		Checkpoint: &job.Checkpoint{Latest: 1, Health: "failing", Problem: strings.Repeat("x", 1<<16)},
		Failure:    &api.Failure{Reason: job.ReasonRestoreFailed, Message: "bad \xff " + strings.Repeat("ß", 1<<16), Permanent: true},
	})
	s.must(err)
	s.settle(id)
	v, err := s.Get(t.Context(), id)
	s.must(err)
	if v.State != job.Failed || v.Reason != job.ReasonRestoreFailed || !utf8.ValidString(v.Message) || len(v.Message) > maxText+10 || len(v.Checkpoint.Problem) > maxText+10 {
		t.Errorf("%s, %s, %d bytes of message", v.State, v.Reason, len(v.Message))
	}
	unfit := s.running(job.Spec{Spot: true})
	_, err = s.report(unfit, api.Report{Failure: &api.Failure{Message: "no disk"}})
	s.must(err)
	if v, err := s.Get(t.Context(), unfit); err != nil || v.State != job.Recovering || v.WaitReason != "no disk" || v.Failures != 0 {
		t.Errorf("%s for %q, failures %d, %v", v.State, v.WaitReason, v.Failures, err)
	}
	s.settleAttempt(unfit, 2)
}

// TestSameReportIsNoWrite: an agent of another zone's clock that repeats itself
// costs no write.
func TestSameReportIsNoWrite(t *testing.T) {
	s := newStack(t)
	id := s.running(job.Spec{Spot: true})
	at := s.now
	say := func() int64 { // as decoded from the wire: a zone of its own each time
		zoned := at.In(time.FixedZone("", 3600))
		_, err := s.report(id, api.Report{Checkpoint: &job.Checkpoint{Latest: 1, CommittedAt: zoned, Health: "ok"}})
		s.must(err)
		return s.job(id).Revision
	}
	first := say()
	s.pass(time.Second)
	if again := say(); again != first {
		t.Errorf("revision %d, then %d", first, again)
	}
}
