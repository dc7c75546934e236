// Package filebucket is the bucket port on a directory: a bucket is a
// directory, a key's slashes are subdirectories, an object is a file with its
// plain name. It is the embedded default; many processes may use one bucket.
//
//	filebucket.go   Objects: open, names of files
//	write.go        PutIfAbsent by hard link, Put by rename, both fsynced
//	read.go         Get, Delete
//	list.go         List, in the order of keys
//	admin.go        Admin: create and dispose of buckets under one root
//	marker.go       who owns a bucket
//	errors.go       the system's errors in the port's classes
//
// What a directory cannot do that an object store can: a key cannot be both an
// object and the directory of others ("a" beside "a/b"); the later one is
// refused with bucket.ErrBadKey. Files that are no objects (symbolic links,
// devices, names that are not UTF-8) are not seen.
package filebucket

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"anycloud/shared/bucket"
)

const (
	// ownPrefix begins the names of our own files in a bucket or a root.
	ownPrefix = ".anycloud-"
	tmpDir    = ownPrefix + "tmp"
	// escape stands before an element that would look like one of ours.
	escape = ownPrefix + "%"
)

// Objects is one bucket. Make it with Open.
type Objects struct {
	dir    string
	synced sync.Map // directories known to survive a crash: path -> struct{}
	clean  sync.Once
}

var _ bucket.Objects = (*Objects)(nil)

// Open returns the bucket in the directory. Like a cloud's client it asks
// nothing yet: where the directory is missing, every call answers
// bucket.ErrNoBucket, and none ever makes it.
func Open(dir string) (*Objects, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", dir, err)
	}
	return &Objects{dir: abs}, nil
}

// Init makes the directory (and those above it) if it is missing, and opens
// it: for a bucket that a person named, never for a job's.
func Init(dir string) (*Objects, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("make bucket %s: %w", dir, translate(err))
	}
	return Open(dir)
}

// Resolve splits a path into bucket and prefix: the bucket is the nearest
// directory at or above it that carries a marker, and where none does, the
// whole path.
func Resolve(path string) (dir, prefix string) {
	path = filepath.Clean(path)
	for d := path; ; d = filepath.Dir(d) {
		if _, err := os.Lstat(filepath.Join(d, markerName)); err == nil {
			rel, err := filepath.Rel(d, path)
			if err != nil || rel == "." {
				return d, ""
			}
			return d, filepath.ToSlash(rel)
		}
		if d == filepath.Dir(d) {
			return path, ""
		}
	}
}

// path is the object's file.
func (o *Objects) path(key string) (string, error) {
	if err := bucket.CheckKey(key); err != nil {
		return "", err
	}
	if strings.Contains(key, ownPrefix) {
		parts := strings.Split(key, "/")
		for i, e := range parts {
			if parts[i] = escapeName(e); len(parts[i]) > bucket.MaxKeyElement {
				return "", fmt.Errorf("%w: %q is too long for a file name", bucket.ErrBadKey, e)
			}
		}
		key = strings.Join(parts, "/")
	}
	return filepath.Join(o.dir, filepath.FromSlash(key)), nil
}

func escapeName(e string) string {
	if strings.HasPrefix(e, ownPrefix) {
		return escape + e
	}
	return e
}

// element is the key's element of a file name; ok is false for our own files.
func element(name string) (e string, ok bool) {
	if e, ok := strings.CutPrefix(name, escape); ok {
		return e, true
	}
	return name, !strings.HasPrefix(name, ownPrefix)
}

// missing tells a missing object (bucket.ErrNotFound) from a missing bucket,
// and both from a bucket that cannot be looked at.
func (o *Objects) missing() error {
	_, err := os.Stat(o.dir)
	switch {
	case err == nil:
		return bucket.ErrNotFound
	case absent(err):
		return fmt.Errorf("bucket %s: %w", o.dir, bucket.ErrNoBucket)
	}
	return err
}
