package filebucket

import (
	"context"
	"fmt"
	"io"
	"os"

	"anycloud/shared/bucket"
)

// Get implements bucket.Objects.
func (o *Objects) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	path, err := o.path(key)
	if err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fmt.Errorf("get %s: negative offset", key)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0)
	if err != nil {
		if absent(err) {
			err = o.missing()
		}
		return nil, fmt.Errorf("get %s: %w", key, translate(err))
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = bucket.ErrNotFound
	}
	if err == nil && offset > 0 {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("get %s: %w", key, translate(err))
	}
	if length < 0 {
		return f, nil
	}
	return limited{io.LimitReader(f, length), f}, nil
}

type limited struct {
	io.Reader
	io.Closer
}

// Delete implements bucket.Objects. Directories that become empty stay: making
// them again costs more than they do.
func (o *Objects) Delete(ctx context.Context, key string) error {
	path, err := o.path(key)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	fi, err := os.Lstat(path)
	switch {
	case err == nil && fi.IsDir():
		return nil
	case err == nil:
		err = os.Remove(path)
	}
	if absent(err) {
		if err = o.missing(); err == bucket.ErrNotFound {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, translate(err))
	}
	return nil
}
