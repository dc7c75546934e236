// Package keeper is the small process beside each container that outlives the
// agent, and the agent's end of the talk with it.
//
// The keeper starts the container, writes its output and its exit to the disk,
// and ends every freeze in time. It holds a lock on the directory while it
// lives, so that its death is known at once and for sure. An Engine does what
// differs between a process and a container engine. Whoever restarts agents must
// leave their keepers alone (systemd: KillMode=process); a SIGTERM tells a keeper
// that the machine goes down.
//
// The directory: keeper.lock; keeper.json (written before anything starts: it
// started, or may have), stop.json (before our first signal), exit.json (the
// end), failed.json (a start that may be tried again), keeper.sock, keeper.log,
// log/.
package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"anycloud/shared/agent/keeper/joblog"
	"anycloud/shared/agent/runtime"
)

// Engine starts containers, within the keeper.
type Engine interface {
	Name() string
	// Start starts the container, or, with l.Attach, takes over one that a former
	// keeper started. Errors: ErrIsolation; runtime.ErrCommandNotFound and
	// ErrNotExecutable, which end the container; any other, after which nothing
	// runs and Start may be tried again.
	Start(ctx context.Context, l *Launch, log *joblog.Writer) (Container, error)
}

// ErrIsolation is Start's when the system refuses Launch.Isolation. Less may do.
var ErrIsolation = errors.New("system refuses isolation")

// Container is one that was started.
type Container interface {
	StartedAt() time.Time
	// Wait returns when nothing of the container runs and all its output is in
	// the log. It fills all of Exit but ByItself.
	Wait() runtime.Exit
	// Terminate sends SIGTERM to the command; Kill, SIGKILL to all. Nil if there
	// is none any more.
	Terminate(ctx context.Context) error
	Kill(ctx context.Context) error
	// Freeze returns when nothing of the container runs; after an error it may
	// be half frozen. Thaw undoes both and may be repeated.
	Freeze(ctx context.Context) error
	Thaw(ctx context.Context) error
	// Close releases what the container had, after Wait.
	Close() error
}

// Launch is what the agent hands a keeper on its standard input. It may hold
// secrets and is never written to disk.
type Launch struct {
	Engine string
	Dir    string
	ID     string // names the container among all of this machine
	Spec   runtime.Spec
	// Isolation is one of the levels of Config.
	Isolation string
	// Attach: a former keeper died, and the container is to be found.
	Attach bool
}

// Record is keeper.json.
type Record struct {
	Engine    string        `json:"engine"`
	ID        string        `json:"id"`
	Boot      string        `json:"boot"` // the kernel's boot id
	Isolation string        `json:"isolation,omitempty"`
	JobID     string        `json:"job"`
	Attempt   int           `json:"attempt"`
	VMID      string        `json:"vm"`
	MaxPause  time.Duration `json:"max_pause"`
	StartedAt time.Time     `json:"started_at,omitzero"`
}

// stopNote is stop.json.
type stopNote struct {
	At       time.Time `json:"at"`
	Deadline time.Time `json:"deadline,omitzero"` // of the SIGKILL
	Reason   string    `json:"reason"`
}

const (
	stopAsked    = "stop"
	stopShutdown = "shutdown" // the machine goes down and signals everything
)

// failure is failed.json.
type failure struct {
	Message   string `json:"message"`
	Isolation bool   `json:"isolation,omitempty"`
}

// dir is the container's directory.
type dir string

func (d dir) path(name string) string { return filepath.Join(string(d), name) }
func (d dir) log() string             { return d.path("log") }

// read returns nil for a file that does not exist.
func read[T any](d dir, name string) (*T, error) {
	b, err := os.ReadFile(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("read %s: %w", d.path(name), err)
	}
	return v, nil
}

// write replaces a file so that it survives the machine's crash, whole.
func write(d dir, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(string(d), name+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), d.path(name)); err != nil {
		return err
	}
	return syncDir(string(d))
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(b[:len(b)-1])
}
