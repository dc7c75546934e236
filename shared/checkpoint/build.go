package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// builder makes files of trees. Everything is built beside the target and moved
// in when it is whole.
type builder struct {
	ctx         context.Context
	store       *chunkStore
	done, total int64
	progress    func(done, total int64)
}

// build makes dir hold exactly the tree. have is what dir holds from an earlier
// build: files that did not change are moved, not fetched.
func (b *builder) build(dir string, es, have []entry) error {
	dir = filepath.Clean(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return &localError{err}
	}
	temp := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".restoring")
	if err := removeAll(temp); err != nil {
		return &localError{err}
	}
	if err := os.Mkdir(temp, 0o700); err != nil {
		return &localError{err}
	}
	defer removeAll(temp) //nolint:errcheck // what is left is removed by the next restore
	// All names are resolved below this directory: a link cannot lead out.
	root, err := os.OpenRoot(temp)
	if err != nil {
		return &localError{err}
	}
	defer root.Close()
	if err := b.fill(root, dir, es, have); err != nil {
		return err
	}
	return swap(temp, dir, es)
}

func (b *builder) fill(root *os.Root, dir string, es, have []entry) error {
	old := make(map[string]*entry, len(have))
	for i := range have {
		old[have[i].Path] = &have[i]
	}
	for i := range es {
		if e := &es[i]; e.Type == typeDir && e.Path != "." {
			if err := root.Mkdir(e.Path, 0o700); err != nil {
				return buildError(e, err)
			}
		}
	}
	g, ctx := errgroup.WithContext(b.ctx)
	g.SetLimit(max(4, 2*runtime.NumCPU()))
	for i := range es {
		e := &es[i]
		if e.Type != typeFile {
			continue
		}
		g.Go(func() error {
			if o := old[e.Path]; o != nil && o.Type == typeFile && sameEntry(*o, *e) && b.reuse(root, dir, e) {
				return nil
			}
			return b.file(ctx, root, e)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i := range es {
		e := &es[i]
		switch e.Type {
		case typeLink:
			if err := root.Link(e.Target, e.Path); err != nil {
				return buildError(e, err)
			}
		case typeSymlink:
			if err := root.Symlink(e.Target, e.Path); err != nil {
				return buildError(e, err)
			}
		}
	}
	// Deepest first: making a child changes its directory's time.
	for i := len(es) - 1; i >= 0; i-- {
		if e := &es[i]; e.Path != "." && e.Type != typeLink {
			if err := setMeta(root.Name(), e); err != nil {
				return buildError(e, err)
			}
		}
	}
	return nil
}

// reuse takes the file from the directory as an earlier restore left it.
func (b *builder) reuse(root *os.Root, dir string, e *entry) bool {
	fi, err := os.Lstat(fullPath(dir, e.Path))
	if err != nil || !fi.Mode().IsRegular() || fi.Size() != e.Size || fi.ModTime().UnixNano() != e.MTime {
		return false
	}
	// A link, not a move: if this build fails, the directory is as it was.
	if os.Link(fullPath(dir, e.Path), fullPath(root.Name(), e.Path)) != nil {
		return false
	}
	b.count(e.Size)
	return true
}

func (b *builder) count(n int64) {
	done := atomic.AddInt64(&b.done, n)
	if b.progress != nil {
		b.progress(done, b.total)
	}
}

func (b *builder) file(ctx context.Context, root *os.Root, e *entry) error {
	f, err := root.OpenFile(e.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return buildError(e, err)
	}
	defer f.Close()
	if err := f.Truncate(e.Size); err != nil {
		return buildError(e, err)
	}
	err = b.store.chunks(ctx, e.Chunks, func(i int, p []byte) error {
		if p == nil {
			return nil // a hole
		}
		off := int64(i) * ChunkSize
		if int64(len(p)) != min(ChunkSize, e.Size-off) {
			return fmt.Errorf("%w: %q: a chunk has the wrong length", ErrDamaged, e.Path)
		}
		if _, err := f.WriteAt(p, off); err != nil {
			return buildError(e, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.count(e.Size)
	return nil
}

// buildError is one of the disk, or of a tree that makes no sense.
func buildError(e *entry, err error) error {
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: entry %q: %v", ErrDamaged, e.Path, err)
	}
	return &localError{fmt.Errorf("restore %q: %w", e.Path, err)}
}

// setMeta gives an entry its owner, mode, attributes and time. base is our own
// temporary directory, and the entry's parents are directories that we made.
func setMeta(base string, e *entry) error {
	p := fullPath(base, e.Path)
	if os.Geteuid() == 0 {
		if err := os.Lchown(p, e.UID, e.GID); err != nil {
			return err
		}
	}
	if e.Type != typeSymlink {
		for name, v := range e.XAttrs {
			if err := unix.Lsetxattr(p, name, v, 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
				return err
			}
		}
		if err := unix.Chmod(p, e.Mode); err != nil {
			return err
		}
	}
	ts := []unix.Timespec{unix.NsecToTimespec(e.MTime), unix.NsecToTimespec(e.MTime)}
	return unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW)
}

// swap moves what was built into the target, which may be a mount point and so
// cannot be replaced itself.
func swap(temp, dir string, es []entry) error {
	old, err := os.ReadDir(dir)
	if err != nil {
		return &localError{err}
	}
	for _, d := range old {
		if err := removeAll(filepath.Join(dir, d.Name())); err != nil {
			return &localError{err}
		}
	}
	built, err := os.ReadDir(temp)
	if err != nil {
		return &localError{err}
	}
	times := map[string]*entry{}
	for i := range es {
		if e := &es[i]; e.Type == typeDir && (e.Path == "." || path.Dir(e.Path) == ".") {
			times[e.Path] = e
		}
	}
	for _, d := range built {
		e := times[d.Name()]
		if e != nil && e.Mode&0o200 == 0 {
			// A directory that its owner may not write cannot be renamed by
			// others than root: for a moment it may.
			os.Chmod(filepath.Join(temp, d.Name()), 0o700) //nolint:errcheck // the rename tells
		}
		if err := os.Rename(filepath.Join(temp, d.Name()), filepath.Join(dir, d.Name())); err != nil {
			return &localError{err}
		}
		if e != nil {
			if err := setMeta(dir, e); err != nil {
				return &localError{err}
			}
		}
	}
	if e := times["."]; e != nil {
		if err := setMeta(dir, e); err != nil {
			return &localError{err}
		}
	}
	return nil
}

// removeAll removes a tree even if directories in it may not be written.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, _ error) error { //nolint:errcheck // RemoveAll tells
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700) //nolint:errcheck // RemoveAll tells
		}
		return nil
	})
	return os.RemoveAll(dir)
}
