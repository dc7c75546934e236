package execrt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"anycloud/shared/agent/runtime"
)

// mountAll puts mounts at their targets, in the keeper's own mount namespace.
// scratch is an empty directory.
func mountAll(mounts []runtime.Mount, ownProc bool, scratch string) error {
	// Mounts of the machine still come in, ours do not go out.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if ownProc {
		if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mount /proc: %w", err)
		}
	}
	for _, m := range mounts {
		if err := mountOne(m, scratch); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	return nil
}

func mountOne(m runtime.Mount, scratch string) error {
	// Held open, because what covers the target's parent may cover the source.
	src, err := unix.Open(m.Source, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", m.Source, err)
	}
	defer unix.Close(src)
	if err := makePoint(m.Target, scratch); err != nil {
		return err
	}
	if err := bind(fmt.Sprintf("/proc/self/fd/%d", src), m.Target); err != nil {
		return err
	}
	if !m.ReadOnly {
		return nil
	}
	// A user namespace may not drop the flags that the file system came with.
	var s unix.Statfs_t
	if err := unix.Statfs(m.Target, &s); err != nil {
		return err
	}
	keep := uintptr(s.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	for _, f := range []struct{ st, ms uintptr }{{unix.ST_NOATIME, unix.MS_NOATIME}, {unix.ST_NODIRATIME, unix.MS_NODIRATIME}, {unix.ST_RELATIME, unix.MS_RELATIME}} {
		if uintptr(s.Flags)&f.st != 0 {
			keep |= f.ms
		}
	}
	return unix.Mount("", m.Target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|keep, "")
}

func bind(source, target string) error {
	return unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, "")
}

// makePoint makes sure that target is a directory without touching the
// machine's file system: the nearest directory that exists is covered by a small
// one in memory, in which everything that it holds is bound again.
func makePoint(target, scratch string) error {
	if i, err := os.Stat(target); err == nil && i.IsDir() {
		return nil
	}
	parent := filepath.Dir(target)
	for {
		i, err := os.Stat(parent)
		if err == nil && i.IsDir() {
			break
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		parent = filepath.Dir(parent)
	}
	if parent == "/" {
		return fmt.Errorf("no directory above it but /")
	}
	if !covered(parent) {
		if err := cover(parent, scratch); err != nil {
			return fmt.Errorf("cover %s: %w", parent, err)
		}
	}
	return os.MkdirAll(target, 0o755)
}

// coverName marks a directory of ours.
const coverName = "anycloud-cover"

func covered(dir string) bool {
	b, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && strings.Contains(lastMount(string(b), dir), " - tmpfs "+coverName+" ")
}

// lastMount is the line of the mount that is seen at dir (proc_pid_mountinfo(5)).
func lastMount(info, dir string) (last string) {
	for line := range strings.Lines(info) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == dir {
			last = line
		}
	}
	return last
}

func cover(dir, scratch string) error {
	if err := bind(dir, scratch); err != nil {
		return err
	}
	defer unix.Unmount(scratch, unix.MNT_DETACH)
	if err := unix.Mount(coverName, dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=1m"); err != nil {
		return err
	}
	entries, err := os.ReadDir(scratch)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := again(e, filepath.Join(scratch, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// again makes an entry visible at its old place.
func again(e os.DirEntry, at, place string) error {
	switch {
	case e.Type()&fs.ModeSymlink != 0:
		to, err := os.Readlink(at)
		if err != nil {
			return err
		}
		return os.Symlink(to, place)
	case e.IsDir():
		if err := os.Mkdir(place, 0o755); err != nil {
			return err
		}
	default:
		if err := os.WriteFile(place, nil, 0o644); err != nil {
			return err
		}
	}
	return bind(at, place)
}

// dropPrivileges takes from the calling thread, and from what it starts, the
// right with which mountAll worked in a user namespace.
func dropPrivileges() error {
	if os.Geteuid() == 0 {
		return nil
	}
	err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if errors.Is(err, unix.EINVAL) { // before Linux 4.3 there were none
		return nil
	}
	return err
}
