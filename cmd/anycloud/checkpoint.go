package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anycloud/shared/api"
)

func (a *app) checkpointCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "checkpoint", Short: "A job's commits, and the checkpoint engine by itself",
		Long: `Of a job:
  anycloud checkpoint now ID               commit now; returns when it is durable
  anycloud checkpoint ls ID                its commits
  anycloud checkpoint pull ID DIR [--at N] restore a commit into DIR

The engine by itself, on file:///dir and s3://bucket (save, restore, ls, verify, prune):
  anycloud checkpoint save [--attempt N] [--freeze PID] DIR URL
  anycloud checkpoint restore URL DIR`,
	}
	cmd.AddCommand(a.checkpointNow(), a.checkpointLs(), a.checkpointPull())
	for _, name := range []string{"save", "restore", "verify", "prune"} {
		cmd.AddCommand(&cobra.Command{
			Use: name, Short: "The engine: see anycloud-agent checkpoint " + name + " --help", DisableFlagParsing: true,
			RunE: func(cmd *cobra.Command, args []string) error { return a.engine(cmd.Context(), nil, name, args...) },
		})
	}
	return cmd
}

// engine hands over to the agent's binary, which has all bucket drivers.
func (a *app) engine(ctx context.Context, env map[string]string, name string, args ...string) error {
	agent, err := a.agentBinary()
	if err != nil {
		return err
	}
	args = append([]string{"checkpoint", name}, args...)
	if a.json {
		args = append(args, "--json")
	}
	cmd := exec.CommandContext(ctx, agent, args...)
	cmd.Env = os.Environ()
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &exitError{code: exit.ExitCode()} // it said why
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", agent, err)
	}
	return nil
}

func (a *app) checkpointNow() *cobra.Command {
	return &cobra.Command{
		Use: "now ID", Short: "Commit now; returns when the commit is durable", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			reply, err := c.Checkpoint(ctx, args[0], api.CheckpointRequest{})
			for err == nil && !reply.Done {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(lookEvery):
				}
				reply, err = c.Checkpoint(ctx, args[0], api.CheckpointRequest{Request: reply.Request})
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(reply)
			}
			_, err = fmt.Fprintln(a.stdout, reply.Commit)
			return err
		},
	}
}

// ofJob gives access to a job's bucket.
func (a *app) ofJob(ctx context.Context, id string) (url string, env map[string]string, err error) {
	c, err := a.connect(ctx)
	if err != nil {
		return "", nil, err
	}
	access, err := c.CheckpointAccess(ctx, id)
	return access.URL, access.Env, err
}

func (a *app) checkpointLs() *cobra.Command {
	return &cobra.Command{
		Use: "ls ID|URL", Short: "List commits", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.Contains(args[0], "://") {
				return a.engine(cmd.Context(), nil, "ls", args[0])
			}
			url, env, err := a.ofJob(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.engine(cmd.Context(), env, "ls", url)
		},
	}
}

func (a *app) checkpointPull() *cobra.Command {
	at := 0
	cmd := &cobra.Command{
		Use: "pull ID DIR", Short: "Restore a job's commit into DIR", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if at < 0 {
				return usagef("--at must be a commit's number: anycloud checkpoint ls %s shows them", args[0])
			}
			url, env, err := a.ofJob(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			rest := []string{url, args[1]}
			if at > 0 {
				rest = append(rest, "--at", fmt.Sprint(at))
			}
			return a.engine(cmd.Context(), env, "restore", rest...)
		},
	}
	cmd.Flags().IntVar(&at, "at", 0, "the commit's number; the newest clean one if left out")
	return cmd
}
