package dockerrt

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"anycloud/shared/agent/runtime"
)

// StartedAt implements keeper.Container.
func (c *running) StartedAt() time.Time { return c.startedAt }

func (c *running) state(ctx context.Context) (*container.State, error) {
	i, err := c.cli.ContainerInspect(ctx, c.id, client.ContainerInspectOptions{})
	if err != nil {
		return nil, err
	}
	if i.Container.State == nil {
		return nil, errors.New("engine tells no state")
	}
	return i.Container.State, nil
}

// Wait implements keeper.Container. An engine that does not answer is asked
// again: it may be restarting.
func (c *running) Wait() runtime.Exit {
	exit := c.await()
	c.over.Store(true)
	select {
	case <-c.read:
	case <-time.After(followWithin): // what is left is read without following
		c.unfollow()
		<-c.read
	}
	if text, _ := c.lastErr.Load().(string); strings.HasPrefix(text, "[FATAL tini (") {
		// The init could not run the command (docker-init is tini; its src/tini.c).
		switch exit.Code {
		case 127:
			exit.Reason, exit.Message = runtime.ReasonCommandNotFound, text
		case 126:
			exit.Reason, exit.Message = runtime.ReasonNotExecutable, text
		}
	}
	return exit
}

func (c *running) await() runtime.Exit {
	if c.id == "" { // a keeper died before it had created it
		return runtime.Exit{Code: 137, FinishedAt: time.Now().UTC(), Reason: runtime.ReasonKeeperDied,
			Message: "keeper died before the container was created"}
	}
	ctx := context.Background()
	for {
		w := c.cli.ContainerWait(ctx, c.id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
		select {
		case <-w.Result:
		case <-w.Error:
		}
		s, err := c.state(ctx)
		switch {
		case errdefs.IsNotFound(err):
			return runtime.Exit{Code: 137, StartedAt: c.startedAt, FinishedAt: time.Now().UTC(),
				Reason: runtime.ReasonRemoved, Message: "container was removed"}
		case err == nil && (s.Status == container.StateExited || s.Status == container.StateDead):
			exit := runtime.Exit{Code: s.ExitCode, OOM: s.OOMKilled && s.ExitCode != 0, StartedAt: c.startedAt, Message: s.Error}
			if exit.FinishedAt, err = time.Parse(time.RFC3339Nano, s.FinishedAt); err != nil {
				exit.FinishedAt = time.Now().UTC()
			}
			if exit.FinishedAt.Before(exit.StartedAt) { // the engine stamps a start when it hears of it
				exit.StartedAt = exit.FinishedAt
			}
			return exit
		}
		time.Sleep(retryEvery)
	}
}

// Terminate implements keeper.Container.
func (c *running) Terminate(ctx context.Context) error { return c.signal(ctx, "SIGTERM") }

// Kill implements keeper.Container.
func (c *running) Kill(ctx context.Context) error { return c.signal(ctx, "SIGKILL") }

func (c *running) signal(ctx context.Context, name string) error {
	if c.id == "" {
		return nil
	}
	_, err := c.cli.ContainerKill(ctx, c.id, client.ContainerKillOptions{Signal: name})
	return c.unless(ctx, err, func(s *container.State) bool { return !s.Running })
}

// Freeze implements keeper.Container. It waits for the engine's answer whatever
// ctx says: a call that is given up may still be done, after the thaw.
func (c *running) Freeze(ctx context.Context) error {
	if c.id == "" {
		return runtime.ErrNotRunning
	}
	ctx = context.WithoutCancel(ctx)
	_, err := c.cli.ContainerPause(ctx, c.id, client.ContainerPauseOptions{})
	if err == nil {
		return nil
	}
	if s, stateErr := c.state(ctx); stateErr == nil && !s.Running {
		return runtime.ErrNotRunning
	}
	return err
}

// Thaw implements keeper.Container.
func (c *running) Thaw(ctx context.Context) error {
	if c.id == "" {
		return nil
	}
	_, err := c.cli.ContainerUnpause(ctx, c.id, client.ContainerUnpauseOptions{})
	return c.unless(ctx, err, func(s *container.State) bool { return !s.Paused })
}

// unless forgives an error if the container is where the call was to bring it:
// engines of different age have different errors for that.
func (c *running) unless(ctx context.Context, err error, there func(*container.State) bool) error {
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	if s, stateErr := c.state(ctx); stateErr == nil && there(s) || errdefs.IsNotFound(stateErr) {
		return nil
	}
	return err
}

// Close implements keeper.Container. The container itself stays for Remove.
func (c *running) Close() error { return c.cli.Close() }
