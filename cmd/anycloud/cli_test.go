package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/job"
)

var update = flag.Bool("update", false, "rewrite golden files")

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// recovered is a job that came through one preemption.
func recovered() api.Job {
	at := func(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }
	return api.Job{
		ID: "ac-a-1", Name: "a", State: job.Running, Spot: true, Image: "acme/train", Command: []string{"train", "--fast"}, Revision: 20, Run: 1,
		CreatedAt: t0, UpdatedAt: at(60), StartedAt: ptr(at(3)), Env: []string{"TOKEN"}, Attempt: 2, Writer: 2, Preemptions: 1,
		DownSeconds: 2.5, VMSeconds: 61, CostUSD: 0.0051, OnDemandUSD: 0.0169, Bucket: ptr("ac-a-1"),
		Checkpoint: &api.Checkpoint{Latest: 7, Clean: true, CommittedAt: ptr(at(55)), Files: 3, Bytes: 4096, Health: "ok", PauseSeconds: api.Pauses{P50: 0.003, P99: 0.005, Max: 0.006}},
		Attempts: []api.Attempt{
			{Number: 1, VMID: "i-1", Placement: job.Placement{Zone: "z-a", Type: "m1", Spot: true}, StartedAt: at(1), EndedAt: ptr(at(40)), EndReason: job.EndPreempted,
				Phases: job.Phases{LaunchCalled: at(0.5), VMCreated: at(1), Claimed: at(2), ImageReady: at(2.5), Writer: at(2), Restored: at(2.1), Started: at(3), Sealed: at(39), Gone: at(40)}},
			{Number: 2, VMID: "i-2", Placement: job.Placement{Zone: "z-b", Type: "m1", Spot: true}, StartedAt: at(31), Restored: 6,
				Phases: job.Phases{Noticed: at(30), Recorded: at(30.1), LaunchCalled: at(30.2), VMCreated: at(31), Claimed: at(32), ImageReady: at(33), Prefetched: at(34), Writer: at(39), Restored: at(39.5), Started: at(41.5)}},
		},
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("%s is stale (%v): run go test ./cmd/anycloud -update and read the difference; got\n%s", path, err, got)
	}
}

func TestStatusForPeople(t *testing.T) {
	c := newCLI(t)
	c.f.jobs["ac-a-1"] = recovered()
	golden(t, "status.golden", c.ok("status", "ac-a-1"))
	j := recovered()
	j.State, j.Reason, j.ExitCode, j.Message = job.Failed, job.ReasonOutOfMemory, ptr(137), "killed at 16 GiB"
	j.WaitingFor, j.Checkpoint.Health, j.Checkpoint.Problem = nil, "failing", "no such bucket"
	c.f.jobs["ac-a-1"] = j
	golden(t, "failed.golden", c.ok("status", "ac-a-1"))
	c.fails(1, "list --all", "status", "ac-none-1")
}

// TestJSONOnly: with --json, stdout holds one JSON value and no word more.
func TestJSONOnly(t *testing.T) {
	c := newCLI(t)
	c.f.jobs["ac-a-1"] = recovered()
	ended := recovered()
	ended.ID, ended.State = "ac-b-2", job.Succeeded
	c.f.jobs["ac-b-2"] = ended
	c.f.lines = []api.LogLine{{Attempt: 1, Stream: "stdout", Text: "hi", Cursor: "1:1"}}
	var j api.Job
	var jobs []api.Job
	var any map[string]any
	for _, args := range [][]string{{"status", "ac-a-1"}, {"submit", "img"}, {"preempt", "ac-a-1"}, {"resubmit", "ac-b-2"}} {
		j = api.Job{}
		if c.json(&j, args...); j.ID == "" {
			t.Errorf("%v: no job", args)
		}
	}
	c.json(&jobs, "list")
	if len(jobs) != 1 {
		t.Errorf("list: %d jobs", len(jobs))
	}
	c.json(&jobs, "list", "--all")
	if len(jobs) != 2 {
		t.Errorf("list --all over two pages: %d jobs", len(jobs))
	}
	c.json(&jobs, "wait", "ac-b-2")
	c.json(&jobs, "cancel", "ac-a-1")
	c.json(&any, "checkpoint", "now", "ac-a-1")
	c.json(&any, "doctor")
	c.json(&any, "submit", "--dry-run", "img")
	c.json(&any, "version")
	var line api.LogLine
	if c.json(&line, "logs", "ac-a-1"); line.Text != "hi" {
		t.Errorf("%+v", line)
	}
	empty := newCLI(t)
	if o := empty.ok("list", "--json"); strings.TrimSpace(o) != "[]" {
		t.Errorf("no jobs: %q", o)
	}
}

