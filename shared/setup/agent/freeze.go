package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processTree freezes a process and all its descendants by stop signals.
type processTree int

// freezeMost is how long a tree may take to stop. A thread that waits for a disk
// stops only after that.
const freezeMost = 100 * time.Millisecond

// Freeze stops the tree, and returns once it has stopped: a signal only asks for
// that, and a thread within a large write ends the write first.
func (p processTree) Freeze(ctx context.Context) error {
	asked := map[int]bool{}
	for began, still := time.Now(), false; ; {
		was := still
		still = true
		for _, pid := range p.pids() {
			if !asked[pid] {
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
					return errors.Join(fmt.Errorf("stop process %d: %w", pid, err), p.Thaw(ctx))
				}
				asked[pid], still = true, false
			}
			still = still && stopped(pid)
		}
		switch {
		case len(asked) == 0:
			return fmt.Errorf("there is no process %d to freeze", int(p))
		case was && still:
			return nil // and none was born between the last look and the stop
		case ctx.Err() != nil, time.Since(began) > freezeMost:
			return errors.Join(fmt.Errorf("the processes below %d did not stop within %s", int(p), freezeMost), p.Thaw(ctx))
		case !still:
			time.Sleep(200 * time.Microsecond)
		}
	}
}

// stopped says whether no thread of a process runs; one that is gone does not.
func stopped(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/stat", pid)) //nolint:errcheck // only bad patterns fail
	for _, path := range tasks {
		if fields := statFields(path); len(fields) > 0 && !strings.Contains("TtZX", fields[0]) {
			return false
		}
	}
	return true
}

// statFields are the fields of a stat file of /proc behind the name, which is in
// parentheses and may hold anything: state, parent, and so on.
func statFields(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// Thaw lets the tree go on.
func (p processTree) Thaw(context.Context) error {
	var errs []error
	for _, pid := range p.pids() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// pids are the process and its descendants, as /proc shows them now.
func (p processTree) pids() []int {
	parents := map[int]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*") //nolint:errcheck // only bad patterns fail
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		fields := statFields(filepath.Join(d, "stat"))
		if len(fields) > 1 {
			parents[pid], _ = strconv.Atoi(fields[1]) //nolint:errcheck // the kernel writes numbers
		}
	}
	var tree []int
	for pid := range parents {
		for at, hops := pid, 0; at > 0 && hops < 1000; at, hops = parents[at], hops+1 {
			if at == int(p) {
				tree = append(tree, pid)
				break
			}
		}
	}
	return tree
}
