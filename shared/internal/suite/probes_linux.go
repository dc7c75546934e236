package suite

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

func lookUserNS() error {
	return try("make a user namespace", inUserNS(&syscall.SysProcAttr{}))
}

// lookMountNS unshares in the child, because that way os/exec also makes its
// mounts private: a sandbox that lets one make the namespace and then refuses
// every mount in it is no use.
func lookMountNS() error {
	attr := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		attr = inUserNS(attr)
	}
	return try("make a private mount namespace", attr)
}

func inUserNS(attr *syscall.SysProcAttr) *syscall.SysProcAttr {
	attr.Cloneflags |= syscall.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	return attr
}

func try(what string, attr *syscall.SysProcAttr) error {
	cmd := exec.Command("true")
	cmd.SysProcAttr = attr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cannot %s: %w", what, err)
	}
	return nil
}

func lookMount() error {
	dir, err := os.MkdirTemp("", "suite")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		return fmt.Errorf("cannot mount a tmpfs: %w", err)
	}
	return syscall.Unmount(dir, 0)
}

// lookFreezer makes a cgroup and looks for the file that freezes it, which is
// named differently in cgroup v1 and v2.
func lookFreezer() error {
	for root, file := range map[string]string{
		"/sys/fs/cgroup/freezer": "freezer.state",
		"/sys/fs/cgroup":         "cgroup.freeze",
	} {
		dir, err := os.MkdirTemp(root, "suite")
		if err != nil {
			continue
		}
		_, err = os.Stat(filepath.Join(dir, file))
		// A cgroup is removed like an empty directory, its files with it.
		if rmErr := syscall.Rmdir(dir); rmErr != nil {
			return fmt.Errorf("remove cgroup: %w", rmErr)
		}
		if err == nil {
			return nil
		}
	}
	return errors.New("cannot make a cgroup that can be frozen")
}
