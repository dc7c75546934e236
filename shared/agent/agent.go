// Package agent is what runs on a VM for one attempt of a job: it claims the
// attempt, restores the checkpoint, runs the container, saves, hands over on a
// notice, ships the log, and reports.
//
//	agent.go     what it is made of, and its life from boot to power-off
//	disk.go      what survives the agent's own death
//	claim.go     the dead-man switch and the claim
//	talk.go      reports and orders
//	work.go      standby, take-over, start
//	tend.go      saves while the container runs
//	saving.go    one save at a time, beside everything else
//	health.go    what the record learns of the saves
//	end.go       notice, cancel, exit: the last commit
//	budget.go    when to stop, given a deadline: pure
//	ship.go      log lines to the log store
//	heir.go      lines that travel in a commit
//	access.go    credentials
//	socket.go    commits asked for from inside the container
//	engine.go    the checkpoint engine as the agent uses it
//
// An agent may be killed at any line: the container, its keeper and the disk
// stay, and the next agent on the VM goes on. It never kills a healthy job
// because of silence.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"anycloud/shared/agent/bucketsync"
	"anycloud/shared/agent/runtime"
	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint"
	"anycloud/shared/preempt"
)

// ErrPowerOff ends the agent and its VM: nobody wants it, or its work is done.
var ErrPowerOff = errors.New("power off")

// Metadata is what the VM's cloud tells it.
type Metadata interface {
	Endpoint(ctx context.Context) (string, error)
	Identity(ctx context.Context) (string, error)
	Notice(ctx context.Context, wait time.Duration) (*preempt.Notice, error)
}

// Options of an agent. All are required but Listen, Now and Logger.
type Options struct {
	Dir      string // the VM's disk
	VMID     string
	Cloud    string
	Version  string
	Metadata Metadata
	// Connect speaks to the control plane at an endpoint.
	Connect func(endpoint string) api.AgentService
	// Runtime makes the container's runtime in a directory.
	Runtime func(image, dir string) (runtime.Runtime, error)
	// Open opens a bucket with scoped credentials.
	Open   func(context.Context, bucket.Access) (bucket.Objects, error)
	Engine func(checkpoint.Options) (Engine, error) // nil: NewEngine
	// Listen opens the container's socket; nil: there is none.
	Listen func(path string) (net.Listener, error)
	// PretendGPUs: the VM's GPUs are not there; the container gets none.
	PretendGPUs bool
	Now         func() time.Time
	Logger      *slog.Logger
}

// agent is one run of the program on its VM.
type agent struct {
	Options
	disk   *disk
	claim  *api.ClaimReply
	secret string
	run    runtime.Runtime
	kick   chan struct{} // report soon
	saves  chan saveAsk
	ship   *shipper
	access *access
	mirror *bucketsync.Mirror // nil: the job has no output bucket

	factMu  sync.Mutex // facts reach the disk in their order
	mu      sync.Mutex
	service api.AgentService
	orders  api.Orders
	changed chan struct{} // closed when orders or notice changed
	report  api.Report
	notice  *preempt.Notice
	health  health
}

// Run is the agent's life. It returns ErrPowerOff when the VM is to end, and
// otherwise only with ctx or an error after which it may be started again.
func Run(ctx context.Context, o Options) error {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Engine == nil {
		o.Engine = NewEngine
	}
	a := &agent{Options: o, kick: make(chan struct{}, 1), saves: make(chan saveAsk), changed: make(chan struct{})}
	var err error
	if a.disk, err = openDisk(o.Dir); err != nil {
		return fmt.Errorf("open the VM's disk: %w", err)
	}
	if err := a.arm(); err != nil {
		return err
	}
	if err := a.claimAttempt(ctx); err != nil {
		return err
	}
	a.Logger = a.Logger.With("job", a.claim.JobID, "attempt", a.claim.Attempt)
	if a.run, err = o.Runtime(a.claim.Spec.Image, a.dir("container")); err != nil {
		return fmt.Errorf("open the container runtime: %w", err)
	}
	defer a.run.Close()
	// A freeze that the agent before us did not end ends now, before anything else.
	if err := a.run.Thaw(ctx); err != nil {
		a.Logger.Debug("thaw", "err", err)
	}
	a.access = newAccess(a)
	if err := a.openMirror(); err != nil {
		return err
	}
	a.ship = newShipper(a)
	err = a.live(ctx)
	if errors.Is(err, ErrPowerOff) {
		a.lastWords()
	}
	return err
}

// live runs the loops beside the work until one of them ends the agent.
func (a *agent) live(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.talk(ctx) })
	g.Go(func() error { return a.listen(ctx) })
	g.Go(func() error { return a.access.loop(ctx) })
	g.Go(func() error { return a.ship.loop(ctx) })
	g.Go(func() error { return a.serveSocket(ctx) })
	g.Go(func() error { return a.work(ctx) })
	return g.Wait()
}

// lastWords stops what runs: a VM that powers off leaves nothing behind, and a
// fenced container must not go on for another second.
func (a *agent) lastWords() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := a.run.Kill(ctx); err != nil {
		a.Logger.Warn("container not killed", "err", err)
	}
	fctx, fcancel := context.WithTimeout(ctx, flushFor)
	defer fcancel()
	a.ship.flush(fctx) //nolint:errcheck // nobody is left to tell
	if err := a.run.Remove(ctx); err != nil {
		a.Logger.Warn("container not removed", "err", err)
	}
}

func (a *agent) dir(name string) string { return filepath.Join(a.Dir, name) }

// change tells whoever waits that something is new.
func (a *agent) change() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// say puts a line of the agent's own into the job's log.
func (a *agent) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	a.Logger.Info(text)
	a.ship.say(text, nil)
}

// pause waits; false if the agent is to end.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func makeDirs(dirs ...string) error {
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	return nil
}
