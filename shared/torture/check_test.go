package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"anycloud/shared/api"
)

var weights = regexp.MustCompile(`[0-9a-f]{64}`)

// undisturbed runs the training by itself and returns its final weights' hash.
func undisturbed(t *testing.T, bin string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "digits"), "-epochs", fmt.Sprint(epochs))
	cmd.Env = append(os.Environ(), "ANYCLOUD_CHECKPOINT_DIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("undisturbed run: %v\n%s", err, out)
	}
	sum := weights.FindString(string(out))
	if sum == "" {
		t.Fatalf("undisturbed run printed no hash:\n%s", out)
	}
	return sum
}

// checkResult compares the job's final weights with the undisturbed run's.
func (h *home) checkResult(id, want string) {
	h.t.Helper()
	if got := weights.FindString(h.must("logs", id)); got != want {
		h.t.Errorf("%s: final weights %q, undisturbed %q\n%s", id, got, want, h.must("logs", id, "--tail", "20"))
	}
}

// checkSeconds compares the job's VM-seconds with the cloud's own start and end
// times of its VMs.
func (h *home) checkSeconds(id string) {
	h.t.Helper()
	files, _ := filepath.Glob(filepath.Join(h.dir, "vms", "ended", "*.json"))
	var want float64
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			h.t.Fatal(err)
		}
		var vm struct {
			Job        string    `json:"job"`
			LaunchedAt time.Time `json:"launched_at"`
			EndedAt    time.Time `json:"ended_at"`
		}
		if err := json.Unmarshal(b, &vm); err != nil {
			h.t.Fatal(err)
		}
		if vm.Job == id {
			want += vm.EndedAt.Sub(vm.LaunchedAt).Seconds()
		}
	}
	if got := h.status(id).VMSeconds; math.Abs(got-want) > 0.01 || want == 0 {
		h.t.Errorf("%s: %.3f VM-seconds on the job, %.3f by the cloud\n%s", id, got, want, h.must("status", id, "--json"))
	}
}

// checkNothingLeft looks for processes, containers, VM directories and buckets.
func (h *home) checkNothingLeft(ids []string) {
	h.t.Helper()
	var left []process
	for range 50 { // an ended VM's last process may need a moment to be reaped
		if left = h.processes(); len(left) == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, p := range left {
		h.t.Errorf("process %d is left: %v", p.pid, p.args)
	}
	if dirs, _ := filepath.Glob(filepath.Join(h.dir, "vms", "i-*")); len(dirs) > 0 {
		h.t.Errorf("VM directories are left: %v", dirs)
	}
	for _, id := range ids {
		if dirs, _ := filepath.Glob(filepath.Join(h.dir, "buckets", id)); len(dirs) > 0 {
			h.t.Errorf("buckets are left: %v", dirs)
		}
		if !dockerAnswers() {
			continue
		}
		out, err := exec.Command("docker", "ps", "-aq", "--filter", "label=anycloud.job="+id).Output()
		if err != nil || len(out) > 0 {
			h.t.Errorf("containers of %s are left: %s %v", id, out, err)
		}
	}
	var jobs []api.Job
	if err := json.Unmarshal([]byte(h.must("list", "--all", "--json")), &jobs); err != nil {
		h.t.Fatal(err)
	}
	for _, j := range jobs {
		if len(j.Doomed)+len(j.Kept) > 0 {
			h.t.Errorf("%s still has VMs: %v %v", j.ID, j.Doomed, j.Kept)
		}
	}
}

func dockerAnswers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "docker", "version").Run() == nil
}

// buildImage imports an image that holds the training program alone.
func buildImage(t *testing.T, bin string) string {
	t.Helper()
	const image = "anycloud-torture-digits:test"
	tar := filepath.Join(t.TempDir(), "image.tar")
	if out, err := exec.Command("tar", "-C", bin, "-cf", tar, "digits").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v %s", err, out)
	}
	if out, err := exec.Command("docker", "import", "--change", `ENTRYPOINT ["/digits"]`, tar, image).CombinedOutput(); err != nil {
		t.Fatalf("docker import: %v %s", err, out)
	}
	t.Cleanup(func() { exec.Command("docker", "rmi", "-f", image).Run() }) //nolint:errcheck // best effort
	return image
}
