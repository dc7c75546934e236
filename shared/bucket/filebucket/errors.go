package filebucket

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"anycloud/shared/bucket"
)

// translate puts the system's error into the port's classes; absence is left to
// the caller, who must tell a missing object from a missing bucket.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", bucket.ErrFull, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", bucket.ErrDenied, err)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return fmt.Errorf("%w: %w", bucket.ErrBadKey, err)
	}
	return err
}

// absent says that there is no such file: its name, or a directory on the way
// to it, is missing, or that directory is a file.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
