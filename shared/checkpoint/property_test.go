package checkpoint_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"anycloud/shared/bucket/membucket"
	"anycloud/shared/checkpoint"
)

// names are few, so that edits meet; some are no UTF-8, some look like traps.
var names = []string{"a", "b", "model.bin", "x y", "..c", "-rf", "caf\xe9", "\xff\xfe", "new\nline", "日本"}

// edits are what can happen to a directory between two saves.
type edits struct {
	t    *rapid.T
	root string
}

func (e edits) name(label string) string {
	depth := rapid.IntRange(1, 3).Draw(e.t, label+" depth")
	p := e.root
	for range depth {
		p = filepath.Join(p, rapid.SampledFrom(names).Draw(e.t, label))
	}
	return p
}

// one does one edit; those that make no sense on what is there do nothing.
func (e edits) one() {
	p := e.name("name")
	switch rapid.SampledFrom([]string{"write", "write", "patch", "append", "truncate", "sparse", "dir", "link", "symlink", "rename", "remove", "chmod", "touch", "xattr"}).Draw(e.t, "edit") {
	case "write":
		os.MkdirAll(filepath.Dir(p), 0o755)                                                                                   //nolint:errcheck // a file may be in the way
		os.WriteFile(p, noise(p, rapid.SampledFrom([]int{0, 1, 100, 65535, 65536, 65537, 200_000}).Draw(e.t, "size")), 0o640) //nolint:errcheck // likewise
	case "patch":
		if f, err := os.OpenFile(p, os.O_WRONLY, 0); err == nil {
			f.WriteAt(noise(time.Now().String(), 16), rapid.Int64Range(0, 150_000).Draw(e.t, "offset")) //nolint:errcheck // likewise
			f.Close()
		}
	case "append":
		if f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0); err == nil {
			f.Write(noise("more", 3000)) //nolint:errcheck // likewise
			f.Close()
		}
	case "truncate":
		os.Truncate(p, rapid.Int64Range(0, 100_000).Draw(e.t, "to")) //nolint:errcheck // likewise
	case "sparse":
		if f, err := os.Create(p); err == nil {
			f.Truncate(rapid.Int64Range(0, 40).Draw(e.t, "holes") * 65536)               //nolint:errcheck // likewise
			f.WriteAt([]byte("data"), rapid.Int64Range(0, 30).Draw(e.t, "where")*70_000) //nolint:errcheck // likewise
			f.Close()
		}
	case "dir":
		os.MkdirAll(p, 0o750) //nolint:errcheck // likewise
	case "link":
		os.Link(e.name("to"), p) //nolint:errcheck // likewise
	case "symlink":
		os.Symlink(rapid.SampledFrom([]string{"a", "../../etc/passwd", "/nowhere", "\xff"}).Draw(e.t, "target"), p) //nolint:errcheck // likewise
	case "rename":
		os.Rename(e.name("from"), p) //nolint:errcheck // likewise
	case "remove":
		os.RemoveAll(p) //nolint:errcheck // likewise
	case "chmod":
		mode := rapid.SampledFrom([]uint32{0o600, 0o755, 0o4755, 0o2750, 0o1777, 0o400}).Draw(e.t, "mode")
		if fi, err := os.Lstat(p); err == nil && fi.Mode()&fs.ModeSymlink == 0 {
			unix.Chmod(p, mode|0o700) //nolint:errcheck // likewise
		}
	case "touch":
		at := time.Unix(rapid.Int64Range(0, 2_000_000_000).Draw(e.t, "time"), 123456789)
		if fi, err := os.Lstat(p); err == nil && fi.Mode()&fs.ModeSymlink == 0 {
			os.Chtimes(p, at, at) //nolint:errcheck // likewise
		}
	case "xattr":
		if err := unix.Setxattr(p, "user.note", []byte("note "+filepath.Base(p)), 0); err != nil && errors.Is(err, unix.ENOSPC) {
			e.t.Fatal(err)
		}
	}
}

// TestEveryCommitRestores: for random trees and random edits, what a commit
// restores is the tree that it was made of, at every commit.
func TestEveryCommitRestores(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		base, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(base)
		root := filepath.Join(base, "data")
		if err := os.Mkdir(root, 0o755); err != nil {
			rt.Fatal(err)
		}
		objects := membucket.NewObjects()
		want := map[int]string{}
		attempt := 1
		state := filepath.Join(base, "state")
		open := func() *checkpoint.Saver {
			return newSaver(t, objects, attempt, root, func(o *checkpoint.Options) { o.StateDir = state })
		}
		s := open()
		last := ""
		for range rapid.IntRange(1, 5).Draw(rt, "saves") {
			for range rapid.IntRange(0, 12).Draw(rt, "edits") {
				edits{rt, root}.one()
			}
			switch rapid.IntRange(0, 5).Draw(rt, "life") {
			case 0: // the agent is restarted
				s = open()
			case 1: // another VM goes on
				attempt++
				state = filepath.Join(base, fmt.Sprint("state", attempt))
				s = open()
			}
			r, err := s.Save(t.Context(), checkpoint.SaveRequest{})
			if err != nil {
				rt.Fatal(err)
			}
			now := describe(t, root)
			if r.Committed != (now != last) {
				rt.Fatalf("commit %d: committed is %v; before:\n%s\nnow:\n%s", r.Number, r.Committed, last, now)
			}
			want[r.Number], last = now, now
		}
		// A delta restore leads from each commit to the next.
		into := filepath.Join(base, "into")
		var have *checkpoint.Restored
		for n := 1; want[n] != ""; n++ {
			r, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: objects, Into: map[string]string{"checkpoint": into}, At: n, Have: have})
			if err != nil {
				rt.Fatal(err)
			}
			sameTree(t, want[n], describe(t, into))
			have = &r
		}
	})
}
