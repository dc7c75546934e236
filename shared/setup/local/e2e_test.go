package local_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/internal/smalldisk"
	"anycloud/shared/internal/suite"
	"anycloud/shared/job"
)

// binaries builds both programs, once for all tests.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "anycloud-e2e-")
	if err != nil {
		return "", err
	}
	for _, name := range []string{"anycloud", "anycloud-agent"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), "anycloud/cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %v\n%s", name, err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := binaries(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// box is one home with its control plane.
type box struct {
	*testing.T
	bin, home string
	flags     []string // of serve
	server    *exec.Cmd
}

func newBox(t *testing.T) *box { return boxAt(t, "") }

func boxAt(t *testing.T, home string) *box {
	t.Helper()
	bin, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	if home == "" {
		if home, err = os.MkdirTemp("", "anycloud-e2e-home-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(home) })
	}
	b := &box{T: t, bin: bin, home: home}
	t.Cleanup(b.close)
	return b
}

func (b *box) serve() *box {
	b.Helper()
	log, err := os.Create(filepath.Join(b.TempDir(), "serve.log"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { log.Close() })
	b.server = b.command(append([]string{"serve", "--tick", "1s"}, b.flags...)...)
	b.server.Stdout, b.server.Stderr = log, log
	if err := b.server.Start(); err != nil {
		b.Fatal(err)
	}
	b.until(15*time.Second, "serve", func() bool {
		text, err := os.ReadFile(log.Name())
		return err == nil && strings.Contains(string(text), "anycloud serves")
	})
	return b
}

// close ends all jobs and the control plane; whatever is left would outlive the
// test.
func (b *box) close() {
	if b.server == nil {
		return
	}
	for _, j := range b.list() {
		if !j.State.Terminal() || len(j.Kept) > 0 {
			b.run("cancel", "--now", j.ID)
			b.run("wait", j.ID, "--timeout", "20s")
		}
	}
	b.server.Process.Signal(syscall.SIGTERM) //nolint:errcheck // Wait tells
	b.server.Wait()                          //nolint:errcheck // its exit code says nothing here
	b.server = nil
}

func (b *box) list() []api.Job {
	out, _, _ := b.run("list", "--all", "--json")
	var jobs []api.Job
	json.Unmarshal([]byte(out), &jobs) //nolint:errcheck // none then
	return jobs
}

func (b *box) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(b.bin, "anycloud"), args...)
	cmd.Env = append(os.Environ(), "ANYCLOUD_HOME="+b.home, "ANYCLOUD_ENDPOINT=", "ANYCLOUD_TOKEN=")
	return cmd
}

func (b *box) run(args ...string) (stdout, stderr string, code int) {
	var o, e bytes.Buffer
	cmd := b.command(args...)
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		code = -1
	}
	return o.String(), e.String(), code
}

func (b *box) must(args ...string) string {
	b.Helper()
	out, stderr, code := b.run(args...)
	if code != 0 {
		b.Fatalf("anycloud %s: exit %d: %s", strings.Join(args, " "), code, stderr)
	}
	return out
}

// fails runs a command that must fail with one clear line.
func (b *box) fails(code int, words string, args ...string) {
	b.Helper()
	_, stderr, got := b.run(args...)
	if got != code || !strings.HasPrefix(stderr, "anycloud: ") || strings.Count(strings.TrimSpace(stderr), "\n") != 0 || !strings.Contains(stderr, words) {
		b.Errorf("anycloud %s: exit %d, want %d; %q should be one line with %q", strings.Join(args, " "), got, code, stderr, words)
	}
}

func (b *box) status(id string) (j api.Job) {
	b.Helper()
	if err := json.Unmarshal([]byte(b.must("status", id, "--json")), &j); err != nil {
		b.Fatal(err)
	}
	return j
}

func (b *box) submit(args ...string) string {
	b.Helper()
	return strings.TrimSpace(b.must(append([]string{"submit", "--checkpoint-interval", "1s", "--grace", "2s"}, args...)...))
}

func (b *box) until(limit time.Duration, what string, ok func() bool) {
	b.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%s: not within %s", what, limit)
		}
	}
}

// nothingLeft looks for VMs and buckets of a job.
func (b *box) nothingLeft(id string) {
	b.Helper()
	if dirs, _ := filepath.Glob(filepath.Join(b.home, "vms", "i-*")); len(dirs) > 0 {
		b.Errorf("VMs are left: %v", dirs)
	}
	if _, err := os.Stat(filepath.Join(b.home, "buckets", id)); err == nil {
		b.Errorf("bucket %s is left", id)
	}
}

