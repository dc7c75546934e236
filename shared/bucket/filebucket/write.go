package filebucket

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"anycloud/shared/bucket"
)

// staleAfter is the age at which a temporary file is taken for one that a
// killed process left: far longer than any put, or a machine's sleep in it.
const staleAfter = 24 * time.Hour

// maxTries bounds the rounds against somebody who removes directories while we
// make them.
const maxTries = 10

// PutIfAbsent implements bucket.Objects. A hard link is the one call that all
// local file systems make atomic and that fails on a taken name.
func (o *Objects) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	path, err := o.path(key)
	if err != nil {
		return err
	}
	if fi, err := os.Lstat(path); err == nil && !fi.IsDir() {
		return o.taken(key, path)
	}
	err = o.write(ctx, key, path, bytes.NewReader(data), int64(len(data)), func(tmp string) error {
		if err := os.Link(tmp, path); err != nil {
			return err
		}
		os.Remove(tmp) // the object is there by its other name; a leftover is only litter
		return nil
	})
	if errors.Is(err, fs.ErrExist) && !errors.Is(err, bucket.ErrBadKey) {
		return o.taken(key, path)
	}
	return err
}

// taken answers ErrExists, once the object that is in the way is as durable as
// if this call had put it: the caller may find that it was its own.
func (o *Objects) taken(key, path string) error {
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("put %s: %w", key, translate(err))
	}
	return fmt.Errorf("put %s: %w", key, bucket.ErrExists)
}

// Put implements bucket.Objects.
func (o *Objects) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	path, err := o.path(key)
	if err != nil {
		return err
	}
	return o.write(ctx, key, path, r, size, func(tmp string) error { return os.Rename(tmp, path) })
}

// write brings the bytes to disk under a temporary name, has move give them
// their own, and syncs the directory that holds it.
func (o *Objects) write(ctx context.Context, key, path string, r io.Reader, size int64, move func(tmp string) error) error {
	tmp, err := o.temp(ctx, r, size)
	if err == nil {
		if err = o.publish(tmp, path, move); err != nil {
			os.Remove(tmp)
		}
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", key, translate(err))
	}
	return nil
}

// temp writes a synced file that no List shows.
func (o *Objects) temp(ctx context.Context, r io.Reader, size int64) (path string, err error) {
	o.clean.Do(func() { removeStale(filepath.Join(o.dir, tmpDir), time.Now().Add(-staleAfter)) })
	path = filepath.Join(o.dir, tmpDir, rand.Text())
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if absent(err) {
		// Mkdir, not MkdirAll: a bucket that was removed stays removed.
		if err = os.Mkdir(filepath.Dir(path), 0o777); err == nil || errors.Is(err, fs.ErrExist) {
			f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		}
	}
	if absent(err) {
		if gone := o.missing(); gone != bucket.ErrNotFound {
			err = gone
		}
	}
	if err != nil {
		return "", err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			os.Remove(path)
		}
	}()
	n, err := io.Copy(f, io.LimitReader(contextReader{ctx, r}, size+1))
	if err == nil && n != size {
		err = fmt.Errorf("got %d bytes where %d were announced", n, size)
	}
	if err == nil {
		err = f.Sync()
	}
	return path, err
}

// publish moves a temporary file to its path.
func (o *Objects) publish(tmp, path string, move func(tmp string) error) error {
	dir := filepath.Dir(path)
	var err error
	for range maxTries {
		if err = o.makeDir(dir); err == nil {
			err = move(tmp)
		}
		switch {
		case err == nil:
			return syncDir(dir)
		case errors.Is(err, syscall.ENOTDIR):
			return fmt.Errorf("%w: the key is below another object: %w", bucket.ErrBadKey, err)
		case absent(err):
			o.synced.Delete(dir) // removed behind our back
			if gone := o.missing(); gone != bucket.ErrNotFound {
				return gone
			}
		default:
			fi, serr := os.Lstat(path)
			if serr != nil || !fi.IsDir() {
				return err
			}
			if !o.removeEmpty(path) {
				return fmt.Errorf("%w: other objects are below this key: %w", bucket.ErrBadKey, err)
			}
		}
	}
	return err
}

// makeDir makes a directory of the bucket, but never the bucket, and syncs the
// names on the way to it: others may have made them and not synced them yet.
func (o *Objects) makeDir(dir string) error {
	if _, ok := o.synced.Load(dir); ok || dir == o.dir {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := o.makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		if !errors.Is(err, fs.ErrExist) {
			o.synced.Delete(parent)
			return err
		}
		if fi, err := os.Stat(dir); err == nil && !fi.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
	}
	if err := syncDir(parent); err != nil {
		return err
	}
	o.synced.Store(dir, struct{}{})
	return nil
}

// removeEmpty removes directories that hold no file at all, as deleted objects
// leave them behind.
func (o *Objects) removeEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if !e.IsDir() || !o.removeEmpty(filepath.Join(dir, e.Name())) {
			return false
		}
	}
	o.synced.Delete(dir)
	return os.Remove(dir) == nil
}

// removeStale removes files older than the time; what fails is left.
func removeStale(dir string, before time.Time) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() && fi.ModTime().Before(before) {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// contextReader ends a copy when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
