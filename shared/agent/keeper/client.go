package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"anycloud/shared/agent/keeper/joblog"
	"anycloud/shared/agent/runtime"
)

// Options of a runtime.
type Options struct {
	// Command starts a keeper when the directory is appended to it; nil: this
	// very program with "keeper".
	Command []string
}

// Config is what a Client must know of its engine.
type Config struct {
	Engine string
	// Levels are isolations to try, best first, each with how to start a keeper
	// within it.
	Levels []Level
	// Bury makes sure that nothing runs of a container whose keeper died; it then
	// counts as ended by ReasonKeeperDied. Nil: the container needs no keeper to
	// go on, so a new one takes over.
	Bury func(ctx context.Context, r Record) error
}

// Client is the agent's end: all of a runtime.Runtime but Pull and Remove.
type Client struct {
	dir dir
	cfg Config
	o   Options

	mu sync.Mutex // starts and burials

	frozen struct {
		sync.Mutex
		conn *conn
	}
}

// NewClient makes a client for the container at path, which may not exist yet.
func NewClient(path string, cfg Config, o *Options) *Client {
	c := &Client{dir: dir(path), cfg: cfg}
	if abs, err := filepath.Abs(path); err == nil {
		c.dir = dir(abs)
	}
	if o != nil {
		c.o = *o
	}
	return c
}

// Dir is the container's directory.
func (c *Client) Dir() string { return string(c.dir) }

// Record is what the directory says of a container that was started, or nil.
func (c *Client) Record() (*Record, error) { return read[Record](c.dir, "keeper.json") }

// Status implements runtime.Runtime.
func (c *Client) Status(ctx context.Context) (runtime.Status, error) {
	rec, exit, err := c.look(ctx)
	switch {
	case err != nil:
		return runtime.Status{}, fmt.Errorf("look at container: %w", err)
	case exit != nil:
		return runtime.Status{State: runtime.StateExited, StartedAt: exit.StartedAt, Exit: exit}, nil
	case rec == nil:
		return runtime.Status{State: runtime.StateNone}, nil
	}
	return runtime.Status{State: runtime.StateRunning, StartedAt: rec.StartedAt}, nil
}

