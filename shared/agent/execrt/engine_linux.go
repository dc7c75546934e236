package execrt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"anycloud/shared/agent/keeper"
	"anycloud/shared/agent/keeper/joblog"
	rt "anycloud/shared/agent/runtime"
)

// Engine is the keeper's part.
type Engine struct {
	noCgroup bool // for tests of what is left without
}

var _ keeper.Engine = Engine{}

// Name implements keeper.Engine.
func (Engine) Name() string { return engineName }

// container is a running command and all below it.
type container struct {
	pid       int
	startedAt time.Time
	ended     chan ended    // how the command ended
	gone      chan struct{} // closed when no process is left
	output    sync.WaitGroup
	cgroup    *cgroup // or nil

	mu   sync.Mutex // of the tree
	tree tree
}

type ended struct {
	status unix.WaitStatus
	at     time.Time
}

// Start implements keeper.Engine.
func (e Engine) Start(_ context.Context, l *keeper.Launch, log *joblog.Writer) (keeper.Container, error) {
	if l.Attach {
		return nil, errors.New("a command cannot be taken over")
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become subreaper: %w", err)
	}
	if l.Isolation != "" {
		scratch := filepath.Join(l.Dir, "scratch")
		if err := os.MkdirAll(scratch, 0o700); err != nil {
			return nil, err
		}
		if err := mountAll(l.Spec.Mounts, l.Isolation == levelPrivate, scratch); err != nil {
			return nil, fmt.Errorf("%w: %w", keeper.ErrIsolation, err)
		}
	}
	spec, env := &l.Spec, l.Spec.Env
	for k, v := range rt.MountEnv(spec.Mounts, func(m rt.Mount) string {
		if l.Isolation != "" {
			return m.Target
		}
		return m.Source
	}) {
		env[k] = v
	}
	env[markerEnv] = l.ID
	if spec.Workdir == "" {
		spec.Workdir = filepath.Join(l.Dir, "work")
		if err := os.MkdirAll(spec.Workdir, 0o755); err != nil {
			return nil, err
		}
	}
	root, err := self()
	if err != nil {
		return nil, err
	}
	c := &container{ended: make(chan ended, 1), gone: make(chan struct{}), tree: tree{root: root}}
	start := c.start
	if e.noCgroup {
		start = c.spawn
	}
	if err := start(l, log); err != nil {
		return nil, err
	}
	go c.reap()
	return c, nil
}

// start starts the command, if it can in a cgroup. Another keeper may remove an
// empty cgroup before the command is in it.
func (c *container) start(l *keeper.Launch, log *joblog.Writer) (err error) {
	for range 5 {
		if c.cgroup, err = newCgroup(l.Spec.VMID, l.ID); err != nil {
			break
		}
		if err = c.spawn(l, log); err == nil {
			return nil
		}
		if rmErr := c.cgroup.remove(); rmErr != nil {
			return errors.Join(err, rmErr)
		}
		if !errors.Is(err, unix.ENODEV) && !errors.Is(err, errNoCgroup) {
			break
		}
	}
	// Whatever the reason was: without a cgroup, it is the command's.
	c.cgroup = nil
	return c.spawn(l, log)
}

var errNoCgroup = errors.New("cgroup is gone")

// spawn starts the command with pipes to the log.
func (c *container) spawn(l *keeper.Launch, log *joblog.Writer) error {
	path, err := lookPath(l.Spec)
	if err != nil {
		return err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	a := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if c.cgroup != nil {
		f, err := c.cgroup.attr(a)
		if err != nil {
			return fmt.Errorf("%w: %w", errNoCgroup, err)
		}
		defer f.Close()
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		outR.Close()
		outW.Close()
		return err
	}
	var env []string
	for k, v := range l.Spec.Env {
		env = append(env, k+"="+v)
	}
	pid, err := fork(path, l.Spec.Command, &syscall.ProcAttr{
		Dir: l.Spec.Workdir, Env: env, Files: []uintptr{null.Fd(), outW.Fd(), errW.Fd()}, Sys: a})
	outW.Close()
	errW.Close()
	if err != nil {
		outR.Close()
		errR.Close()
		return commandError(path, err)
	}
	c.pid, c.startedAt = pid, time.Now().UTC()
	for name, r := range map[string]*os.File{rt.Stdout: outR, rt.Stderr: errR} {
		c.output.Go(func() {
			defer r.Close()
			log.Copy(name, r)
		})
	}
	return nil
}

// fork starts a process from a thread that lives as long as the keeper: the
// death of that thread is what PR_SET_PDEATHSIG waits for (pr_set_pdeathsig(2)).
func fork(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		if err = dropPrivileges(); err == nil {
			pid, err = syscall.ForkExec(path, argv, attr)
		}
		close(done)
		if err == nil {
			select {}
		}
		// Still locked, so the thread, changed as it is, ends with the goroutine.
	}()
	<-done
	return pid, err
}

// reap takes off every process that ends: the command, and orphans below it,
// whose parent we become.
func (c *container) reap() {
	defer close(c.gone)
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil: // ECHILD: nobody is left
			return
		case pid == c.pid:
			c.ended <- ended{status, time.Now().UTC()}
		}
	}
}

// StartedAt implements keeper.Container.
func (c *container) StartedAt() time.Time { return c.startedAt }

// Wait implements keeper.Container. What the command leaves behind ends with it.
func (c *container) Wait() rt.Exit {
	e := <-c.ended
	for left := true; left; {
		c.Kill(context.Background())
		select {
		case <-c.gone:
			left = false
		case <-time.After(5 * time.Millisecond):
		}
	}
	c.output.Wait()
	exit := rt.Exit{Code: e.status.ExitStatus(), StartedAt: c.startedAt, FinishedAt: e.at}
	if e.status.Signaled() {
		exit.Code = 128 + int(e.status.Signal())
		exit.Message = "killed by " + unix.SignalName(e.status.Signal())
	}
	return exit
}

// Terminate implements keeper.Container. As an init would, it tells the command
// alone. If that has just been taken off, its number is still ours: nobody can
// have taken it in so short a time.
func (c *container) Terminate(context.Context) error {
	return ignoreGone(unix.Kill(c.pid, unix.SIGTERM))
}

// Kill implements keeper.Container.
func (c *container) Kill(context.Context) error {
	if c.cgroup != nil {
		c.cgroup.kill() // where it cannot, signals do
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tree.kill()
}

// Freeze implements keeper.Container.
func (c *container) Freeze(ctx context.Context) error {
	if c.cgroup != nil {
		return c.cgroup.freeze(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tree.freeze(ctx)
}

// Thaw implements keeper.Container.
func (c *container) Thaw(context.Context) error {
	if c.cgroup != nil {
		return c.cgroup.thaw()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tree.thaw()
}

// Close implements keeper.Container.
func (c *container) Close() error {
	if c.cgroup == nil {
		return nil
	}
	return c.cgroup.remove()
}
