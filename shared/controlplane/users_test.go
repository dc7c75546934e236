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
	"anycloud/shared/bucket/membucket"
	"anycloud/shared/job"
)

// refused wants a problem with words that say what to do.
func refused(t *testing.T, err error, status int, words string) {
	t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != status || !strings.Contains(p.Detail, words) {
		t.Errorf("got %v, want %d with %q", err, status, words)
	}
}

func TestSubmitRefusesWhatCannotBe(t *testing.T) {
	s := newStack(t)
	long := job.Duration(2 * time.Hour)
	for words, spec := range map[string]job.Spec{
		"no image is given":         {},
		"is not an image reference": {Image: "Not An Image"},
		"needs a command":           {Image: "exec:"},
		"at most 100":               {Image: "i", Name: strings.Repeat("n", 101)},
		"exclude each other":        {Image: "i", GPU: "a100", VMType: "m1"},
		"is no GPU":                 {Image: "i", GPU: "A 100"},
		"too many GPUs":             {Image: "i", GPU: "a100:999"},
		"amd64 or arm64":            {Image: "i", Arch: "mips"},
		"cannot be negative":        {Image: "i", Memory: -1},
		"0 means none":              {Image: "i", Retries: -1},
		"at least 1s":               {Image: "i", CheckpointInterval: job.Duration(time.Millisecond)},
		"0s to 1h":                  {Image: "i", Grace: long},
		"0 (never freeze) to 10s":   {Image: "i", MaxPause: &long},
		"keep_checkpoint":           {Image: "i", KeepCheckpoint: -1},
		"at least 1m, or never":     {Image: "i", UnresponsiveAfter: job.Duration(time.Second)},
		"not the name of":           {Image: "i", Env: map[string]string{"1A": "x"}},
		"the agent's own":           {Image: "i", Env: map[string]string{"ANYCLOUD_JOB_ID": "x"}},
		"is not configured here":    {Image: "i", Clouds: []string{"moon"}},
		"one cloud":                 {Image: "i", Clouds: []string{"fake", "fake"}},
		"NUL":                       {Image: "i", Command: []string{"a\x00b"}},
	} {
		_, err := s.Submit(t.Context(), api.SubmitRequest{Spec: spec}, "")
		refused(t, err, http.StatusBadRequest, words)
	}
	_, err := s.Submit(t.Context(), api.SubmitRequest{Spec: job.Spec{Image: "i", VMType: "none.such"}}, "")
	refused(t, err, http.StatusUnprocessableEntity, "no machine can hold")
	if page, err := s.List(t.Context(), api.ListQuery{All: true}); err != nil || len(page.Jobs) > 0 {
		t.Errorf("jobs were made: %+v, %v", page.Jobs, err)
	}
}

