//go:build !linux

package vmdir

import (
	"errors"
	"os"
	"time"
)

// Supported says why this system cannot run local VMs; nil: it can.
func Supported() error {
	return errors.New("VMs on this machine need Linux: set ANYCLOUD_ENDPOINT to a control plane elsewhere")
}

// Self is Linux's.
func Self() (Process, error) { return Process{}, Supported() }

// Alive is Linux's.
func (p Process) Alive() bool { return false }

// Kill is Linux's.
func (p Process) Kill() error { return Supported() }

// AwaitDead is Linux's.
func (p Process) AwaitDead(time.Duration) bool { return true }

// Lock is Linux's.
func (d Dir) Lock() (*os.File, error) { return nil, Supported() }

// Locked is Linux's.
func (d Dir) Locked() bool { return false }
