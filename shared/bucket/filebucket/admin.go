package filebucket

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"anycloud/shared/bucket"
)

// DefaultDisposeBatch is how many files one Dispose call removes: about a
// second's work on a slow disk.
const DefaultDisposeBatch = 1000

// Admin creates and disposes of buckets under one root directory.
//
// A bucket is put together, and taken apart, in the root's own directory: what
// has a bucket's name is whole and marked, so no crash leaves one that looks
// like somebody else's.
type Admin struct {
	// DisposeBatch bounds one Dispose call, in files; 0: DefaultDisposeBatch.
	DisposeBatch int

	root, stack string
}

var _ bucket.Admin = (*Admin)(nil)

// NewAdmin administers the stack's buckets under root, which the first Create
// makes.
func NewAdmin(root, stack string) (*Admin, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open buckets %s: %w", root, err)
	}
	return &Admin{root: abs, stack: stack}, nil
}

func (a *Admin) dir(name string) string { return filepath.Join(a.root, name) }

// workDir is a fresh name for a bucket being made or removed.
func (a *Admin) workDir(name string) string {
	return filepath.Join(a.root, tmpDir, name+"~"+rand.Text())
}

// Create implements bucket.Admin.
func (a *Admin) Create(ctx context.Context, name string) error {
	if ok, err := a.Exists(ctx, name); ok || err != nil {
		return err
	}
	if err := a.create(name); err != nil {
		return fmt.Errorf("create bucket %s: %w", name, translate(err))
	}
	return nil
}

func (a *Admin) create(name string) error {
	if err := os.MkdirAll(filepath.Join(a.root, tmpDir), 0o700); err != nil {
		return err
	}
	work := a.workDir(name)
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	err := writeMarker(work, a.stack)
	if err == nil {
		err = os.Rename(work, a.dir(name))
	}
	if err != nil {
		os.RemoveAll(work)
		// A rival was first, and the marker says who.
		if own := owner(a.dir(name), a.stack); own == nil || errors.Is(own, bucket.ErrNotOwned) {
			return own
		}
		return err
	}
	return syncDir(a.root)
}

// Exists implements bucket.Admin.
func (a *Admin) Exists(ctx context.Context, name string) (bool, error) {
	if err := bucket.CheckName(name); err != nil {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	err := owner(a.dir(name), a.stack)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("bucket %s: %w", name, translate(err))
	}
	return true, nil
}

// Dispose implements bucket.Admin. The first call takes the bucket's name away,
// so that nobody writes into what is being removed; all calls remove what still
// lies in the root's own directory.
func (a *Admin) Dispose(ctx context.Context, name string) (done bool, err error) {
	ok, err := a.Exists(ctx, name)
	if err != nil {
		return false, err
	}
	if ok {
		err := os.MkdirAll(filepath.Join(a.root, tmpDir), 0o700)
		if err == nil {
			err = os.Rename(a.dir(name), a.workDir(name))
		}
		if err == nil {
			err = syncDir(a.root)
		}
		if err != nil && !absent(err) { // absent: a rival moved it
			return false, fmt.Errorf("dispose of bucket %s: %w", name, translate(err))
		}
	}
	left := a.DisposeBatch
	if left <= 0 {
		left = DefaultDisposeBatch
	}
	err = a.leftovers(func(n, path string) error {
		if n != name || left <= 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return removeSome(path, &left)
	})
	if err != nil {
		return false, fmt.Errorf("dispose of bucket %s: %w", name, translate(err))
	}
	return left > 0, nil
}

// leftovers visits the stack's buckets that are being made or removed.
func (a *Admin) leftovers(f func(name, path string) error) error {
	dir := filepath.Join(a.root, tmpDir)
	entries, err := os.ReadDir(dir)
	if err != nil && !absent(err) {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		name, _, ok := strings.Cut(e.Name(), "~")
		if !ok || !e.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(path, markerName))
		if err == nil && len(b) > 0 && owner(path, a.stack) != nil {
			continue // another stack's under the same root
		}
		if err := f(name, path); err != nil {
			return err
		}
	}
	return nil
}

// removeSome removes up to left files below dir, the marker last, and then dir
// itself. left stays above 0 only if dir is gone.
func removeSome(dir string, left *int) error {
	entries, err := os.ReadDir(dir)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	slices.SortStableFunc(entries, func(x, y fs.DirEntry) int {
		return strings.Compare(last(x), last(y))
	})
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			err = removeSome(path, left)
		} else if err = os.Remove(path); err == nil {
			*left--
		}
		if err != nil && !absent(err) {
			return err
		}
		if *left <= 0 {
			return nil
		}
	}
	if err := os.Remove(dir); err != nil && !absent(err) {
		return err
	}
	return nil
}

func last(e fs.DirEntry) string {
	if e.Name() == markerName {
		return "1"
	}
	return "0"
}

// Access implements bucket.Admin. A directory needs no credentials: its file
// mode is what guards it, and the URL does not expire.
func (a *Admin) Access(ctx context.Context, name string) (bucket.Access, error) {
	ok, err := a.Exists(ctx, name)
	if err == nil && !ok {
		err = fmt.Errorf("access bucket %s: %w", name, bucket.ErrNoBucket)
	}
	if err != nil {
		return bucket.Access{}, err
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(a.dir(name))}
	return bucket.Access{URL: u.String()}, nil
}

// Open implements bucket.Admin.
func (a *Admin) Open(ctx context.Context, name string) (bucket.Objects, error) {
	if _, err := a.Exists(ctx, name); err != nil {
		return nil, err
	}
	return Open(a.dir(name))
}

// List implements bucket.Admin. It names buckets in disposal too.
func (a *Admin) List(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(a.root)
	if err != nil && !absent(err) {
		return nil, fmt.Errorf("list buckets: %w", translate(err))
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && bucket.CheckName(e.Name()) == nil && owner(a.dir(e.Name()), a.stack) == nil {
			names = append(names, e.Name())
		}
	}
	err = a.leftovers(func(name, _ string) error {
		names = append(names, name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list buckets: %w", translate(err))
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
