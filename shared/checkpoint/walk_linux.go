package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stat is what tells whether a file may have changed.
type stat struct {
	Size, MTime, CTime int64
	Ino, Dev           uint64
}

// node is one name as the walk found it.
type node struct {
	entry
	stat  stat
	nlink uint64
	dirty bool // its look cannot tell the next change
}

// tree is one walk of a directory.
type tree struct {
	nodes   []node // sorted by path
	skipped []string
}

// errVanished: a name went away while it was looked at.
var errVanished = errors.New("vanished")

// xattrPrefix of the attributes that are saved.
const xattrPrefix = "user."

// walk looks at everything below dir. Sockets, devices and pipes are left out
// and named.
func walk(ctx context.Context, dir string) (tree, error) {
	var t tree
	links := map[[2]uint64]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) && path != dir {
				return nil // gone since its directory was read
			}
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		n, err := look(path, filepath.ToSlash(rel))
		switch {
		case errors.Is(err, errVanished):
			return nil
		case err != nil:
			return err
		case n.Type == "":
			t.skipped = append(t.skipped, rel)
			return nil
		}
		if n.Type == typeFile && n.nlink > 1 {
			key := [2]uint64{n.stat.Dev, n.stat.Ino}
			if first, ok := links[key]; ok {
				n.Type, n.Target, n.Size = typeLink, first, 0
			} else {
				links[key] = n.Path
			}
		}
		t.nodes = append(t.nodes, n)
		return nil
	})
	if err != nil {
		return t, fmt.Errorf("walk %s: %w", dir, err)
	}
	return t, nil
}

// look describes one name. An empty type: nothing that can be saved.
func look(path, rel string) (node, error) {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return node{}, errVanished
	}
	if err != nil {
		return node{}, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return node{}, fmt.Errorf("look at %s: no stat", path)
	}
	n := node{
		entry: entry{Path: rel, Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid), MTime: st.Mtim.Nano()},
		stat:  stat{Size: st.Size, MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano(), Ino: st.Ino, Dev: uint64(st.Dev)},
		nlink: uint64(st.Nlink),
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		n.Type = typeDir
		// A directory's own size says nothing about its content.
		n.stat.Size = 0
	case syscall.S_IFREG:
		n.Type, n.Size = typeFile, st.Size
	case syscall.S_IFLNK:
		n.Type = typeSymlink
		if n.Target, err = os.Readlink(path); err != nil {
			return node{}, errVanished
		}
	}
	if n.Type == typeDir || n.Type == typeFile {
		n.XAttrs = readXAttrs(path)
	}
	return n, nil
}

// readXAttrs reads the user's attributes; a file system without any has none.
func readXAttrs(path string) map[string][]byte {
	size, err := unix.Llistxattr(path, nil)
	if err != nil || size <= 0 {
		return nil
	}
	buf := make([]byte, size)
	if size, err = unix.Llistxattr(path, buf); err != nil {
		return nil
	}
	var out map[string][]byte
	for _, name := range strings.Split(strings.TrimRight(string(buf[:size]), "\x00"), "\x00") {
		if !strings.HasPrefix(name, xattrPrefix) {
			continue
		}
		n, err := unix.Lgetxattr(path, name, nil)
		if err != nil {
			continue
		}
		value := make([]byte, n)
		if n, err = unix.Lgetxattr(path, name, value); err != nil {
			continue
		}
		if out == nil {
			out = map[string][]byte{}
		}
		out[name] = value[:n]
	}
	return out
}

// sameNode says whether two walks saw the same.
func sameNode(a, b node) bool {
	return a.Path == b.Path && a.Type == b.Type && a.stat == b.stat && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Target == b.Target
}

// kind of file system that a directory is on, as far as it matters for stores
// through a mapping.
type kind struct {
	always bool // they may leave no trace: pages are never written back (tmpfs)
	stack  bool // the pages belong to another file (overlayfs): only a sync of the file reaches them
}

func kindOf(dir string) kind {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return kind{}
	}
	return kind{
		always: st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC || st.Type == unix.HUGETLBFS_MAGIC,
		stack:  st.Type == unix.OVERLAYFS_SUPER_MAGIC,
	}
}

// writeBack lets the next store through a mapping move the file's timestamp: a
// page that is dirty already would take it without a trace. Data only: the file
// need not be durable here.
func (k kind) writeBack(f *os.File) {
	switch {
	case k.always:
	case k.stack:
		unix.Fdatasync(int(f.Fd())) //nolint:errcheck // where it is not supported, the check after the read has to do
	default:
		unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER) //nolint:errcheck // likewise
	}
}

// nextData returns the next stretch of data in a file at or after offset, as
// [begin, end); false: only a hole follows.
func nextData(f *os.File, offset, size int64) (begin, end int64, ok bool) {
	begin, err := unix.Seek(int(f.Fd()), offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, false
	}
	if err != nil {
		return offset, size, offset < size // no holes on this file system
	}
	end, err = unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE)
	if err != nil {
		end = size
	}
	return begin, end, begin < size
}
