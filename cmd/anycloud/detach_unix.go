//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// detach puts the process into a session of its own: it outlives this command
// and its terminal.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
