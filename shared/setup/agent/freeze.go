package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// processTree freezes a process and all its descendants by stop signals.
type processTree int

// Freeze stops the tree until no process of it was missed.
func (p processTree) Freeze(context.Context) error {
	stopped := map[int]bool{}
	for {
		found := false
		for _, pid := range p.pids() {
			if stopped[pid] {
				continue
			}
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
				return errors.Join(fmt.Errorf("stop process %d: %w", pid, err), p.Thaw(context.Background()))
			}
			stopped[pid], found = true, true
		}
		if !found {
			if len(stopped) == 0 {
				return fmt.Errorf("there is no process %d to freeze", int(p))
			}
			return nil
		}
	}
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
		b, err := os.ReadFile(filepath.Join(d, "stat"))
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		// The name, in parentheses, may hold anything.
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
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
