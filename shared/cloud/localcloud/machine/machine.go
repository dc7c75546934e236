// Package machine is a local VM from inside: the process `anycloud-agent vm`
// that stands for the machine, and `anycloud-agent reap`, which clears away
// what is left of a dead one.
//
// Where the system allows it, the driver starts the process as PID 1 of a PID
// namespace: the kernel itself then ends everything on the VM with it, however
// it dies and whatever its processes did to detach themselves. Elsewhere the
// machine process is a subreaper that knows its descendants, and Reap finds
// them by a mark in their environment and by the list that the machine process
// keeps; a process that cleared its environment and detached itself in the
// second before the machine process was killed can then escape.
//
//	machine.go     what both share
//	run_linux.go   the life of the machine process
//	agent_linux.go the agent: start, restart, reap orphans as PID 1 must
//	procs_linux.go processes of the VM: find and kill
//	reap_linux.go  Reap
//	metadata.go    the metadata service
//	other.go       systems without local VMs
package machine

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"anycloud/shared/cloud/localcloud/vmdir"
)

// Exit codes of the agent that mean: power this VM off. With any other one the
// agent is restarted.
const (
	ExitDone     = 0
	ExitPowerOff = 42
)

const (
	// pollEvery is how soon a notice or an order in the directory is met.
	pollEvery = 40 * time.Millisecond
	// removeWithin bounds the removal of containers by the machine process
	// itself; what it does not manage the driver's reap does.
	removeWithin = 20 * time.Second
	// The agent's restarts, as systemd's Restart=always with a growing RestartSec.
	restartFirst, restartMost = 100 * time.Millisecond, 5 * time.Second
	// healthyAfter resets the delay between restarts.
	healthyAfter = 10 * time.Second
)

// RemoveContainers removes the containers labelled anycloud.vm=<vm id>, running
// or not. Nil: none is left, or there is no container engine. It may be
// repeated.
type RemoveContainers func(ctx context.Context, vmID string) error

// Options of Run.
type Options struct {
	// Agent is the agent's command line; nil: this very program with "run".
	Agent []string
	// RemoveContainers may be nil.
	RemoveContainers RemoveContainers
	// Log; nil: JSON on standard error.
	Log *slog.Logger
}

var errNoNamespace = errors.New("this system does not let a vm have its own /proc")

// ExitCode is what the program ends with after Run or Reap returned err.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errNoNamespace):
		return vmdir.ExitNoNamespace
	case errors.Is(err, vmdir.ErrTaken):
		return vmdir.ExitTaken
	}
	return 1
}
