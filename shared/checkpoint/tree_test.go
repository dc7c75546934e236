package checkpoint_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint"
)

// describe writes a directory down, line by line: names, types, owners, modes,
// times, targets, attributes, contents, and which names are one file.
func describe(t testing.TB, dir string) string {
	t.Helper()
	var lines []string
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path) //nolint:errcheck // both are absolute
		st := fi.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%q %o %d:%d %d", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Nano())
		switch {
		case fi.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", len(b), blake3.Sum256(b))
			if to, ok := first[st.Ino]; ok {
				line += fmt.Sprintf(" = %q", to)
			} else {
				first[st.Ino] = rel
			}
		case fi.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" -> %q", to)
		}
		var value [100]byte
		if n, err := unix.Lgetxattr(path, "user.note", value[:]); err == nil {
			line += fmt.Sprintf(" note %q", value[:n])
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// sameTree fails with the lines that differ.
func sameTree(t testing.TB, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	in := func(lines, other []string, mark string) {
		have := map[string]bool{}
		for _, l := range other {
			have[l] = true
		}
		for _, l := range lines {
			if !have[l] {
				t.Errorf("%s %s", mark, l)
			}
		}
	}
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	in(w, g, "-")
	in(g, w, "+")
	t.Fatal("the trees differ (- wanted, + got)")
}

// newSaver saves dir as "checkpoint".
func newSaver(t testing.TB, objects bucket.Objects, attempt int, dir string, change ...func(*checkpoint.Options)) *checkpoint.Saver {
	t.Helper()
	o := checkpoint.Options{Objects: objects, Attempt: attempt, Roots: map[string]string{"checkpoint": dir}}
	for _, f := range change {
		f(&o)
	}
	s, err := checkpoint.NewSaver(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() }) //nolint:errcheck // nothing is lost
	return s
}

// save must commit.
func save(t testing.TB, s *checkpoint.Saver) checkpoint.Result {
	t.Helper()
	r, err := s.Save(t.Context(), checkpoint.SaveRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Committed {
		t.Fatalf("nothing was committed: %+v", r)
	}
	return r
}

// restore brings a commit (0: the newest) into a new directory.
func restore(t testing.TB, objects bucket.Objects, at int) (string, checkpoint.Restored) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "into")
	r, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: objects, Into: map[string]string{"checkpoint": dir}, At: at})
	if err != nil {
		t.Fatal(err)
	}
	return dir, r
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// noise is n bytes that no compression and no other seed has.
func noise(seed string, n int) []byte {
	b := make([]byte, n)
	h := blake3.New()
	h.Write([]byte(seed)) //nolint:errcheck // never fails
	h.Digest().Read(b)    //nolint:errcheck // never fails
	return b
}
