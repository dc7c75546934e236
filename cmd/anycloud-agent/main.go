// Command anycloud-agent is the VM's binary: the agent, the processes that
// belong to it, and the checkpoint engine's command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"anycloud/shared/setup/agent"
)

// version is set by the build.
var version = "unknown"

// exitError ends the program with a code, and a line if there is an error.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	code := 1
	var exit *exitError
	if errors.As(err, &exit) {
		code = exit.code
		err = exit.err
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "anycloud-agent: "+err.Error())
	}
	os.Exit(code)
}

func root() *cobra.Command {
	root := &cobra.Command{
		Use: "anycloud-agent", Short: "What runs on an anycloud VM, and the checkpoint engine", SilenceUsage: true, SilenceErrors: true, Version: version,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	inside := func(use, short string, args cobra.PositionalArgs, run func(ctx context.Context, args []string) error) {
		root.AddCommand(&cobra.Command{Use: use, Short: short, Args: args, Hidden: true, RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd.Context(), args)
		}})
	}
	inside("run", "The agent, started by its VM", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		err := agent.Run(ctx, version, os.Getenv)
		if err != nil {
			return &exitError{agent.ExitCode(err), err}
		}
		return nil
	})
	inside("vm DIR", "A local VM's process", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		if code := agent.Machine(ctx, args[0]); code != 0 {
			return &exitError{code: code}
		}
		return nil
	})
	inside("reap DIR", "Clear away what is left of a dead local VM", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		code, err := agent.Reap(ctx, args[0])
		if err != nil {
			return &exitError{code, err}
		}
		return nil
	})
	inside("keeper DIR", "The keeper of one container", cobra.ExactArgs(1), func(_ context.Context, args []string) error {
		return agent.Keep(args[0])
	})
	root.AddCommand(checkpointCommand(), &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		_, err := fmt.Println("anycloud-agent " + version)
		return err
	}})
	return root
}
