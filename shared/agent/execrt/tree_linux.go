package execrt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"anycloud/shared/agent/keeper"
)

// proc is what we need of /proc/PID/stat (proc_pid_stat(5)).
type proc struct {
	pid, parent int
	state       byte
}

func (p proc) dead() bool    { return p.state == 'Z' || p.state == 'X' }
func (p proc) stopped() bool { return p.state == 'T' || p.state == 't' }

// processes lists all that /proc shows. A process may end at any moment.
func processes() ([]proc, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []proc
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + n + "/stat")
		if err != nil {
			continue
		}
		// The name, field 2, is in parentheses and may hold spaces and more of them.
		f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if len(f) < 2 {
			continue
		}
		parent, err := strconv.Atoi(string(f[1]))
		if err != nil {
			continue
		}
		all = append(all, proc{pid, parent, f[0][0]})
	}
	return all, nil
}

// descendants are the children of root, and theirs. They are all that it
// started, if root is a subreaper.
func descendants(root int) ([]proc, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	in := map[int]bool{root: true}
	var tree []proc
	for grew := true; grew; {
		grew = false
		for _, p := range all {
			if !in[p.pid] && in[p.parent] {
				in[p.pid], grew = true, true
				tree = append(tree, p)
			}
		}
	}
	return tree, nil
}

// self is the caller's pid as /proc shows it.
func self() (int, error) {
	link, err := os.Readlink("/proc/self")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(link)
}

// tree freezes and kills by signals.
type tree struct {
	root    int
	stopped []int // by us
}

// freeze sends SIGSTOP until a look finds nothing that still runs: what was
// started meanwhile is found by the next.
func (t *tree) freeze(ctx context.Context) error {
	for {
		all, err := descendants(t.root)
		if err != nil {
			return err
		}
		running := 0
		for _, p := range all {
			if p.dead() || p.stopped() {
				continue
			}
			running++
			if !slices.Contains(t.stopped, p.pid) {
				if err := t.signal(p.pid, unix.SIGSTOP); err != nil {
					return err
				}
				t.stopped = append(t.stopped, p.pid)
			} else if p.state == 'D' {
				if err := t.letExec(p.pid, all); err != nil {
					return err
				}
			}
		}
		if running == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("not all processes stop: %w", ctx.Err())
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// letExec lets the children of a process go on until the next look. In vfork(2)
// it waits for one of them to run another program, and cannot be stopped before.
func (t *tree) letExec(parent int, all []proc) error {
	for _, p := range all {
		if i := slices.Index(t.stopped, p.pid); p.parent == parent && p.stopped() && i >= 0 {
			t.stopped = slices.Delete(t.stopped, i, i+1)
			if err := t.signal(p.pid, unix.SIGCONT); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tree) signal(pid int, s unix.Signal) error {
	if err := unix.Kill(pid, s); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to process %d: %w", unix.SignalName(s), pid, err)
	}
	return nil
}

// thaw lets go on what freeze stopped, parents last, so that none of them finds
// a child stopped.
func (t *tree) thaw() error {
	var errs error
	for _, pid := range slices.Backward(t.stopped) {
		errs = errors.Join(errs, t.signal(pid, unix.SIGCONT))
	}
	if errs == nil {
		t.stopped = nil
	}
	return errs
}

// kill sends SIGKILL once to all there is.
func (t *tree) kill() error {
	all, err := descendants(t.root)
	if err != nil {
		return err
	}
	var errs error
	for _, p := range all {
		if p.dead() {
			continue
		}
		errs = errors.Join(errs, t.signal(p.pid, unix.SIGKILL))
	}
	return errs
}

// bury kills what a dead keeper left, known by its environment and by descent
// from such a process. Without a PID namespace only the command itself is sure
// to die with the keeper.
func bury(ctx context.Context, r keeper.Record) error {
	g := cgroup{}
	if parent, err := cgroupParent(); err == nil {
		g.path = cgroupPath(parent, r.VMID, r.ID)
	}
	mark := []byte(markerEnv + "=" + r.ID)
	for {
		if g.path != "" {
			g.kill() // before marks are looked for; where it cannot, they are enough
		}
		all, err := processes()
		if err != nil {
			return err
		}
		left := 0
		for _, p := range all {
			if p.dead() || !marked(p.pid, mark) {
				continue
			}
			left++
			if err := unix.Kill(p.pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", p.pid, err)
			}
			if below, err := descendants(p.pid); err == nil {
				for _, p := range below {
					unix.Kill(p.pid, unix.SIGKILL)
				}
			}
		}
		if left == 0 {
			if g.path == "" {
				return nil
			}
			// Busy: one of them is still dying, or has no mark and is killed next.
			if err := g.remove(); !errors.Is(err, unix.EBUSY) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func marked(pid int, mark []byte) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && slices.ContainsFunc(bytes.Split(env, []byte{0}), func(kv []byte) bool { return bytes.Equal(kv, mark) })
}
