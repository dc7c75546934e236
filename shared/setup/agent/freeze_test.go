package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"anycloud/shared/internal/suite"
)

// TestFrozenMeansStopped: when Freeze returns, no thread of the tree is still on
// its way to the stop, as those are that are writing much at once.
func TestFrozenMeansStopped(t *testing.T) {
	suite.Need(t, "linux")
	dir, err := os.MkdirTemp("/dev/shm", "anycloud-test-") // no disk that a write would wait for
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "big")
	cmd := exec.Command("sh", "-c", `for n in 1 2 3; do while :; do dd if=/dev/zero of="$0-$n" bs=4M count=8 conv=notrunc 2>/dev/null; done & done; wait`, file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tree := processTree(cmd.Process.Pid)
	defer func() {
		tree.Freeze(t.Context()) //nolint:errcheck // so that none is born while they end
		for _, pid := range tree.pids() {
			p, _ := os.FindProcess(pid) //nolint:errcheck // never fails here
			p.Kill()                    //nolint:errcheck // it may be gone
		}
		cmd.Wait() //nolint:errcheck // it was killed
	}()
	frozen := 0
	for range 50 {
		if err := tree.Freeze(t.Context()); err != nil {
			continue // a machine that is busy otherwise: it says so, and the tree goes on
		}
		frozen++
		for _, pid := range tree.pids() {
			tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) //nolint:errcheck // only bad patterns fail
			for _, path := range tasks {
				if fields := statFields(path); len(fields) > 0 && !strings.Contains("TtZX", fields[0]) {
					t.Fatalf("%s is in state %s", path, fields[0])
				}
			}
		}
		if err := tree.Thaw(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if frozen == 0 {
		t.Error("it was never frozen")
	}
}
