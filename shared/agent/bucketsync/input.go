package bucketsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/dustin/go-humanize"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"anycloud/shared/bucket"
)

// ErrNoRoom: the input is larger than what is free on the disk. Nothing was
// copied.
var ErrNoRoom = errors.New("the input does not fit on the disk")

// Fetch copies every object to dir, which holds nothing else afterwards: what an
// interrupted Fetch left is copied again unless its size is right. Keys are
// paths; a key that ends with a slash is a directory. progress may be nil.
func Fetch(ctx context.Context, objects bucket.Objects, dir string, progress func(done, total int64)) (files int, size int64, err error) {
	list, size, err := listAll(ctx, objects)
	if err != nil {
		return 0, 0, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, 0, &localError{err}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, &localError{fmt.Errorf("look at the disk: %w", err)}
	}
	if free := int64(st.Bavail) * st.Bsize; size-have(dir, list) > free {
		return 0, 0, fmt.Errorf("%w: it has %s, and %s are free", ErrNoRoom, humanize.IBytes(uint64(size)), humanize.IBytes(uint64(max(0, free))))
	}
	// Names are resolved below the directory only.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, 0, &localError{err}
	}
	defer root.Close()
	var done atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(Parallel)
	for _, o := range list {
		g.Go(func() error {
			if err := fetchOne(gctx, objects, root, o); err != nil {
				return fmt.Errorf("copy %s of the input: %w", o.Key, err)
			}
			if now := done.Add(o.Size); progress != nil {
				progress(now, size)
			}
			return nil
		})
	}
	return len(list), size, g.Wait()
}

func listAll(ctx context.Context, objects bucket.Objects) (list []bucket.Object, size int64, err error) {
	for after := ""; ; {
		var page []bucket.Object
		var more bool
		err := retry(ctx, func() (err error) {
			page, more, err = objects.List(ctx, "", after, 0)
			return err
		})
		if err != nil {
			return nil, 0, fmt.Errorf("list the bucket: %w", err)
		}
		for _, o := range page {
			after = o.Key
			size += o.Size
			list = append(list, o)
		}
		if !more || len(page) == 0 {
			return list, size, nil
		}
	}
}

// have is how much of the objects lies in dir already.
func have(dir string, list []bucket.Object) (size int64) {
	for _, o := range list {
		if fi, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(o.Key))); err == nil && fi.Mode().IsRegular() {
			size += min(fi.Size(), o.Size)
		}
	}
	return size
}

func fetchOne(ctx context.Context, objects bucket.Objects, root *os.Root, o bucket.Object) error {
	if strings.HasSuffix(o.Key, "/") {
		return local(root.MkdirAll(strings.TrimSuffix(o.Key, "/"), 0o755))
	}
	if err := bucket.CheckKey(o.Key); err != nil {
		return err
	}
	if dir := filepath.Dir(o.Key); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return &localError{err}
		}
	}
	if fi, err := root.Lstat(o.Key); err == nil && fi.Mode().IsRegular() && fi.Size() == o.Size && !o.Modified.After(fi.ModTime()) {
		return nil // of a fetch that was interrupted
	}
	return retry(ctx, func() error {
		in, err := objects.Get(ctx, o.Key, 0, -1)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := root.OpenFile(o.Key+partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
		if err != nil {
			return &localError{err}
		}
		n, err := io.Copy(writer{out}, in)
		if err == nil && n != o.Size {
			err = fmt.Errorf("%d bytes came, and %d were listed", n, o.Size)
		}
		if err := errors.Join(err, local(out.Close())); err != nil {
			return err
		}
		return local(root.Rename(o.Key+partial, o.Key))
	})
}

// partial ends the name of a file that is being copied.
const partial = ".anycloud-partial"

// writer marks errors of the disk, so that they are not tried again.
type writer struct{ f *os.File }

func (w writer) Write(b []byte) (int, error) {
	n, err := w.f.Write(b)
	return n, local(err)
}

func local(err error) error {
	if err == nil {
		return nil
	}
	return &localError{err}
}
