package vmdir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Supported says why this system cannot run local VMs; nil: it can.
func Supported() error { return nil }

var bootID = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
})

// Self names the calling process as the procfs at /proc does: inside a PID
// namespace that still has its parent's procfs, this is how the parent sees it.
func Self() (Process, error) {
	link, err := os.Readlink("/proc/self")
	if err != nil {
		return Process{}, err
	}
	pid, err := strconv.Atoi(link)
	if err != nil {
		return Process{}, err
	}
	return Find(pid)
}

// Find names a running process.
func Find(pid int) (Process, error) {
	s, err := ReadStat(pid)
	if err != nil {
		return Process{}, err
	}
	boot, err := bootID()
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, Start: s.Start, Boot: boot}, nil
}

// Stat is what we need of /proc/PID/stat (proc_pid_stat(5)).
type Stat struct {
	State  byte
	Parent int
	Start  uint64
}

// ReadStat reads /proc/PID/stat. fs.ErrNotExist: no such process.
func ReadStat(pid int) (Stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			err = fs.ErrNotExist
		}
		return Stat{}, err
	}
	// The name, field 2, is in parentheses and may hold spaces and more of them.
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 {
		return Stat{}, fmt.Errorf("unexpected /proc/%d/stat: %q", pid, b)
	}
	parent, err1 := strconv.Atoi(f[1])
	start, err2 := strconv.ParseUint(f[19], 10, 64)
	return Stat{State: f[0][0], Parent: parent, Start: start}, errors.Join(err1, err2)
}

// Alive says whether the process still runs. A zombie does not.
func (p Process) Alive() bool {
	if boot, err := bootID(); err != nil || boot != p.Boot {
		return false
	}
	s, err := ReadStat(p.PID)
	return err == nil && s.Start == p.Start && s.State != 'Z' && s.State != 'X'
}

// Kill sends SIGKILL to this very process; nil also if it is gone.
func (p Process) Kill() error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil { // before Linux 5.3, or filtered: a moment of doubt remains
		if !p.Alive() {
			return nil
		}
		return ignoreGone(unix.Kill(p.PID, unix.SIGKILL))
	}
	defer unix.Close(fd)
	// The descriptor holds whoever has the pid now; is it the one we mean?
	if !p.Alive() {
		return nil
	}
	return ignoreGone(unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0))
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// AwaitDead waits until the process is dead, at most d.
func (p Process) AwaitDead(d time.Duration) bool {
	for end := time.Now().Add(d); ; time.Sleep(3 * time.Millisecond) {
		if !p.Alive() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// Each calls fn with the pid of every process in /proc.
func Each(fn func(pid int)) error {
	d, err := os.Open("/proc")
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			fn(pid)
		}
	}
	return err
}

// Lock takes the VM for the calling process until it ends. ErrTaken: another
// has it.
func (d Dir) Lock() (*os.File, error) {
	f, err := os.OpenFile(d.Path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l); err != nil {
		f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, ErrTaken
		}
		return nil, fmt.Errorf("lock vm: %w", err)
	}
	return f, nil
}

// Locked says whether a machine process has the VM, without disturbing one that
// is about to.
func (d Dir) Locked() bool {
	f, err := os.OpenFile(d.Path("lock"), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l) == nil && l.Type != unix.F_UNLCK
}
