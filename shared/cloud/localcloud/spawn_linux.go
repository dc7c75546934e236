package localcloud

import (
	"errors"
	"os"
	"syscall"
)

const capSysAdmin = 21 // capability.h

// vmAttr gives a VM its session, and unless plain its PID namespace with a
// private view of the mounts, which its own /proc needs. Without root that
// takes a user namespace too: the user stays who he is, and has in it the one
// right that mounting /proc takes.
func vmAttr(plain bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: true}
	if plain {
		return a
	}
	a.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	if uid, gid := os.Getuid(), os.Getgid(); os.Geteuid() != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		a.AmbientCaps = []uintptr{capSysAdmin}
	}
	return a
}

// namespaceRefused says that a process could not be started for its namespaces:
// not allowed, none left, not known to the kernel.
func namespaceRefused(err error) bool {
	for _, no := range []error{syscall.EPERM, syscall.ENOSPC, syscall.EUSERS, syscall.EINVAL, syscall.ENOSYS} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}
