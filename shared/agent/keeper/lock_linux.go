package keeper

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

var errTaken = errors.New("another keeper has the directory")

// lock takes the directory for this process until it ends.
func (d dir) lock() (*os.File, error) {
	f, err := os.OpenFile(d.path("keeper.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l); err != nil {
		f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, errTaken
		}
		return nil, err
	}
	return f, nil
}

// locked says whether a keeper lives, without getting in the way of one that is
// about to.
func (d dir) locked() bool {
	f, err := os.OpenFile(d.path("keeper.lock"), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l) == nil && l.Type != unix.F_UNLCK
}
