//go:build unix

package filebucket

import (
	"os"
	"syscall"
)

// nonblock keeps an open of a FIFO, laid into a bucket by hand, from waiting.
const nonblock = syscall.O_NONBLOCK

// syncDir makes the names in a directory survive a crash of the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