func TestUsageErrors(t *testing.T) {
	c := newCLI(t)
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "job.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, k := range []struct {
		words string
		args  []string
	}{
		{"exclude each other", []string{"submit", "--gpu", "a100", "--vm-type", "p4d.24xlarge", "img"}},
		{"image is missing", []string{"submit"}},
		{"image is missing", []string{"submit", "--", "true"}},
		{"put the command behind --", []string{"submit", "img", "true"}},
		{"see anycloud --help", []string{"submit", "--no-such-flag", "img"}},
		{"duration", []string{"submit", "--grace", "soon", "img"}},
		{"cannot be negative", []string{"submit", "--grace", "-5s", "img"}},
		{"write for example", []string{"submit", "--memory", "lots", "img"}},
		{"no K=V", []string{"submit", "-e", "=x", "img"}},
		{"--env-file", []string{"submit", "--env-file", "/no/such/file", "img"}},
		{"line 2", []string{"submit", "--env-file", file("A=1\n=2\n"), "img"}},
		{"--file", []string{"submit", "--file", "/no/such/file"}},
		{"unknown field", []string{"submit", "--file", file("image: a\nimgae: b\n")}},
		{"--file", []string{"submit", "--file", file("- a\n- b\n")}},
		{"names no image", []string{"submit", "--file", file("spot: true\n"), "--", "true"}},
		{"id is missing", []string{"resubmit"}},
		{"no state", []string{"list", "--state", "sleeping"}},
		{"cannot be negative", []string{"logs", "x", "--tail", "-1"}},
		{"no duration", []string{"wait", "x", "--timeout", "soon"}},
		{"no duration", []string{"preempt", "x", "--notice", "-1s"}},
		{"--at", []string{"checkpoint", "pull", "x", "dir", "--at", "-1"}},
		{"see anycloud --help", []string{"sumbit", "img"}},
		{"see anycloud --help", []string{"status"}},
		{"see anycloud --help", []string{"wait"}},
	} {
		c.fails(exitUsage, k.words, k.args...)
	}
	if len(c.f.submitted) > 0 {
		t.Errorf("submitted %v", c.f.submitted)
	}
}

