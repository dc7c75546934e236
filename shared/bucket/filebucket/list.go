package filebucket

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"anycloud/shared/bucket"
)

// PageSize is the length of a List page where the caller sets no limit.
const PageSize = 1000

// List implements bucket.Objects. It reads only directories that can hold a
// key of the page.
func (o *Objects) List(ctx context.Context, prefix, startAfter string, limit int) (page []bucket.Object, more bool, err error) {
	if limit <= 0 {
		limit = PageSize
	}
	l := lister{ctx: ctx, prefix: prefix, after: startAfter, limit: limit + 1}
	dir, base := o.dir, ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		base = prefix[:i+1]
		if dir, err = o.path(prefix[:i]); err != nil {
			dir, base = o.dir, "" // no key has such a prefix; still tell whether the bucket is there
		}
	}
	if err = l.walk(dir, base); absent(err) {
		if err = o.missing(); err == bucket.ErrNotFound {
			return nil, false, nil
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("list %s*: %w", prefix, translate(err))
	}
	if len(l.page) > limit {
		return l.page[:limit], true, nil
	}
	return l.page, false, nil
}

type lister struct {
	ctx           context.Context
	prefix, after string
	limit         int
	page          []bucket.Object
}

// entry of a directory, with the key it stands for; a directory's ends in a
// slash, which sorts it among its siblings as its objects sort.
type entry struct {
	key string
	fs.DirEntry
}

// walk adds the objects in dir, whose keys begin with base.
func (l *lister) walk(dir, base string) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	entries, err := l.entries(dir, base)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if len(l.page) == l.limit {
			return nil
		}
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			if err := l.walk(path, e.key); err != nil && !absent(err) {
				return err
			}
			continue
		}
		fi, err := e.Info()
		if absent(err) {
			continue // deleted since
		}
		if err != nil {
			return err
		}
		l.page = append(l.page, bucket.Object{Key: e.key, Size: fi.Size(), Modified: fi.ModTime()})
	}
	return nil
}

// entries reads what in dir belongs into the listing, in the order of keys.
func (l *lister) entries(dir, base string) ([]entry, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	all, err := d.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	found := make([]entry, 0, len(all))
	for _, e := range all {
		name, ok := element(e.Name())
		if !ok {
			continue
		}
		key := base + name
		switch {
		case e.IsDir():
			key += "/"
			ok = overlaps(key, l.prefix) && (key > l.after || strings.HasPrefix(l.after, key))
		case e.Type().IsRegular():
			ok = strings.HasPrefix(key, l.prefix) && key > l.after
		default:
			ok = false
		}
		if ok && bucket.CheckKey(strings.TrimSuffix(key, "/")) == nil {
			found = append(found, entry{key, e})
		}
	}
	slices.SortFunc(found, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return found, nil
}

// overlaps says whether keys in the directory can begin with the prefix.
func overlaps(dir, prefix string) bool {
	return strings.HasPrefix(dir, prefix) || strings.HasPrefix(prefix, dir)
}
