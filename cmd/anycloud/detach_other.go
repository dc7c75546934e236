//go:build !unix

package main

import "os/exec"

// detach has nothing to do where no control plane can be started.
func detach(*exec.Cmd) {}
