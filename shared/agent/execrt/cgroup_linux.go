package execrt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A cgroup (version 2) of our own freezes and kills a whole tree in a fraction
// of a millisecond. Where there is none, signals do. Version 1 is not used: a
// task that it froze cannot even be killed, so a dead keeper would leave what
// nobody gets rid of.

const cgroupPrefix = "anycloud-"

type cgroup struct{ path string }

// cgroupParent is the caller's own cgroup: where it may make others, if anywhere.
func cgroupParent() (string, error) {
	root, err := cgroupRoot()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if own, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(root, own), nil
		}
	}
	return "", errors.New("in no cgroup of version 2")
}

func cgroupRoot() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 4 && strings.Contains(s.Text(), " - cgroup2 ") {
			return fields[4], nil
		}
	}
	return "", errors.New("no cgroups of version 2 are mounted")
}

func cgroupPath(parent, vmID, id string) string {
	return filepath.Join(parent, cgroupPrefix+vmID+"-"+id)
}

// newCgroup makes a cgroup for one container. Empty ones that dead keepers left
// are removed on the way.
func newCgroup(vmID, id string) (*cgroup, error) {
	parent, err := cgroupParent()
	if err != nil {
		return nil, err
	}
	removeEmpty(filepath.Join(parent, cgroupPrefix+"*"))
	g := &cgroup{cgroupPath(parent, vmID, id)}
	if err := os.Mkdir(g.path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(g.path, "cgroup.freeze")); err != nil { // before Linux 5.2
		return nil, errors.Join(err, unix.Rmdir(g.path))
	}
	return g, nil
}

// removeEmpty removes the cgroups that hold no process; the kernel refuses others.
func removeEmpty(pattern string) error {
	paths, err := filepath.Glob(pattern)
	for _, p := range paths {
		if rmErr := unix.Rmdir(p); rmErr != nil && !errors.Is(rmErr, unix.ENOENT) {
			err = errors.Join(err, &fs.PathError{Op: "remove cgroup", Path: p, Err: rmErr})
		}
	}
	return err
}

// RemoveByVM removes what the containers of a VM left in the system, once none
// of their processes lives: their cgroups. It may be repeated.
func RemoveByVM(vmID string) error {
	parent, err := cgroupParent()
	if err != nil {
		return nil
	}
	return removeEmpty(filepath.Join(parent, cgroupPrefix+vmID+"-*"))
}

func (g *cgroup) write(file, value string) error {
	f, err := os.OpenFile(filepath.Join(g.path, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// attr makes a child begin its life in the cgroup. The file must stay open
// until then.
func (g *cgroup) attr(a *syscall.SysProcAttr) (*os.File, error) {
	f, err := os.Open(g.path)
	if err != nil {
		return nil, err
	}
	a.UseCgroupFD, a.CgroupFD = true, int(f.Fd())
	return f, nil
}

func (g *cgroup) freeze(ctx context.Context) error {
	if err := g.write("cgroup.freeze", "1"); err != nil {
		return err
	}
	for {
		b, err := os.ReadFile(filepath.Join(g.path, "cgroup.events"))
		if err != nil {
			return err
		}
		if strings.Contains(string(b), "frozen 1") {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("not all processes freeze: %w", ctx.Err())
		}
		time.Sleep(50 * time.Microsecond)
	}
}

func (g *cgroup) thaw() error {
	return ignoreGone(g.write("cgroup.freeze", "0"))
}

// kill ends all that is in the cgroup, at once. Kernels before 5.14 cannot.
func (g *cgroup) kill() error { return g.write("cgroup.kill", "1") }

func (g *cgroup) remove() error { return ignoreGone(unix.Rmdir(g.path)) }

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
