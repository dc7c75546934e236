package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"anycloud/shared/api"
)

// app is what commands share.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	json           bool
	client         *api.Client // set by tests; else connect makes it
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "anycloud",
		Short: "Run containers on spot VMs that come and go; the job stays.",
		Long: `anycloud runs a container on a cheap spot VM and carries the job through the
VM's loss: it terminates what is left, starts a new VM, restores
/mnt/checkpoint and runs the container again.

  anycloud submit IMAGE --spot -- COMMAND...

Without ANYCLOUD_ENDPOINT the control plane runs on this machine, in
ANYCLOUD_HOME, and is started when it is needed.`,
		SilenceUsage: true, SilenceErrors: true, Version: version,
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON only")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return &exitError{exitUsage, fmt.Errorf("%w: see anycloud --help", err)}
	})
	root.AddCommand(a.submitCommand(), a.listCommand(), a.statusCommand(), a.logsCommand(), a.waitCommand(), a.cancelCommand(),
		a.resubmitCommand(), a.preemptCommand(), a.checkpointCommand(), a.doctorCommand(), a.gpusCommand(), a.serveCommand(), a.versionCommand())
	return root
}

// printJSON writes one JSON value to stdout.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// note tells people something on stderr.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.stderr, format+"\n", args...)
}

// terminal says whether w shows to a person.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colour wraps text in an ANSI colour where one is wanted.
func (a *app) colour(code, text string) string {
	if !terminal(a.stdout) || a.getenv("NO_COLOR") != "" || a.getenv("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(map[string]string{"version": version})
			}
			_, err := fmt.Fprintln(a.stdout, "anycloud "+version)
			return err
		},
	}
}