func TestIDsAreLabels(t *testing.T) {
	s := newStack(t)
	label := regexp.MustCompile(`^ac-[a-z0-9]([a-z0-9-]*[a-z0-9])?-id[0-9]{8}$`)
	for _, spec := range []job.Spec{
		{Image: "ghcr.io/Acme-Corp/My_Training:latest"}, {Image: "i", Name: "Größe & Co. " + strings.Repeat("very ", 16)}, {Image: "i", Name: "日本"},
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

// end brings a running job to its end by exit code.
func (s *stack) end(id string, code int) {
	s.t.Helper()
	_, err := s.report(id, api.Report{StoppedAt: s.now, Exit: &api.Exit{Attempt: s.job(id).Attempt, Code: code, StoppedAt: s.now}})
	s.must(err)
	s.must(s.Cleanup(s.t.Context(), id))
	s.tick()
}

func TestResubmit(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true, Retries: 1, Env: map[string]string{"A": "1"}})
	_, err := s.Resubmit(ctx, id, 0, api.ResubmitRequest{})
	refused(t, err, http.StatusConflict, "cancel it first")
	s.end(id, 3) // retried
	s.must(s.Recover(ctx, id))
	s.pass(time.Hour)
	s.must(s.Recover(ctx, id))
	_, err = s.claim(s.vm(id))
	s.must(err)
	_, err = s.report(id, api.Report{Started: &api.ContainerStarted{At: s.now}})
	s.must(err)
	s.end(id, 3)
	s.state(id, job.Failed)
	seen := s.job(id)
	if seen.Failures != 2 || seen.Attempt != 2 {
		t.Fatalf("failures %d, attempt %d", seen.Failures, seen.Attempt)
	}

	// Only what is named changes; a repeat that arrives late hits no later run.
	ask := api.ResubmitRequest{Spec: &job.Spec{Image: "acme/fixed"}, Set: []string{"image", "retries"}}
	v, err := s.Resubmit(ctx, id, seen.Revision, ask)
	s.must(err)
	j := s.job(id)
	if v.Run != 2 || j.Spec.Image != "acme/fixed" || j.Spec.Retries != 0 || j.Spec.Env["A"] != "1" || j.RunFailures != 0 || j.Failures != 2 {
		t.Errorf("%+v", j.Spec)
	}
	_, err = s.Resubmit(ctx, id, seen.Revision, ask)
	refused(t, err, http.StatusPreconditionFailed, "look again")
	s.must(s.Recover(ctx, id))
	if a := s.job(id).Attempt; a != 3 {
		t.Errorf("attempts go on: %d", a)
	}
	_, err = s.Cancel(ctx, id, seen.Revision, api.CancelRequest{})
	refused(t, err, http.StatusPreconditionFailed, "look again")
}

func TestResubmitWithoutABucket(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	disposed := s.running(job.Spec{Spot: true})
	s.end(disposed, 0)
	s.state(disposed, job.Succeeded)
	_, err := s.Resubmit(ctx, disposed, 0, api.ResubmitRequest{})
	refused(t, err, http.StatusConflict, "submit it anew")

	byHand := s.running(job.Spec{Spot: true, PersistBucket: true})
	s.end(byHand, 0)
	s.state(byHand, job.Succeeded)
	for {
		done, err := s.buckets.Dispose(ctx, byHand) // the user's own clean-up
		s.must(err)
		if done {
			break
		}
	}
	_, err = s.Resubmit(ctx, byHand, 0, api.ResubmitRequest{})
	refused(t, err, http.StatusConflict, "--fresh")
	_, err = s.Resubmit(ctx, "ac-none-1", 0, api.ResubmitRequest{})
	refused(t, err, http.StatusNotFound, "list --all")
}

func TestCancel(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	pending := s.submit(job.Spec{})
	_, err := s.Cancel(ctx, pending, 0, api.CancelRequest{})
	s.must(err)
	s.must(s.Cleanup(ctx, pending))
	s.state(pending, job.Cancelled)

	id := s.running(job.Spec{Spot: true, Grace: job.Duration(20 * time.Second)})
	_, err = s.Cancel(ctx, id, 0, api.CancelRequest{})
	s.must(err)
	o, err := s.report(id, api.Report{})
	s.must(err)
	if o.Finish == nil || o.Finish.Now || o.Finish.Deadline.Sub(s.now) < 10*time.Minute {
		t.Errorf("the writer is told %+v", o.Finish)
	}
	s.must(s.Cleanup(ctx, id))
	if !s.alive(s.vm(id)) {
		t.Fatal("no time for the final commit")
	}
	_, err = s.Cancel(ctx, id, 0, api.CancelRequest{Now: true}) // impatient
	s.must(err)
	s.must(s.Cleanup(ctx, id))
	s.tick()
	s.state(id, job.Cancelled)
	if v, err := s.Get(ctx, id); err != nil || v.KeepUntil == nil || v.Bucket == nil {
		t.Errorf("%+v, %v", v, err)
	}
	_, err = s.Cancel(ctx, id, 0, api.CancelRequest{}) // a repeat
	s.must(err)
	_, err = s.Cancel(ctx, "ac-none-1", 0, api.CancelRequest{})
	refused(t, err, http.StatusNotFound, "list --all")
}

