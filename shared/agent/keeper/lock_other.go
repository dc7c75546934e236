//go:build !linux

package keeper

import (
	"errors"
	"os"
)

var errTaken = errors.New("another keeper has the directory")

// lock fails: jobs run on Linux only.
func (d dir) lock() (*os.File, error) { return nil, errors.ErrUnsupported }

func (d dir) locked() bool { return false }
