package machine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"anycloud/shared/cloud/localcloud/vmdir"
)

func childSignals() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGCHLD)
	return c
}

// killAll kills every process of the VM but the machine process, and returns
// when they are gone.
func (p *procs) killAll(within time.Duration) error {
	p.mu.Lock()
	p.ending = true
	p.mu.Unlock()
	me := os.Getpid()
	return untilNone(within, func() ([]vmdir.Process, error) {
		for p.reapOne() {
		}
		if p.vm.me.Namespace {
			// As PID 1: everything in the namespace but us, whatever forks meanwhile.
			if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return nil, err
			}
		}
		all, err := descendants(me)
		if err != nil || p.vm.me.Namespace {
			return all, err
		}
		marked, err := marked(p.vm.rec.ID, me)
		return append(all, marked...), err
	})
}

// untilNone kills what find returns until that is nothing.
func untilNone(within time.Duration, find func() ([]vmdir.Process, error)) error {
	for end := time.Now().Add(within); ; time.Sleep(2 * time.Millisecond) {
		left, err := find()
		if err != nil {
			return err
		}
		if len(left) == 0 {
			return nil
		}
		for _, q := range left {
			if err := q.Kill(); err != nil {
				return fmt.Errorf("kill process %d: %w", q.PID, err)
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d processes do not die, the first is %d", len(left), left[0].PID)
		}
	}
}

// descendants returns the living processes below some.
func descendants(roots ...int) ([]vmdir.Process, error) {
	children := map[int][]int{}
	err := vmdir.Each(func(pid int) {
		if s, err := vmdir.ReadStat(pid); err == nil {
			children[s.Parent] = append(children[s.Parent], pid)
		}
	})
	var all []vmdir.Process
	for queue := roots; len(queue) > 0; queue = queue[1:] {
		for _, c := range children[queue[0]] {
			queue = append(queue, c)
			if p, err := vmdir.Find(c); err == nil && p.Alive() {
				all = append(all, p)
			}
		}
	}
	return all, err
}

// marked returns the living processes whose environment names the VM. Those of
// other users are not readable, and not ours either.
func marked(id string, but int) ([]vmdir.Process, error) {
	mark := []byte(vmdir.MarkerEnv + "=" + id)
	var all []vmdir.Process
	err := vmdir.Each(func(pid int) {
		if pid == but {
			return
		}
		env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err != nil || !slices.ContainsFunc(bytes.Split(env, []byte{0}), func(kv []byte) bool { return bytes.Equal(kv, mark) }) {
			return
		}
		if p, err := vmdir.Find(pid); err == nil && p.Alive() {
			all = append(all, p)
		}
	})
	return all, err
}

// note writes the VM's processes down for a reap after our own sudden death.
func (p *procs) note() error {
	all, err := descendants(os.Getpid())
	if err != nil {
		return err
	}
	return vmdir.Write(p.vm.dir.Path("pids"), all)
}
