package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"anycloud/shared/setup/local"
)

func (a *app) serveCommand() *cobra.Command {
	var tick, idle, boot time.Duration
	var gpus, prices string
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the control plane on this machine", Args: cobra.NoArgs,
		Long: `Runs the control plane of ANYCLOUD_HOME: table, events, buckets, and VMs that are
processes of this machine. Other commands start it by themselves where no
ANYCLOUD_ENDPOINT is set. Jobs and VMs outlive it and are found again.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if runtime.GOOS != "linux" {
				return fmt.Errorf("serve runs VMs as Linux processes and cannot do so on %s: run it on Linux and set ANYCLOUD_ENDPOINT here", runtime.GOOS)
			}
			home, err := a.home()
			if err != nil {
				return err
			}
			agent, err := a.agentBinary()
			if err != nil {
				return err
			}
			if gpus == "" {
				gpus = a.getenv("ANYCLOUD_PRETEND_GPUS")
			}
			if prices == "" {
				prices = a.getenv("ANYCLOUD_PRETEND_PRICES")
			}
			stack, err := local.Open(cmd.Context(), local.Config{
				Home: home, AgentPath: agent, Tick: tick, BootDelay: boot, GPUs: gpus, Prices: prices, Environ: os.Environ(), Logger: a.logger(),
			})
			if err != nil {
				return err
			}
			defer stack.Close()
			err = stack.Serve(cmd.Context(), local.ServeOptions{IdleExit: idle, Ready: func(endpoint string) {
				if a.json {
					a.printJSON(map[string]string{"endpoint": endpoint, "home": home}) //nolint:errcheck // nobody reads
					return
				}
				fmt.Fprintf(a.stdout, "anycloud serves %s from %s\n", endpoint, home)
			}})
			if local.IsIdle(err) {
				return nil
			}
			return err
		},
	}
	f := cmd.Flags()
	f.DurationVar(&tick, "tick", 30*time.Second, "interval of the sweep")
	f.DurationVar(&idle, "idle-exit", 0, "leave after being idle for so long (0: never)")
	f.DurationVar(&boot, "boot-delay", 0, "what a VM takes to boot")
	f.StringVar(&gpus, "pretend-gpus", "", "GPUs to pretend, for trials, such as a100:8")
	f.StringVar(&prices, "pretend-prices", "", "spot and on-demand USD per hour to pretend, such as 0.30,1.00")
	return cmd
}

// logger writes text for people and JSON for everything else.
func (a *app) logger() *slog.Logger {
	if terminal(a.stderr) {
		return slog.New(slog.NewTextHandler(a.stderr, nil))
	}
	return slog.New(slog.NewJSONHandler(a.stderr, nil))
}
