// Command anycloud is the user's end: it submits, watches and ends jobs, and
// serves the control plane of this machine.
//
//	main.go        exit codes, errors
//	app.go         what every command shares; root command
//	connect.go     which control plane, and starting the local one
//	flags.go       the flags that describe a job
//	submit.go …    one file per command
//	timeline.go    status for people
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"anycloud/shared/api"
)

// version is set by the build.
var version = "unknown"

// Exit codes; `wait` has more of its own.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnknown     = 3 // wait: not observable
	exitTimeout     = 4
	exitInterrupted = 130
)

// exitError ends the program with a code. err may be nil: all was said.
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

// usagef is a mistake in how the command was called.
func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run executes a command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var exit *exitError
	code := exitFailed
	if errors.As(err, &exit) {
		code = exit.code
		if exit.err == nil {
			return code
		}
	} else if ctx.Err() != nil {
		return exitInterrupted
	} else if isUsage(err) {
		code = exitUsage
	}
	fmt.Fprintln(a.stderr, "anycloud: "+sentence(err))
	return code
}

// isUsage recognises what cobra says of a wrong command line, and a server's
// refusal of what was asked for.
func isUsage(err error) bool {
	if api.CodeOf(err) == api.CodeInvalid {
		return true
	}
	for _, begin := range []string{"unknown command", "unknown flag", "unknown shorthand", "flag needs", "invalid argument", "accepts ", "requires ", "if any flags", "required flag", "bad flag"} {
		if strings.HasPrefix(err.Error(), begin) {
			return true
		}
	}
	return false
}

// sentence makes one line of an error.
func sentence(err error) string {
	s := strings.Join(strings.Fields(err.Error()), " ")
	if isCobra(s) {
		s += ": see anycloud --help"
	}
	return s
}

func isCobra(s string) bool {
	return strings.HasPrefix(s, "unknown ") || strings.HasPrefix(s, "accepts ") || strings.HasPrefix(s, "requires ") || strings.HasPrefix(s, "flag needs")
}
