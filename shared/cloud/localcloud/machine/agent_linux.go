package machine

import (
	"context"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sys/unix"

	"anycloud/shared/cloud/localcloud/vmdir"
)

// procs are the VM's processes. The machine process adopts and reaps them all,
// so the agent is not started through os/exec, whose Wait would compete.
type procs struct {
	vm *vm

	mu     sync.Mutex
	agent  int // pid; 0: none runs
	exited chan syscall.WaitStatus
	ending bool
}

// keepAgent starts the agent again and again, as systemd would, until it asks
// for the VM's end. What the agent started stays when it dies, for the next one
// to take over.
func (v *vm) keepAgent(ctx context.Context) {
	wait := &backoff.ExponentialBackOff{InitialInterval: restartFirst, Multiplier: 2, MaxInterval: restartMost}
	wait.Reset()
	for {
		started := time.Now()
		exited, err := v.procs.start()
		if err != nil {
			v.Log.Error("agent not started", "error", err)
		} else {
			select {
			case <-ctx.Done():
				return
			case status := <-exited:
				if code := status.ExitStatus(); status.Exited() && (code == ExitDone || code == ExitPowerOff) {
					v.done <- vmdir.ReasonPowerOff
					return
				}
				v.Log.Warn("agent died", "exit", status.ExitStatus(), "signal", status.Signal().String(), "after", time.Since(started).String())
			}
		}
		if time.Since(started) > healthyAfter {
			wait.Reset()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// start starts the agent. The channel tells its end.
func (p *procs) start() (<-chan syscall.WaitStatus, error) {
	v := p.vm
	env := append(os.Environ(),
		"ANYCLOUD_VM_DIR="+v.dir.Disk(), "ANYCLOUD_VM_ID="+v.rec.ID, "ANYCLOUD_METADATA="+v.meta.url,
		vmdir.MarkerEnv+"="+v.rec.ID)
	if v.rec.PretendGPUs {
		env = append(env, "ANYCLOUD_PRETEND_GPUS=1")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	// Held until the pid is noted, so that the reaper cannot meet it before.
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending {
		return nil, os.ErrProcessDone
	}
	pid, err := syscall.ForkExec(v.Agent[0], v.Agent, &syscall.ProcAttr{
		Dir: v.dir.Disk(), Env: env, Files: []uintptr{null.Fd(), 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, err
	}
	p.agent, p.exited = pid, make(chan syscall.WaitStatus, 1)
	return p.exited, nil
}

// adopt reaps what ends: the agent, and orphans of the VM.
func (p *procs) adopt(ctx context.Context) {
	// Polling next to the signal costs nothing and misses nothing.
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	sig := childSignals()
	for {
		for p.reapOne() {
		}
		select {
		case <-ctx.Done():
			return
		case <-sig:
		case <-tick.C:
		}
	}
}

// reapOne takes one ended child off; false: none has ended.
func (p *procs) reapOne() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var status unix.WaitStatus
	pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
	if err == unix.EINTR {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	if pid == p.agent {
		p.agent = 0
		p.exited <- syscall.WaitStatus(status)
	}
	return true
}
