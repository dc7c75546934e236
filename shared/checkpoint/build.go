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

// builder makes the files of one tree, beside the directory that they are for.
type builder struct {
	ctx      context.Context
	store    *chunkStore
	progress func(n int64) // called with the bytes that are done
	dir      string        // the target
	temp     string        // where it is built
	es       []entry
	have     []entry // what dir holds of an earlier restore
}

// build makes the directories hold exactly the trees. All are built before the
// first of them is moved in, so a commit that turns out to be damaged leaves the
// directories as they were.
func build(ctx context.Context, store *chunkStore, o RestoreOptions, trees, have map[string][]entry, total int64) error {
	var done atomic.Int64
	count := func(n int64) {
		if now := done.Add(n); o.Progress != nil {
			o.Progress(now, total)
		}
	}
	var bs []*builder
	defer func() {
		for _, b := range bs {
			removeAll(b.temp) //nolint:errcheck // what is left is removed by the next restore
		}
	}()
	for _, name := range sortedNames(o.Into) {
		es, ok := trees[name]
		if !ok {
			continue
		}
		b := &builder{ctx: ctx, store: store, progress: count, dir: filepath.Clean(o.Into[name]), es: es, have: have[name]}
		bs = append(bs, b)
		if err := b.build(); err != nil {
			return err
		}
	}
	for _, b := range bs {
		if err := b.swap(); err != nil {
			return &localError{fmt.Errorf("move what was restored into %s: %w", b.dir, err)}
		}
	}
	return nil
}

// tempName is where a tree is built: beside its directory, or within it if that
// is a mount point, because files can be moved on one file system only.
func tempName(dir string) (string, error) {
	var at, above unix.Stat_t
	if err := unix.Stat(dir, &at); err != nil {
		return "", err
	}
	if err := unix.Stat(filepath.Join(dir, ".."), &above); err != nil {
		return "", err
	}
	if at.Dev != above.Dev {
		return filepath.Join(dir, ".anycloud-restoring"), nil
	}
	return filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".restoring"), nil
}

func (b *builder) build() error {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return &localError{err}
	}
	temp, err := tempName(b.dir)
	if err != nil {
		return &localError{err}
	}
	if err := removeAll(temp); err != nil {
		return &localError{err}
	}
	if err := os.Mkdir(temp, 0o700); err != nil {
		return &localError{err}
	}
	b.temp = temp
	// All names are resolved below this directory: a link cannot lead out.
	root, err := os.OpenRoot(temp)
	if err != nil {
		return &localError{err}
	}
	defer root.Close()
	return b.fill(root)
}

func (b *builder) fill(root *os.Root) error {
	es := b.es
	old := make(map[string]*entry, len(b.have))
	for i := range b.have {
		old[b.have[i].Path] = &b.have[i]
	}
	for i := range es {
		if e := &es[i]; e.Type == typeDir && e.Path != "." {
			if err := root.Mkdir(e.Path, 0o700); err != nil {
				return buildError(e, err)
			}
		}
	}
	workers := max(4, 2*runtime.NumCPU())
	reused := make([]bool, len(es))
	var links errgroup.Group
	links.SetLimit(workers)
	for i := range es {
		e := &es[i]
		if o := old[e.Path]; o != nil && e.Type == typeFile && o.Type == typeFile && sameEntry(*o, *e) {
			links.Go(func() error { reused[i] = b.reuse(e); return nil })
		}
	}
	links.Wait() //nolint:errcheck // what is not reused is fetched
	var files []*entry
	for i := range es {
		if es[i].Type == typeFile && !reused[i] {
			files = append(files, &es[i])
		}
	}
	g, ctx := errgroup.WithContext(b.ctx)
	g.SetLimit(workers)
	for _, some := range batches(files) {
		g.Go(func() error {
			if len(some) == 1 {
				return b.file(ctx, root, some[0])
			}
			return b.batch(ctx, root, some)
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
			if err := setMeta(b.temp, e); err != nil {
				return buildError(e, err)
			}
		}
	}
	return nil
}

// reuse takes the file from the directory as an earlier restore left it.
func (b *builder) reuse(e *entry) bool {
	fi, err := os.Lstat(fullPath(b.dir, e.Path))
	if err != nil || !fi.Mode().IsRegular() || fi.Size() != e.Size || fi.ModTime().UnixNano() != e.MTime {
		return false
	}
	// A link, not a move: if this build fails, the directory is as it was.
	if os.Link(fullPath(b.dir, e.Path), fullPath(b.temp, e.Path)) != nil {
		return false
	}
	b.progress(e.Size)
	return true
}

func (b *builder) file(ctx context.Context, root *os.Root, e *entry) error {
	return b.write(root, e, func(put func(offset int64, p []byte) error) error { return b.store.fileChunks(ctx, e, put) })
}

// write makes a file of what fill puts; the rest of it is holes.
func (b *builder) write(root *os.Root, e *entry, fill func(put func(offset int64, p []byte) error) error) error {
	f, err := root.OpenFile(e.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return buildError(e, err)
	}
	defer f.Close()
	if err := f.Truncate(e.Size); err != nil {
		return buildError(e, err)
	}
	left := e.Size
	err = fill(func(offset int64, p []byte) error {
		if _, err := f.WriteAt(p, offset); err != nil {
			return buildError(e, err)
		}
		left -= int64(len(p))
		b.progress(int64(len(p)))
		return nil
	})
	if err != nil {
		return err
	}
	b.progress(left) // its holes
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
func (b *builder) swap() error {
	old, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	for _, d := range old {
		if p := filepath.Join(b.dir, d.Name()); p != b.temp {
			if err := removeAll(p); err != nil {
				return err
			}
		}
	}
	built, err := os.ReadDir(b.temp)
	if err != nil {
		return err
	}
	top := map[string]*entry{} // directories at the top, and the target
	for i := range b.es {
		if e := &b.es[i]; e.Type == typeDir && path.Dir(e.Path) == "." {
			top[e.Path] = e
		}
	}
	for _, d := range built {
		e := top[d.Name()]
		if e != nil && e.Mode&0o200 == 0 {
			// A directory that its owner may not write cannot be renamed by
			// others than root: for a moment it may.
			os.Chmod(filepath.Join(b.temp, d.Name()), 0o700) //nolint:errcheck // the rename tells
		}
		if err := os.Rename(filepath.Join(b.temp, d.Name()), filepath.Join(b.dir, d.Name())); err != nil {
			return err
		}
		if e != nil {
			if err := setMeta(b.dir, e); err != nil {
				return err
			}
		}
	}
	if err := removeAll(b.temp); err != nil {
		return err
	}
	if e := top["."]; e != nil {
		return setMeta(b.dir, e)
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