func TestSuccess(t *testing.T) {
	b := newBox(t).serve()
	id := b.submit("--spot", "--name", "hello", "exec:", "--", "sh", "-c", `echo hi; echo 1 > "$ANYCLOUD_CHECKPOINT_DIR/x"`)
	b.must("wait", id, "--timeout", "20s")
	if out := b.must("logs", id); out != "hi\n" {
		t.Errorf("log %q", out)
	}
	j := b.status(id)
	if j.State != job.Succeeded || j.Reason != "" || *j.ExitCode != 0 || j.Bucket != nil {
		t.Errorf("%+v", j)
	}
	b.nothingLeft(id)
	b.fails(1, "no job", "status", "acnone-x-0000000000")
	b.fails(1, "submit it anew", "resubmit", id)
}

func TestFailureAndResubmit(t *testing.T) {
	b := newBox(t).serve()
	script := `f="$ANYCLOUD_CHECKPOINT_DIR/n"; n=$(cat "$f" 2>/dev/null || echo 0); echo "n=$n"; echo $((n+1)) > "$f"; test $n -ge 1 || exit 3`
	id := b.submit("--spot", "exec:", "--", "sh", "-c", script)
	if _, _, code := b.run("wait", id, "--timeout", "20s"); code != 1 {
		t.Fatalf("wait: exit %d, want 1", code)
	}
	j := b.status(id)
	if j.State != job.Failed || j.Reason != job.ReasonExitCode || *j.ExitCode != 3 || j.KeepUntil == nil || j.Bucket == nil {
		t.Fatalf("%+v", j)
	}
	b.must("resubmit", id)
	b.must("wait", id, "--timeout", "20s")
	if out := b.must("logs", id); out != "n=0\nn=1\n" {
		t.Errorf("log %q: the second run must go on from the first one's checkpoint", out)
	}
	b.nothingLeft(id)
}

func TestCommandNotFound(t *testing.T) {
	b := newBox(t).serve()
	id := b.submit("--spot", "exec:", "--", "no-such-program-anywhere")
	if _, _, code := b.run("wait", id, "--timeout", "20s"); code != 1 {
		t.Fatalf("exit %d", code)
	}
	if j := b.status(id); j.Reason != job.ReasonCommandNotFound || !strings.Contains(j.Message, "no-such-program") {
		t.Errorf("reason %s: %s", j.Reason, j.Message)
	}
}

func TestCancelSavesAndSeals(t *testing.T) {
	b := newBox(t).serve()
	id := b.submit("--spot", "exec:", "--", "sh", "-c", `trap 'echo bye > "$ANYCLOUD_CHECKPOINT_DIR/bye"; exit 0' TERM; echo up; while :; do sleep 0.05; done`)
	b.until(20*time.Second, "first line", func() bool { return strings.Contains(b.must("logs", id), "up") })
	b.must("cancel", id)
	if _, _, code := b.run("wait", id, "--timeout", "20s"); code != 1 {
		t.Fatalf("wait: exit %d", code)
	}
	if j := b.status(id); j.State != job.Cancelled || j.Reason != job.ReasonCancelled {
		t.Fatalf("%s %s", j.State, j.Reason)
	}
	if out := b.must("checkpoint", "ls", id); !strings.Contains(out, "sealed") {
		t.Errorf("no sealed commit:\n%s", out)
	}
	dir := filepath.Join(t.TempDir(), "pulled")
	b.must("checkpoint", "pull", id, dir)
	if got, err := os.ReadFile(filepath.Join(dir, "bye")); err != nil || string(got) != "bye\n" {
		t.Errorf("what was written on SIGTERM: %q, %v", got, err)
	}
}

// TestOddFiles: a checkpoint directory with a pipe and a name that is no UTF-8
// comes through a loss, and a commit can be asked for.
func TestOddFiles(t *testing.T) {
	b := newBox(t).serve()
	script := `cd "$ANYCLOUD_CHECKPOINT_DIR"; if test -e done; then ls | od -An -c | tr -d ' \n'; echo; exit 0; fi
		mkfifo pipe; : > "$(printf 'n\377me')"; echo 1 > done; echo ready; while :; do sleep 0.05; done`
	id := b.submit("--spot", "--checkpoint-interval", "1h", "exec:", "--", "sh", "-c", script)
	b.until(20*time.Second, "ready", func() bool { return strings.Contains(b.must("logs", id), "ready") })
	if out := strings.TrimSpace(b.must("checkpoint", "now", id)); out == "" || out == "0" {
		t.Errorf("commit %q", out)
	}
	b.must("preempt", id, "--notice", "0s")
	b.must("wait", id, "--timeout", "30s")
	out := b.must("logs", id)
	if !strings.Contains(out, `n377me`) && !strings.Contains(out, `n\377me`) {
		t.Errorf("the odd name is lost:\n%s", out)
	}
	if j := b.status(id); j.Preemptions != 1 || j.Attempt != 2 {
		t.Errorf("preemptions %d, attempt %d", j.Preemptions, j.Attempt)
	}
}