// TestBucketsEnd: after success at once, after failure when its time has come,
// persisted never; an interruption halfway only delays it.
func TestBucketsEnd(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	there := func(id string) bool {
		ok, err := s.buckets.Exists(ctx, id)
		s.must(err)
		return ok
	}
	kept := s.running(job.Spec{Spot: true, PersistBucket: true})
	s.end(kept, 0)
	failed := s.running(job.Spec{Spot: true, KeepCheckpoint: job.Duration(time.Hour)})
	s.end(failed, 1)
	if !there(kept) || !there(failed) {
		t.Fatal("a bucket went too early")
	}
	fail := true
	s.buckets.Hook = func(_ context.Context, c membucket.Call) error {
		if c.Op == membucket.OpDispose && c.When == membucket.After && fail {
			return errors.New("not answered")
		}
		return nil
	}
	id := s.running(job.Spec{Spot: true})
	_, err := s.report(id, api.Report{Exit: &api.Exit{Attempt: 1, StoppedAt: s.now}})
	s.must(err)
	s.Cleanup(ctx, id) //nolint:errcheck // terminates
	s.pass(time.Minute)
	s.Tick(ctx, s.now) //nolint:errcheck // the hook refuses
	s.pass(time.Minute)
	s.Tick(ctx, s.now) //nolint:errcheck // likewise
	if j := s.job(id); j.State != job.Stopping || j.Bucket.State != job.BucketDisposing {
		t.Errorf("%s, bucket %s", j.State, j.Bucket.State)
	}
	_, err = s.Resubmit(ctx, id, 0, api.ResubmitRequest{})
	refused(t, err, http.StatusConflict, "")
	fail = false
	s.tick()
	s.state(id, job.Succeeded)
	s.pass(2 * time.Hour)
	s.tick()
	if !there(kept) || there(failed) || there(id) {
		t.Errorf("kept %v, failed %v, succeeded %v", there(kept), there(failed), there(id))
	}
	s.state(failed, job.Failed)
	plain := s.running(job.Spec{})
	if v, err := s.Get(ctx, plain); err != nil || v.Bucket != nil || v.Checkpoint != nil {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestDrillAndCheckpointNow(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	minus := job.Duration(-1)
	_, err := s.Preempt(ctx, id, api.PreemptRequest{Notice: &minus})
	refused(t, err, http.StatusBadRequest, "negative")
	ask, err := s.Checkpoint(ctx, id, api.CheckpointRequest{})
	s.must(err)
	o, err := s.report(id, api.Report{})
	s.must(err)
	if ask.Done || o.SaveRequest != ask.Request {
		t.Errorf("%+v, ordered %d", ask, o.SaveRequest)
	}
	_, err = s.report(id, api.Report{SaveDone: ask.Request, SaveDoneAs: 5, Checkpoint: &job.Checkpoint{Latest: 5}})
	s.must(err)
	if r, err := s.Checkpoint(ctx, id, api.CheckpointRequest{Request: ask.Request}); err != nil || !r.Done || r.Commit != 5 {
		t.Errorf("%+v, %v", r, err)
	}
	zero := job.Duration(0)
	_, err = s.Preempt(ctx, id, api.PreemptRequest{Notice: &zero})
	s.must(err)
	s.tick()
	if s.job(id).Preemptions != 1 {
		t.Error("the drill took nothing")
	}
	plain := s.running(job.Spec{})
	_, err = s.Checkpoint(ctx, plain, api.CheckpointRequest{})
	refused(t, err, http.StatusConflict, "--spot")
	_, err = s.CheckpointAccess(ctx, plain)
	refused(t, err, http.StatusConflict, "--spot")
	s.end(plain, 0)
	_, err = s.Preempt(ctx, plain, api.PreemptRequest{})
	refused(t, err, http.StatusConflict, "no VM to preempt")
}

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
