package keeper

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"anycloud/shared/agent/runtime"
)

// Level is one isolation of a keeper and all it starts.
type Level struct {
	Name string
	Attr *syscall.SysProcAttr
}

// keeperEnv are variables that a keeper gets of the agent's: what finds the
// container engine, and what marks the processes of a VM. The rest may be secret.
var keeperEnv = []string{"PATH", "HOME", "TMPDIR", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH",
	"DOCKER_API_VERSION", "ANYCLOUD_VM"}

// Start implements runtime.Runtime.
func (c *Client) Start(ctx context.Context, spec runtime.Spec) error {
	if err := c.makeDir(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	spec.RegistryAuth = nil
	l := Launch{Engine: c.cfg.Engine, ID: strings.ToLower(rand.Text()), Spec: spec}
	for i, level := range c.cfg.Levels {
		rec, exit, err := c.afterDeath(ctx)
		if err != nil {
			return fmt.Errorf("start container: %w", err)
		}
		if exit != nil {
			return startError(exit)
		}
		if rec == nil && !c.dir.locked() {
			l.Isolation = level.Name
			err = c.launch(ctx, level, l)
		} else {
			err = c.awaitStarted(ctx, nil)
		}
		if errors.Is(err, ErrIsolation) && i+1 < len(c.cfg.Levels) {
			continue
		}
		if err != nil {
			return fmt.Errorf("start container: %w", err)
		}
		break
	}
	return nil
}

// startError is why a container never ran; nil if it did.
func startError(exit *runtime.Exit) error {
	if exit == nil || !exit.StartedAt.IsZero() {
		return nil
	}
	switch exit.Reason {
	case runtime.ReasonCommandNotFound:
		return fmt.Errorf("%w: %s", runtime.ErrCommandNotFound, exit.Message)
	case runtime.ReasonNotExecutable:
		return fmt.Errorf("%w: %s", runtime.ErrNotExecutable, exit.Message)
	}
	return nil
}

// launch starts a keeper and waits until it has started the container.
func (c *Client) launch(ctx context.Context, level Level, l Launch) error {
	if err := os.Remove(c.dir.path("failed.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	in, err := json.Marshal(l)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(c.dir.path("keeper.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	command := c.o.Command
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		command = []string{self, "keeper"}
	}
	cmd := exec.Command(command[0], append(command[1:len(command):len(command)], string(c.dir))...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), out, out
	cmd.Dir = string(c.dir)
	cmd.Env = []string{}
	for _, name := range keeperEnv {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.SysProcAttr = level.Attr
	if err := cmd.Start(); err != nil {
		if level.Name != "" && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w: %w", ErrIsolation, err)
		}
		return fmt.Errorf("start keeper: %w", err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	return c.awaitStarted(ctx, gone)
}

// awaitStarted waits for the word of the keeper that gone tells the end of, or
// of another's (nil), that the container runs or ran.
func (c *Client) awaitStarted(ctx context.Context, gone <-chan error) error {
	over := false
	for {
		_, exit, alive, err := c.glance()
		if err != nil {
			return err
		}
		if exit != nil {
			return startError(exit)
		}
		if alive {
			if c.ask(ctx, request{Op: opStarted}) == nil {
				// It answers, too, when the container has ended.
				exit, err = read[runtime.Exit](c.dir, "exit.json")
				return errors.Join(err, startError(exit))
			}
		} else if over || gone == nil {
			return c.deathCause()
		}
		select {
		case <-gone: // the next look tells more than how it ended
			over, gone = true, nil
		default:
			if err := pause(ctx); err != nil {
				return err
			}
		}
	}
}

// deathCause says why a keeper ended before it had started anything.
func (c *Client) deathCause() error {
	f, err := read[failure](c.dir, "failed.json")
	switch {
	case err != nil:
		return err
	case f == nil:
		return fmt.Errorf("keeper died; see %s", c.dir.path("keeper.log"))
	case f.Isolation:
		return fmt.Errorf("%w: %s", ErrIsolation, f.Message)
	}
	return errors.New(f.Message)
}
