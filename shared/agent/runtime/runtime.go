// Package runtime is what the agent core consumes of a container runtime: one
// container per directory, which outlives the agent that started it.
//
// Beside each container runs a keeper, a small process that writes the
// container's output and exit to the directory and ends every freeze in time.
// A restarted agent makes a Runtime for the same directory and goes on.
package runtime

import (
	"context"
	"path"
	"strconv"
	"time"
)

// Paths inside a container. The run directory holds the notice file and the
// socket; it has no promised name, only variables.
const (
	CheckpointDir = "/mnt/checkpoint"
	OutputDir     = "/mnt/output"
	InputDir      = "/mnt/input"
	RunDir        = "/mnt/.anycloud"
)

// Runtime runs the one container of its directory. It is safe for concurrent
// use. Two agents must not use one directory at the same time, but one may
// follow the other at any moment.
type Runtime interface {
	// Pull brings the image to this machine unless it is there; no registry is
	// asked then. progress may be nil; done and total are bytes (total 0: not
	// known yet), note is a short text for people. Errors: ErrImageNotFound,
	// ErrImageDenied; every other error is an *ErrPull.
	Pull(ctx context.Context, spec Spec, progress func(done, total int64, note string)) error

	// Start starts the container, once per directory: repeated, also by another
	// agent after a crash at any line, it finds the container running or exited
	// and returns nil. Errors: ErrCommandNotFound, ErrNotExecutable (repeated
	// calls return the same); after any other error the container did not start
	// and Start may be tried again. The docker runtime learns of a missing
	// command only from the exit: see Exit.Reason.
	Start(ctx context.Context, spec Spec) error

	// Status looks; it needs no Start by this agent. StateNone: never started.
	Status(ctx context.Context) (Status, error)

	// Wait returns when the container has exited, and all its output is in the
	// log. It may be called again. ErrNotStarted: there is no container.
	Wait(ctx context.Context) (Exit, error)

	// Stop ends a freeze, notes on disk that we stop, sends SIGTERM to the
	// command and, after grace, SIGKILL to all of it. It returns when the
	// container has exited. If ctx ends before, the stop goes on without us. A
	// second Stop can only bring the SIGKILL forward. Nil if it had exited, or
	// was never started.
	Stop(ctx context.Context, grace time.Duration) error

	// Kill is Stop without SIGTERM.
	Kill(ctx context.Context) error

	// Freeze stops every process of the container until Thaw, at most
	// Spec.MaxPause (and a little for the way), and not longer than the caller
	// lives. When it returns nil, nothing of the container runs. ErrNotRunning:
	// there is nothing to freeze. ErrNoFreeze: MaxPause is 0.
	Freeze(ctx context.Context) error

	// Thaw ends the freeze. ErrFreezeEnded: it had ended before, so that what
	// was read since Freeze may be of more than one moment. Without a freeze by
	// this Runtime it ends what an earlier agent left, if anything, and returns nil.
	Thaw(ctx context.Context) error

	// ReadLogs returns at most max lines (and at most about 1 MiB) that were
	// printed from offset on, and the offset that follows them. 0 is the start,
	// others come from earlier calls, also of an earlier agent; an offset whose
	// lines were discarded goes on at the first line that is left. No lines and
	// next == offset: there are none yet. It does not wait.
	ReadLogs(ctx context.Context, offset int64, max int) (lines []Line, next int64, err error)

	// Discard allows the lines before upto to be forgotten, to save disk space.
	Discard(ctx context.Context, upto int64) error

	// Remove kills what runs and removes what the engine holds of the container.
	// The directory stays, and in it exit and log. Repeatable.
	Remove(ctx context.Context) error

	// Close ends this agent's use, not the container. A freeze of ours ends.
	Close() error
}

// Spec says what to run.
type Spec struct {
	JobID   string
	Attempt int
	VMID    string

	// Image is a name as docker knows them; the exec runtime ignores it.
	Image string
	// Command replaces the image's CMD; empty keeps it. The exec runtime runs it.
	Command []string
	// Env is all that the job gets beside ANYCLOUD_JOB_ID, ANYCLOUD_ATTEMPT, the
	// Env of Mounts, and the image's variables (exec: PATH, HOME and their like).
	Env     map[string]string
	Workdir string  // empty: the image's; exec: Dir/work
	ShmSize int64   // bytes; 0: the engine's default; exec: ignored
	GPUs    int     // -1: all; exec: ignored
	CPUs    float64 // 0: no limit; exec: ignored
	Memory  int64   // bytes, 0: no limit; exec: ignored
	Mounts  []Mount

	// Labels are put on the container beside anycloud.vm, .job and .attempt.
	Labels map[string]string

	// MaxPause bounds a freeze; 0: never freeze.
	MaxPause time.Duration

	// RegistryAuth is used by Pull alone, and never written to disk.
	RegistryAuth *RegistryAuth
}

// RegistryAuth is what a registry wants to see.
type RegistryAuth struct {
	Username, Password string
	IdentityToken      string
	ServerAddress      string
}

// Mount puts a directory of the VM into the container.
type Mount struct {
	Source, Target string // absolute
	ReadOnly       bool
	// Env names paths below the mount by variables: {"ANYCLOUD_CHECKPOINT_DIR":
	// ""} is the mount itself, {"ANYCLOUD_SOCKET": "agent.sock"} a file in it. The
	// values are of Target where the container sees it there, else of Source.
	Env map[string]string
}

// State is what a container is doing.
type State string

// A container only moves forward through these.
const (
	StateNone    State = "none"
	StateRunning State = "running" // or frozen
	StateExited  State = "exited"
)

// Status is a look at the container.
type Status struct {
	State     State
	StartedAt time.Time // zero: none
	Exit      *Exit     // StateExited only
}

// Reasons of an Exit.
const (
	ReasonCommandNotFound = "command_not_found"
	ReasonNotExecutable   = "not_executable"
	// ReasonKeeperDied: the exit was not seen, so the code is made up. It is a
	// failure of ours and not of the job.
	ReasonKeeperDied = "keeper_died"
	// ReasonRemoved: somebody removed the container. The code is made up.
	ReasonRemoved = "removed"
)

// Exit is how a container ended.
type Exit struct {
	Code       int       `json:"code"` // 128 + signal if one killed it
	OOM        bool      `json:"oom,omitempty"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	// ByItself: it ended before any Stop, Kill or shutdown of the machine was
	// noted on disk. Only such an exit is the job's own.
	ByItself bool   `json:"by_itself"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"` // for people
}

// Names of Line.Stream.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// MaxText is the longest Text of a Line, in bytes.
const MaxText = 64 << 10

// Line is one printed line, or a piece of a very long one.
type Line struct {
	Time    time.Time // when it was read from the container
	Stream  string
	Text    []byte // without the newline
	Partial bool   // the next Line of the same stream, if any comes, continues this one
}

// JobEnv is what every container gets of the Spec, whatever runs it.
func JobEnv(s Spec) map[string]string {
	return map[string]string{"ANYCLOUD_JOB_ID": s.JobID, "ANYCLOUD_ATTEMPT": strconv.Itoa(s.Attempt)}
}

// MountEnv is Env of the mounts; at says where the container sees each.
func MountEnv(mounts []Mount, at func(Mount) string) map[string]string {
	env := map[string]string{}
	for _, m := range mounts {
		for name, below := range m.Env {
			env[name] = path.Join(at(m), below)
		}
	}
	return env
}