// look returns the record of a container that was started, and its exit; if
// only the record, a keeper lives.
func (c *Client) look(ctx context.Context) (*Record, *runtime.Exit, error) {
	rec, exit, alive, err := c.glance()
	if err != nil || exit != nil || rec == nil || alive {
		return rec, exit, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.afterDeath(ctx)
}

// glance reads the directory. The lock is looked at first: what a keeper wrote
// before it died is there then.
func (c *Client) glance() (rec *Record, exit *runtime.Exit, alive bool, err error) {
	alive = c.dir.locked()
	if exit, err = read[runtime.Exit](c.dir, "exit.json"); err != nil || exit != nil {
		return nil, exit, alive, err
	}
	rec, err = c.Record()
	return rec, nil, alive, err
}

// afterDeath is look for the case that the keeper died. c.mu is held.
func (c *Client) afterDeath(ctx context.Context) (*Record, *runtime.Exit, error) {
	rec, exit, alive, err := c.glance()
	if err != nil || exit != nil || rec == nil || alive {
		return rec, exit, err
	}
	if c.cfg.Bury == nil {
		l := Launch{Engine: c.cfg.Engine, ID: rec.ID, Attach: true, Spec: runtime.Spec{
			JobID: rec.JobID, Attempt: rec.Attempt, VMID: rec.VMID, MaxPause: rec.MaxPause}}
		if err := c.launch(ctx, c.cfg.Levels[0], l); err != nil {
			return nil, nil, fmt.Errorf("replace dead keeper: %w", err)
		}
		rec, exit, _, err := c.glance()
		return rec, exit, err
	}
	if err := c.cfg.Bury(ctx, *rec); err != nil {
		return nil, nil, fmt.Errorf("clear up after dead keeper: %w", err)
	}
	exit = &runtime.Exit{Code: 137, StartedAt: rec.StartedAt, FinishedAt: time.Now().UTC(),
		Reason: runtime.ReasonKeeperDied, Message: "keeper died"}
	return rec, exit, write(c.dir, "exit.json", exit)
}

// Wait implements runtime.Runtime.
func (c *Client) Wait(ctx context.Context) (runtime.Exit, error) {
	for {
		rec, exit, err := c.look(ctx)
		if err != nil {
			return runtime.Exit{}, fmt.Errorf("wait for container: %w", err)
		}
		if exit != nil {
			return *exit, nil
		}
		if rec == nil && !c.dir.locked() {
			return runtime.Exit{}, runtime.ErrNotStarted
		}
		if err := c.ask(ctx, request{Op: opWait}); err != nil {
			if err := pause(ctx); err != nil {
				return runtime.Exit{}, err
			}
		}
	}
}

// Stop implements runtime.Runtime.
func (c *Client) Stop(ctx context.Context, grace time.Duration) error {
	for {
		rec, exit, err := c.look(ctx)
		if err != nil {
			return fmt.Errorf("stop container: %w", err)
		}
		if exit != nil || rec == nil && !c.dir.locked() {
			return nil
		}
		// If the keeper dies meanwhile, the next look sees to it.
		if err := c.ask(ctx, request{Op: opStop, Grace: grace}); err != nil {
			if err := pause(ctx); err != nil {
				return err
			}
		}
	}
}

// Kill implements runtime.Runtime.
func (c *Client) Kill(ctx context.Context) error { return c.Stop(ctx, 0) }

func (c *Client) ask(ctx context.Context, r request) error {
	n, err := c.dir.dial(ctx)
	if err != nil {
		return err
	}
	defer n.Close()
	err, transport := n.ask(ctx, r)
	return errors.Join(err, transport)
}

// pause between two looks at what is about to change.
func pause(ctx context.Context) error {
	t := time.NewTimer(5 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Freeze implements runtime.Runtime.
func (c *Client) Freeze(ctx context.Context) error {
	c.frozen.Lock()
	defer c.frozen.Unlock()
	if c.frozen.conn != nil {
		return errors.New("freeze container: it is frozen")
	}
	rec, exit, err := c.look(ctx)
	if err != nil {
		return fmt.Errorf("freeze container: %w", err)
	}
	if rec == nil || exit != nil {
		return runtime.ErrNotRunning
	}
	n, err := c.dir.dial(ctx)
	if err != nil {
		return fmt.Errorf("freeze container: %w", err)
	}
	err, transport := n.ask(ctx, request{Op: opFreeze})
	if err := errors.Join(err, transport); err != nil {
		n.Close() // which thaws, should it have come so far
		return fmt.Errorf("freeze container: %w", err)
	}
	c.frozen.conn = n
	return nil
}

// Thaw implements runtime.Runtime.
func (c *Client) Thaw(ctx context.Context) error {
	c.frozen.Lock()
	defer c.frozen.Unlock()
	if n := c.frozen.conn; n != nil {
		c.frozen.conn = nil
		defer n.Close()
		err, transport := n.ask(ctx, request{Op: opThaw})
		if transport != nil {
			return fmt.Errorf("%w: %w", runtime.ErrFreezeEnded, transport)
		}
		return err
	}
	rec, exit, err := c.look(ctx)
	if err != nil || exit != nil || rec == nil {
		return err
	}
	if err := c.ask(ctx, request{Op: opThaw}); err != nil && c.dir.locked() {
		return fmt.Errorf("thaw container: %w", err)
	}
	return nil
}

// ReadLogs implements runtime.Runtime.
func (c *Client) ReadLogs(_ context.Context, offset int64, max int) ([]runtime.Line, int64, error) {
	return joblog.Read(c.dir.log(), offset, max)
}

// Discard implements runtime.Runtime.
func (c *Client) Discard(_ context.Context, upto int64) error {
	return joblog.Discard(c.dir.log(), upto)
}

// Close implements runtime.Runtime.
func (c *Client) Close() error {
	c.frozen.Lock()
	defer c.frozen.Unlock()
	if n := c.frozen.conn; n != nil {
		c.frozen.conn = nil
		return n.Close()
	}
	return nil
}

// AwaitGone returns when the keeper has ended.
func (c *Client) AwaitGone(ctx context.Context) error {
	for c.dir.locked() {
		if err := pause(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) makeDir() error {
	if err := os.MkdirAll(string(c.dir), 0o700); err != nil {
		return fmt.Errorf("make container directory: %w", err)
	}
	return nil
}
