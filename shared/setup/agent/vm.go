package agent

import (
	"context"
	"errors"

	"anycloud/shared/agent/dockerrt"
	"anycloud/shared/agent/execrt"
	"anycloud/shared/agent/keeper"
	"anycloud/shared/cloud/localcloud/machine"
)

// Exit codes of the agent that tell its VM what to do next.
const (
	// ExitPowerOff: power off. Any other code but 0 means: start me again.
	ExitPowerOff = machine.ExitPowerOff
	ExitAgain    = 1
)

// VM is the process that stands for a local VM; it returns when the VM has ended.
func VM(ctx context.Context, dir string) error {
	return machine.Run(ctx, dir, machine.Options{RemoveContainers: remove})
}

// Reap clears away what a dead local VM left.
func Reap(ctx context.Context, dir string) error { return machine.Reap(ctx, dir, remove) }

// VMExitCode is what the program ends with after VM or Reap.
func VMExitCode(err error) int { return machine.ExitCode(err) }

// remove removes what containers leave: the container engine's own, and the
// empty control groups of commands.
func remove(ctx context.Context, vmID string) error {
	return errors.Join(dockerrt.RemoveByVM(ctx, vmID), execrt.RemoveByVM(vmID))
}

// Keeper is the process beside a container.
func Keeper(dir string) error { return keeper.Run(dir, execrt.Engine{}, dockerrt.Engine{}) }
