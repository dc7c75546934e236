package localcloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"anycloud/shared/cloud/localcloud/vmdir"
)

// startWithin is how long a launch waits for a machine process to say who it
// is; one that takes longer is answered as pending.
const startWithin = 5 * time.Second

// VMEnv chooses, from os.Environ(), what belongs into Options.Env: everything
// but anycloud's own. The agent resolves secrets from it; what a job sees of it,
// the runtimes choose.
func VMEnv(environ []string) []string {
	var env []string
	for _, kv := range environ {
		if !strings.HasPrefix(kv, "ANYCLOUD_") {
			env = append(env, kv)
		}
	}
	return env
}

// start makes sure that the VM's machine process was started: nothing to do if
// it was, or if the VM is to end.
func (c *Cloud) start(ctx context.Context, id string) error {
	l := c.hold(id)
	defer l.Unlock()
	d := c.dir(id)
	s, err := inspect(d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it ended meanwhile
	}
	if err != nil || s.proc != nil || s.kill != nil || s.end != nil {
		return err
	}
	if d.Locked() { // started by a driver that died then
		_, err := c.awaitMachine(ctx, d, nil)
		return err
	}
	for {
		plain := c.plain.Load()
		exited, err := c.spawn(d, plain)
		code := 0
		if err == nil {
			code, err = c.awaitMachine(ctx, d, exited)
		}
		if !plain && (code == vmdir.ExitNoNamespace || namespaceRefused(err)) {
			c.o.Log.Info("no PID namespace for VMs here: their processes are found by their environment", "error", err)
			c.plain.Store(true)
			continue
		}
		return err
	}
}

// spawn starts the machine process so that it outlives this one.
func (c *Cloud) spawn(d vmdir.Dir, plain bool) (<-chan error, error) {
	console, err := os.OpenFile(d.Path("console.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer console.Close()
	cmd := exec.Command(c.o.AgentPath, "vm", string(d))
	cmd.Env = append(append([]string{}, c.o.Env...), vmdir.MarkerEnv+"="+d.ID())
	cmd.Dir = string(d)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = vmAttr(plain)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	return exited, nil
}

// awaitMachine waits until the machine process has said who it is.
func (c *Cloud) awaitMachine(ctx context.Context, d vmdir.Dir, exited <-chan error) (code int, err error) {
	late := time.After(startWithin)
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-late:
			return 0, nil
		case err := <-exited:
			exited = nil
			if p, perr := d.Process(); perr != nil || p != nil {
				return 0, perr
			}
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				code = exit.ExitCode()
			}
			if code != vmdir.ExitTaken { // else another one is just starting
				return code, fmt.Errorf("its machine process ended at once: %v: %s", err, console(d))
			}
		case <-tick.C:
			if p, err := d.Process(); err != nil || p != nil {
				return 0, err
			}
		}
	}
}