// TestLongLine: 1,000,000 bytes without a newline arrive whole.
func TestLongLine(t *testing.T) {
	b := newBox(t).serve()
	id := b.submit("exec:", "--", "sh", "-c", `head -c 1000000 /dev/zero | tr '\0' x; echo; echo end`)
	b.must("wait", id, "--timeout", "30s")
	if out := b.must("logs", id); out != strings.Repeat("x", 1000000)+"\nend\n" {
		t.Errorf("%d bytes of log, want 1000005", len(out))
	}
}

func TestSecondServe(t *testing.T) {
	b := newBox(t).serve()
	b.fails(1, "another", "serve")
}

func TestTruncatedTable(t *testing.T) {
	b := newBox(t).serve()
	id := b.submit("exec:", "--", "true")
	b.must("wait", id, "--timeout", "20s")
	b.close()
	path := filepath.Join(b.home, "table.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 100, 4096, len(whole) / 2} {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		_, stderr, code := b.run("serve")
		if code != 1 || !strings.HasPrefix(stderr, "anycloud: ") || strings.Contains(stderr, "panic") {
			t.Errorf("%d bytes: exit %d: %s", size, code, stderr)
		}
		if now, _ := os.ReadFile(path); !bytes.Equal(now, whole[:size]) {
			t.Errorf("%d bytes: the damaged table was changed", size)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	b.serve()
	if j := b.status(id); j.State != job.Succeeded {
		t.Errorf("after putting the table back: %s", j.State)
	}
}

func TestHugeSubmit(t *testing.T) {
	b := newBox(t).serve()
	endpoint, _ := os.ReadFile(filepath.Join(b.home, "endpoint"))
	token, _ := os.ReadFile(filepath.Join(b.home, "token"))
	body := `{"image":"exec:","command":["` + strings.Repeat("x", 10<<20) + `"]}`
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, strings.TrimSpace(string(endpoint))+"/v1/jobs", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d, want 413", resp.StatusCode)
	}
	if info, err := os.Stat(filepath.Join(b.home, "token")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("token file: %v %v", info, err)
	}
}

// TestAutoStart: a command starts the control plane; many at once start one.
func TestAutoStart(t *testing.T) {
	b := newBox(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, stderr, code := b.run("list", "--json"); code != 0 {
				t.Errorf("list: exit %d: %s", code, stderr)
			}
		})
	}
	wg.Wait()
	b.until(10*time.Second, "one control plane", func() bool { return len(b.serving()) == 1 })
	for _, pid := range b.serving() {
		syscall.Kill(pid, syscall.SIGTERM) //nolint:errcheck // it is ours, by its home
	}
	b.until(10*time.Second, "its end", func() bool { return len(b.serving()) == 0 })
}

// serving finds the control planes of this home.
func (b *box) serving() (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		cmdline, _ := os.ReadFile(d + "/cmdline")
		environ, _ := os.ReadFile(d + "/environ")
		if strings.Contains(string(cmdline), "\x00serve\x00") && strings.Contains(string(environ), "ANYCLOUD_HOME="+b.home+"\x00") {
			var pid int
			fmt.Sscan(filepath.Base(d), &pid) //nolint:errcheck // the glob gives numbers
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestFullDisk: no room under the home is said clearly, and nothing is lost.
func TestFullDisk(t *testing.T) {
	suite.Need(t, "mount")
	disk := smalldisk.New(t, 24<<20)
	b := boxAt(t, disk)
	b.serve()
	id := b.submit("exec:", "--", "true")
	b.must("wait", id, "--timeout", "20s")
	ballast := smalldisk.Fill(t, disk)
	// The table has some room inside: as many large jobs as it takes.
	big := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(big, []byte("BIG="+strings.Repeat("x", 100<<10)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr string
	code := 0
	for range 20 {
		if _, stderr, code = b.run("submit", "--env-file", big, "exec:", "--", "true"); code != 0 {
			break
		}
	}
	if code != 1 || !strings.HasPrefix(stderr, "anycloud: ") || !strings.Contains(stderr, "no space left") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if j := b.status(id); j.State != job.Succeeded {
		t.Errorf("the first job is %s now", j.State)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	again := b.submit("exec:", "--", "true")
	b.must("wait", again, "--timeout", "30s")
}
