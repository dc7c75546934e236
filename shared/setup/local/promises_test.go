package local_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anycloud/shared/job"
)

// The promises of the product, one test each, through the built programs.

func (b *box) logs(id, want string) {
	b.Helper()
	b.until(20*time.Second, "a line "+want, func() bool { return strings.Contains(b.must("logs", id), want) })
}

func (b *box) ends(id string, state job.State, reason job.Reason) {
	b.Helper()
	b.run("wait", id, "--timeout", "40s")
	if j := b.status(id); j.State != state || j.Reason != reason {
		b.Fatalf("%s (%s: %s), want %s (%s)\n%s", j.State, j.Reason, j.Message, state, reason, b.must("logs", id))
	}
}

func (b *box) file(path, text string) string {
	b.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

func (b *box) read(path string) string {
	b.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

// TestPersistBucket: kept after success, and resubmit goes on from it, bit for
// bit; without --spot the flag does nothing.
func TestPersistBucket(t *testing.T) {
	t.Parallel()
	b := newBox(t).serve()
	script := `cd "$ANYCLOUD_CHECKPOINT_DIR"; list() { find . -printf '%p %m %T@ %s %l\n' | sort; }
		if test -e f; then list > "$1"; exit; fi
		mkdir -p empty/dir; echo 1 > f; ln -s f link; truncate -s 1M sparse; chmod 640 f; touch -d @1000000000.123456789 f; list > "$1"`
	dir := t.TempDir()
	id := b.submit("--spot", "--persist-bucket", "exec:", "--", "sh", "-c", script, "sh", filepath.Join(dir, "first"))
	b.ends(id, job.Succeeded, "")
	if j := b.status(id); j.Bucket == nil || *j.Bucket != id || !j.PersistBucket {
		t.Fatalf("%+v", j)
	}
	b.must("resubmit", id, "--", "sh", "-c", script, "sh", filepath.Join(dir, "second"))
	b.ends(id, job.Succeeded, "")
	if first, second := b.read(filepath.Join(dir, "first")), b.read(filepath.Join(dir, "second")); first != second || first == "" {
		t.Errorf("left:\n%s\nfound:\n%s", first, second)
	}
	j := b.status(id)
	if j.Attempt != 2 || j.Attempts[1].Restored == 0 {
		t.Errorf("%+v", j.Attempts)
	}
	// The user's own clean-up does not confuse it.
	if err := os.RemoveAll(filepath.Join(b.home, "buckets", id)); err != nil {
		t.Fatal(err)
	}
	b.fails(1, "--fresh", "resubmit", id)
	b.must("resubmit", id, "--fresh", "--", "true")
	b.ends(id, job.Succeeded, "")

	plain := b.submit("--persist-bucket", "exec:", "--", "true")
	b.ends(plain, job.Succeeded, "")
	if j := b.status(plain); j.Bucket != nil {
		t.Errorf("a bucket off spot: %v", *j.Bucket)
	}
}

// TestBucketDeletedWhileItRuns: saves fail clearly, the container works on.
func TestBucketDeletedWhileItRuns(t *testing.T) {
	t.Parallel()
	b := newBox(t).serve()
	id := b.submit("--spot", "exec:", "--", "sh", "-c", `n=0; while test ! -e "$1"; do n=$((n+1)); echo $n > "$ANYCLOUD_CHECKPOINT_DIR/n"; sleep 0.1; done; echo worked on`, "sh", filepath.Join(b.home, "go"))
	b.until(20*time.Second, "a commit", func() bool { return b.status(id).Checkpoint.Latest > 0 })
	if err := os.RemoveAll(filepath.Join(b.home, "buckets", id)); err != nil {
		t.Fatal(err)
	}
	b.until(20*time.Second, "failing saves", func() bool {
		k := b.status(id).Checkpoint
		return k.Health == "failing" && strings.Contains(k.Problem, "no such bucket")
	})
	if j := b.status(id); j.State != job.Running {
		t.Errorf("%s", j.State)
	}
	b.file(filepath.Join(b.home, "go"), "")
	b.logs(id, "worked on")
}

// TestPersist: the VM is kept after the end, shown with its cost, and released.
func TestPersist(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	b.flags = []string{"--pretend-prices", "36,72"}
	b.serve()
	id := b.submit("--spot", "--persist", "exec:", "--", "true")
	b.ends(id, job.Succeeded, "")
	j := b.status(id)
	if len(j.Kept) != 1 || j.Kept[0].Price != 36 {
		t.Fatalf("%+v", j.Kept)
	}
	if out := b.must("list"); !strings.Contains(out, "is kept") && !strings.Contains(out, "kept for") {
		t.Errorf("list:\n%s", out)
	}
	if out, _, _ := b.run("doctor"); !strings.Contains(out, "is kept since") || !strings.Contains(out, "USD") {
		t.Errorf("doctor:\n%s", out)
	}
	if dirs, _ := filepath.Glob(filepath.Join(b.home, "vms", "i-*")); len(dirs) != 1 {
		t.Errorf("VMs: %v", dirs)
	}
	b.must("cancel", id)
	b.until(20*time.Second, "the VM's end", func() bool { return len(b.status(id).Kept) == 0 && len(b.status(id).Doomed) == 0 })
	b.nothingLeft(id)
	if j := b.status(id); j.State != job.Succeeded {
		t.Errorf("%s after its VM was released", j.State)
	}
}

// TestBucketSync: the input is there, read only where the system allows it; the
// output is whole across a preemption in the middle of appending.
func TestBucketSync(t *testing.T) {
	t.Parallel()
	b := newBox(t).serve()
	in, out := filepath.Join(b.home, "in"), filepath.Join(b.home, "out")
	b.file(filepath.Join(in, "a.txt"), "alpha")
	b.file(filepath.Join(in, "deep/er/b.txt"), "beta")
	b.file(filepath.Join(out, "of others"), "mine")
	script := `cat "$ANYCLOUD_INPUT_DIR/a.txt" "$ANYCLOUD_INPUT_DIR/deep/er/b.txt" > "$ANYCLOUD_OUTPUT_DIR/copy"
		n=$(cat "$ANYCLOUD_CHECKPOINT_DIR/n" 2>/dev/null || echo 0)
		while test $n -lt 40; do n=$((n+1)); echo $n >> "$ANYCLOUD_OUTPUT_DIR/results"; echo $n > "$ANYCLOUD_CHECKPOINT_DIR/n"; echo at $n; sleep 0.1; done
		rm "$ANYCLOUD_OUTPUT_DIR/copy"`
	id := b.submit("--spot", "--output-delete", "--input", "file://"+in, "--output", "file://"+out, "exec:", "--", "sh", "-c", script)
	b.until(20*time.Second, "a mirrored copy", func() bool { _, err := os.Stat(filepath.Join(out, "copy")); return err == nil })
	if got := b.read(filepath.Join(out, "copy")); got != "alphabeta" {
		t.Errorf("copy is %q", got)
	}
	b.logs(id, "at 15")
	b.must("preempt", id, "--notice", "0s")
	b.ends(id, job.Succeeded, "")
	var want strings.Builder
	for n := 1; n <= 40; n++ {
		fmt.Fprintln(&want, n)
	}
	if got := b.read(filepath.Join(out, "results")); got != want.String() {
		t.Errorf("results:\n%s", got)
	}
	if _, err := os.Stat(filepath.Join(out, "copy")); err == nil {
		t.Error("what the job deleted is still in the output")
	}
	if got := b.read(filepath.Join(out, "of others")); got != "mine" {
		t.Errorf("what others put there is %q", got)
	}
	b.nothingLeft(id)
}

func TestOutputWriteOnce(t *testing.T) {
	t.Parallel()
	b := newBox(t).serve()
	out := filepath.Join(b.home, "out")
	script := `cd "$ANYCLOUD_OUTPUT_DIR"; if test -e "$ANYCLOUD_CHECKPOINT_DIR/half"; then ls; echo second > b; exit; fi
		echo first > a; echo 1 > "$ANYCLOUD_CHECKPOINT_DIR/half"; while :; do sleep 0.1; done`
	id := b.submit("--spot", "--output-write-once", "--output", "file://"+out, "exec:", "--", "sh", "-c", script)
	b.until(30*time.Second, "a is mirrored", func() bool { _, err := os.Stat(filepath.Join(out, "a")); return err == nil })
	b.until(20*time.Second, "a commit without it", func() bool { return b.status(id).Checkpoint.Files == 1 })
	b.must("preempt", id, "--notice", "0s")
	b.ends(id, job.Succeeded, "")
	if a, second := b.read(filepath.Join(out, "a")), b.read(filepath.Join(out, "b")); a != "first\n" || second != "second\n" {
		t.Errorf("%q, %q", a, second)
	}
	if log := b.must("logs", id); strings.Contains(log, "a\n") {
		t.Errorf("what was mirrored once for all was restored:\n%s", log)
	}
}

func TestBucketSyncErrors(t *testing.T) {
	t.Parallel()
	b := newBox(t).serve()
	b.fails(2, "no bucket URL", "submit", "--input", "/data", "exec:", "--", "true")
	b.fails(2, "reach buckets of file only", "submit", "--output", "s3://b/x", "exec:", "--", "true")
	b.fails(2, "exclude each other", "submit", "--output", "file:///tmp/x", "--output-delete", "--output-write-once", "exec:", "--", "true")
	b.fails(2, "need an output", "submit", "--output-delete", "exec:", "--", "true")
	id := b.submit("--input", "file://"+filepath.Join(b.home, "nothing"), "exec:", "--", "true")
	b.ends(id, job.Failed, job.ReasonInputFailed)
	if j := b.status(id); !strings.Contains(j.Message, "nothing") {
		t.Errorf("message %q", j.Message)
	}
}

// TestOnDemand: a job without a bucket comes back from the beginning, if that is
// allowed.
func TestOnDemand(t *testing.T) {
	t.Parallel()
	b := newBox(t).serve()
	script := `echo begun; while test ! -e "$1"; do sleep 0.05; done`
	lost := b.submit("exec:", "--", "sh", "-c", script, "sh", filepath.Join(b.home, "go"))
	b.logs(lost, "begun")
	b.must("preempt", lost, "--notice", "0s")
	b.ends(lost, job.Failed, job.ReasonVMLost)

	id := b.submit("--restart-on-loss", "exec:", "--", "sh", "-c", script, "sh", filepath.Join(b.home, "go"))
	b.logs(id, "begun")
	b.must("preempt", id, "--notice", "0s")
	b.until(20*time.Second, "a second start", func() bool { return strings.Count(b.must("logs", id), "begun") == 2 })
	b.file(filepath.Join(b.home, "go"), "")
	b.ends(id, job.Succeeded, "")
	if j := b.status(id); j.Attempts[1].StartedAt.Before(*j.Attempts[0].EndedAt) && j.Attempts[1].Phases.Started.Before(*j.Attempts[0].EndedAt) {
		t.Errorf("the new container started before the old VM was gone: %+v", j.Attempts)
	}
}

func TestLimitsEndAJob(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	b.flags = []string{"--pretend-prices", "3600,7200"} // a dollar a second
	b.serve()
	sleep := []string{"exec:", "--", "sh", "-c", `echo up; while :; do echo x >> "$ANYCLOUD_CHECKPOINT_DIR/x"; sleep 0.1; done`}
	submit := func(args ...string) string { return b.submit(append(append(args, "--spot"), sleep...)...) }
	runtime, deadline, cost := submit("--max-runtime", "2s"), submit("--deadline", "3s"), submit("--max-cost", "4")
	preempted := submit("--max-preemptions", "0")
	b.logs(preempted, "up")
	b.must("preempt", preempted, "--notice", "5s")
	b.ends(preempted, job.Failed, job.ReasonMaxPreemptions)
	b.ends(runtime, job.Failed, job.ReasonMaxRuntime)
	b.ends(deadline, job.Failed, job.ReasonDeadline)
	b.ends(cost, job.Failed, job.ReasonMaxCost)
	for _, id := range []string{runtime, deadline, cost, preempted} {
		j := b.status(id)
		if j.Message == "" || len(j.Limits) != 1 || j.Bucket == nil {
			t.Errorf("%+v", j)
		}
		if out := b.must("checkpoint", "ls", id); !strings.Contains(out, "sealed") {
			t.Errorf("no final commit:\n%s", out)
		}
	}
	// Limits count anew, and may be given anew.
	b.must("resubmit", runtime, "--max-runtime", "1h", "--", "true")
	b.ends(runtime, job.Succeeded, "")
	// They warn before they end a job.
	near := submit("--max-cost", "8")
	b.until(30*time.Second, "a warning", func() bool { return strings.Contains(b.must("status", near), "warning:") })
	if out := b.must("list"); !strings.Contains(out, "max_cost: ") {
		t.Errorf("list:\n%s", out)
	}
	b.fails(2, "has passed", "submit", "--deadline", "2020-01-01T00:00:00Z", "exec:", "--", "true")
	b.fails(2, "is no time", "submit", "--deadline", "tomorrow", "exec:", "--", "true")
}

func TestRetries(t *testing.T) {
	t.Parallel()
	b := newBox(t).serve()
	script := `n=$(cat "$ANYCLOUD_CHECKPOINT_DIR/n" 2>/dev/null || echo 0); n=$((n+1)); echo $n > "$ANYCLOUD_CHECKPOINT_DIR/n"; echo try $n; test $n -ge 3`
	id := b.submit("--spot", "--retries", "2", "exec:", "--", "sh", "-c", script)
	b.ends(id, job.Succeeded, "")
	if j := b.status(id); j.Failures != 2 || j.Preemptions != 0 {
		t.Errorf("failures %d", j.Failures)
	}
	if log := b.must("logs", id); log != "try 1\ntry 2\ntry 3\n" {
		t.Errorf("log %q", log)
	}
}

// TestFallback: without spot capacity the job runs on-demand, and at the next
// loss on spot again.
func TestFallback(t *testing.T) {
	t.Parallel()
	b := newBox(t).serve()
	faults := b.file(filepath.Join(b.home, "vms", "faults.json"), `{"no_spot": true}`)
	id := b.submit("--spot", "--fallback", "on-demand=1s", "exec:", "--", "sh", "-c", `echo up; while test ! -e "$1"; do sleep 0.05; done`, "sh", filepath.Join(b.home, "go"))
	b.logs(id, "up")
	if j := b.status(id); j.Attempts[0].Placement.Spot || j.RefusedLaunches == 0 || j.Bucket == nil {
		t.Errorf("%+v", j.Attempts)
	}
	if err := os.Remove(faults); err != nil {
		t.Fatal(err)
	}
	b.must("preempt", id, "--notice", "0s")
	b.until(20*time.Second, "the second attempt", func() bool { return b.status(id).State == job.Running && len(b.status(id).Attempts) == 2 })
	if j := b.status(id); !j.Attempts[1].Placement.Spot {
		t.Errorf("%+v", j.Attempts[1].Placement)
	}
	b.file(filepath.Join(b.home, "go"), "")
	b.ends(id, job.Succeeded, "")
	b.fails(2, "on-demand", "submit", "--spot", "--fallback", "other-cloud", "exec:", "--", "true")
	b.fails(2, "spot", "submit", "--fallback", "on-demand", "exec:", "--", "true")
}

func TestSecrets(t *testing.T) {
	const hidden = "hunter2-very-secret"
	t.Setenv("HOST_TOKEN", hidden)
	b := newBox(t).serve()
	path := b.file(filepath.Join(b.home, "secret"), hidden+"\n")
	id := b.submit("--spot", "--secret", "FROM_FILE=file:"+path, "--secret", "FROM_ENV=env:HOST_TOKEN", "exec:", "--", "sh", "-c",
		`test "$FROM_FILE" = "$1" && test "$FROM_ENV" = "$1" && test -z "$HOST_TOKEN" && echo right`, "sh", strings.ToUpper(hidden))
	b.ends(id, job.Failed, job.ReasonExitCode) // the wrong value
	id = b.submit("--secret", "FROM_FILE=file:"+path, "--secret", "FROM_ENV=env:HOST_TOKEN", "exec:", "--", "sh", "-c",
		`test "$(printf %s "$FROM_FILE$FROM_ENV" | tr a-z A-Z)" = "HUNTER2-VERY-SECRETHUNTER2-VERY-SECRET" && test -z "$HOST_TOKEN" && echo right`)
	b.ends(id, job.Succeeded, "")
	for _, out := range []string{b.must("status", id, "--json"), b.must("logs", id), b.must("list", "--all", "--json"), b.read(filepath.Join(b.home, "table.db"))} {
		if strings.Contains(out, hidden) {
			t.Error("the secret is shown or stored")
		}
	}
	missing := b.submit("--secret", "X=env:NO_SUCH_VARIABLE_ANYWHERE", "exec:", "--", "true")
	b.ends(missing, job.Failed, job.ReasonSecretFailed)
	if j := b.status(missing); !strings.Contains(j.Message, "NO_SUCH_VARIABLE_ANYWHERE") {
		t.Errorf("message %q", j.Message)
	}
	_, stderr, code := b.run("submit", "--secret", "X="+hidden, "exec:", "--", "true")
	if code != 2 || strings.Contains(stderr, hidden) || !strings.Contains(stderr, "source") {
		t.Errorf("a secret in place of its source: exit %d: %s", code, stderr)
	}
}

func TestPretendedGPUs(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	b.flags = []string{"--pretend-gpus", "a100:8"}
	b.serve()
	id := b.submit("--gpu", "a100:all", "exec:", "--", "true")
	b.ends(id, job.Succeeded, "")
	if j := b.status(id); j.Attempts[0].Placement.GPUs != 8 {
		t.Errorf("%+v", j.Attempts[0].Placement)
	}
	b.fails(2, "a100", "submit", "--gpu", "h100:1", "exec:", "--", "true")
	b.fails(2, "a100", "submit", "--gpu", "a100:9", "exec:", "--", "true")
}
