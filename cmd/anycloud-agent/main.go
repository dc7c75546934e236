// Command anycloud-agent is the program of anycloud's VMs: the agent that
// carries one attempt of a job, the keeper beside its container, the process
// that stands for a local VM, and the checkpoint engine's command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"anycloud/shared/setup/agent"
)

// version is set by the build.
var version = "unknown"

// exitError carries an exit code whose reason was logged, or needs no word.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	os.Exit(finish(err))
}

// finish prints the error, if there is one to print, and chooses the exit code.
func finish(err error) int {
	if err == nil {
		return 0
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if exit.err != nil {
			fmt.Fprintln(os.Stderr, "anycloud-agent: "+oneLine(exit.err))
		}
		return exit.code
	}
	fmt.Fprintln(os.Stderr, "anycloud-agent: "+oneLine(err))
	if isUsage(err) {
		return 2
	}
	return 1
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// isUsage recognises what cobra says of a wrong command line.
func isUsage(err error) bool {
	for _, begin := range []string{"unknown command", "unknown flag", "unknown shorthand", "flag needs", "invalid argument", "accepts ", "requires ", "required flag", "if any flags"} {
		if strings.HasPrefix(err.Error(), begin) {
			return true
		}
	}
	return false
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use: "anycloud-agent", Short: "What runs on anycloud's VMs", Version: version,
		SilenceErrors: true, SilenceUsage: true, CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	c.AddCommand(runCommand(), vmCommand(), reapCommand(), keeperCommand(), versionCommand(), checkpointCommand())
	return c
}

func runCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "Carry the attempt of the VM that this runs on (started at boot)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := agent.FromEnv(os.Getenv)
			if err != nil {
				return err
			}
			c.Version = version
			c.Logger = slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("vm", c.VMID)
			err = agent.Run(cmd.Context(), c)
			if agent.PowerOff(err) {
				return &exitError{code: agent.ExitPowerOff}
			}
			// Whatever ended it: the job is not done, and the VM starts it again.
			return &exitError{code: agent.ExitAgain, err: err}
		},
	}
}

func vmCommand() *cobra.Command {
	return &cobra.Command{
		Use: "vm DIR", Short: "Be the local VM that lies in DIR (started by the local cloud)", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error { return vmError(agent.VM(cmd.Context(), args[0])) },
	}
}

func reapCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reap DIR", Short: "Clear away what the dead local VM in DIR left (started by the local cloud)", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error { return vmError(agent.Reap(cmd.Context(), args[0])) },
	}
}

func vmError(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{agent.VMExitCode(err), err}
}

func keeperCommand() *cobra.Command {
	return &cobra.Command{
		Use: "keeper DIR", Short: "Keep the container whose directory is DIR (started by the agent)", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error { return agent.Keeper(args[0]) },
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "anycloud-agent "+version) },
	}
}