func TestSubmit(t *testing.T) {
	c := newCLI(t)
	c.env["HOST_VALUE"] = "from the shell"
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if o := c.ok("submit", "--file", write("job.yaml", "image: from-file\nspot: true\ngrace: 5s\nmemory: 2GiB\ncloud: [local]\nenv: {A: file, B: file}\n"),
		"--env-file", write("env", "# comment\n\nB=env-file\nC=env-file\n"), "-e", "C=flag", "-e", "HOST_VALUE", "--grace", "7s", "img", "--", "run", "-x"); o != "ac-new-1\n" {
		t.Errorf("stdout %q", o)
	}
	got, _ := json.Marshal(c.f.submitted[0].Spec)
	want := `{"image":"img","command":["run","-x"],"spot":true,"env":{"A":"file","B":"env-file","C":"flag","HOST_VALUE":"from the shell"},"memory":2147483648,"cloud":["local"],"grace":"7s"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(c.f.keys[0]) < 20 {
		t.Errorf("a lost answer could make two jobs: key %q", c.f.keys[0])
	}
	if _, e, _ := c.run("submit", "--idempotency-key", "used", "img"); !strings.Contains(e, "used before") || c.f.keys[1] != "used" {
		t.Errorf("stderr %q, key %q", e, c.f.keys[1])
	}
	if _, e, _ := c.run("submit", "--persist-bucket", "img"); !strings.Contains(e, "without --spot") {
		t.Errorf("stderr %q", e)
	}
	if o := c.ok("submit", "--dry-run", "--spot", "img"); !strings.Contains(o, "local-a") || !strings.Contains(o, "0.3000") || strings.Contains(o, "ac-new-1") {
		t.Errorf("dry run: %q", o)
	}
	c.f.err = api.Errorf(400, api.CodeInvalid, "there is no GPU %q: did you mean a100?", "a1000")
	c.fails(exitUsage, "did you mean", "submit", "--gpu", "a1000", "img")
}

func TestResubmitSendsWhatWasGiven(t *testing.T) {
	c := newCLI(t)
	j := recovered()
	j.State = job.Failed
	c.f.jobs["ac-a-1"] = j
	c.ok("resubmit", "ac-a-1")
	c.ok("resubmit", "ac-a-1", "--retries", "2", "--fresh", "--", "other", "command")
	c.ok("resubmit", "ac-a-1", "new-image")
	for i, want := range []string{`{}`, `{"fresh":true,"spec":{"image":"","command":["other","command"],"retries":2},"set":["command","retries"]}`, `{"spec":{"image":"new-image"},"set":["image"]}`} {
		r := c.f.resubmitted[i]
		if len(r.Set) == 2 && r.Set[0] > r.Set[1] {
			r.Set[0], r.Set[1] = r.Set[1], r.Set[0]
		}
		if got, _ := json.Marshal(r); string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if c.f.seen[i] != 20 {
			t.Errorf("guarded by revision %d", c.f.seen[i])
		}
	}
}

func TestWaitExitCodes(t *testing.T) {
	c := newCLI(t)
	for id, s := range map[string]job.State{"ac-a-1": job.Succeeded, "ac-b-2": job.Failed, "ac-c-3": job.Running} {
		c.f.jobs[id] = api.Job{ID: id, State: s, Reason: map[job.State]job.Reason{job.Failed: job.ReasonExitCode}[s]}
	}
	for code, args := range map[int][]string{
		0: {"ac-a-1"}, exitFailed: {"ac-a-1", "ac-b-2"}, exitUnknown: {"ac-a-1", "ac-none-9"}, exitTimeout: {"ac-c-3", "--timeout", "300ms"},
	} {
		if _, e, got := c.run(append([]string{"wait"}, args...)...); got != code {
			t.Errorf("wait %v: exit %d, want %d: %s", args, got, code, e)
		}
	}
	if _, e, _ := c.run("wait", "ac-b-2"); !strings.Contains(e, "exit_code") {
		t.Errorf("stderr %q", e)
	}
}

func TestCancelGuardsWhatWasSeen(t *testing.T) {
	c := newCLI(t)
	c.f.jobs["ac-a-1"] = recovered()
	_, e, code := c.run("cancel", "ac-a-1", "ac-none-1", "--now")
	if code != 1 || !strings.Contains(e, "ac-none-1") || len(c.f.cancelled) != 1 || !c.f.cancelled[0].Now || c.f.seen[0] != 20 {
		t.Errorf("exit %d: %s; %v, %v", code, e, c.f.cancelled, c.f.seen)
	}
}

func TestLogsGoWhereTheyCameFrom(t *testing.T) {
	c := newCLI(t)
	c.f.jobs["ac-a-1"] = recovered()
	c.f.lines = []api.LogLine{
		{Attempt: 1, Stream: "stdout", Text: "out"}, {Attempt: 1, Stream: "stderr", Text: "err"}, {Attempt: 2, Stream: "anycloud", Text: "restored"},
		{Attempt: 2, Stream: "stdout", Text: "half ", Partial: true}, {Attempt: 2, Stream: "stdout", Text: "a line"},
	}
	for _, follow := range []string{"--follow=false", "--follow"} {
		o, e, code := c.run("logs", "ac-a-1", follow)
		if code != 0 || o != "out\nhalf a line\n" || e != "err\n[anycloud 2] restored\n" {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", follow, code, o, e)
		}
	}
}

func TestPreemptAndCheckpointNow(t *testing.T) {
	c := newCLI(t)
	c.f.jobs["ac-a-1"] = recovered()
	c.ok("preempt", "ac-a-1")
	c.ok("preempt", "ac-a-1", "--notice", "0s")
	if c.f.preempted[0].Notice != nil || c.f.preempted[1].Notice == nil || *c.f.preempted[1].Notice != 0 {
		t.Errorf("%+v", c.f.preempted)
	}
	if o := c.ok("checkpoint", "now", "ac-a-1"); o != "12\n" || c.f.commits < 2 {
		t.Errorf("%q after %d calls", o, c.f.commits)
	}
}

// TestDoctorAsksFirst: --fix mends nothing without a yes.
func TestDoctorAsksFirst(t *testing.T) {
	c := newCLI(t)
	if o, _, _ := c.run("doctor"); !strings.Contains(o, "VM i-1 has no record") {
		t.Errorf("%q", o)
	}
	c.stdin = "n\n"
	c.run("doctor", "--fix")
	if len(c.f.fixed) > 0 {
		t.Fatalf("fixed %v after no", c.f.fixed)
	}
	c.stdin = "n\nyes\n" // each is asked for
	c.run("doctor", "--fix")
	if len(c.f.fixed) != 1 || c.f.fixed[0] != "vm-i-2" {
		t.Errorf("fixed %v after yes", c.f.fixed)
	}
}

func TestCompletionAndHelp(t *testing.T) {
	c := newCLI(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if o := c.ok("completion", shell); !strings.Contains(o, "anycloud") {
			t.Errorf("%s: %.60q", shell, o)
		}
	}
	if o := c.ok("help"); !strings.Contains(o, "submit") || !strings.Contains(o, "resubmit") {
		t.Errorf("help: %q", o)
	}
}
