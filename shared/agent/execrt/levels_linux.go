package execrt

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"anycloud/shared/agent/keeper"
)

// The isolations, best first.
const (
	// levelPrivate: mounts and processes of its own. When the keeper, process 1
	// there, dies, the kernel ends all the others.
	levelPrivate = "private"
	// levelMounts: mounts of its own; for systems that do not let a user mount
	// /proc, as within many containers.
	levelMounts = "mounts"
)

func levels() []keeper.Level {
	return []keeper.Level{
		{Name: levelPrivate, Attr: attr(syscall.CLONE_NEWNS | syscall.CLONE_NEWPID)},
		{Name: levelMounts, Attr: attr(syscall.CLONE_NEWNS)},
		{Attr: &syscall.SysProcAttr{Setsid: true}},
	}
}

// attr makes the namespaces by root's right, or within a user namespace, in
// which the user stays who he is.
func attr(flags uintptr) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: true, Cloneflags: flags}
	if uid := os.Geteuid(); uid != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		a.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	return a
}
