package filebucket

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/bucket/buckettest"
)

func TestSuite(t *testing.T) {
	buckettest.Run(t, buckettest.Harness{
		Objects: func(t *testing.T) bucket.Objects { return open(t, t.TempDir()) },
		Missing: func(t *testing.T) bucket.Objects { return open(t, filepath.Join(t.TempDir(), "gone", "too")) },
		Admins: func(t *testing.T) (mine, theirs bucket.Admin) {
			root := filepath.Join(t.TempDir(), "buckets")
			a, b := admin(t, root, "mine"), admin(t, root, "theirs")
			a.DisposeBatch = 10
			return a, b
		},
	})
}

func open(t testing.TB, dir string) *Objects {
	t.Helper()
	o, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func admin(t testing.TB, root, stack string) *Admin {
	t.Helper()
	a, err := NewAdmin(root, stack)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestARemovedBucketIsNotMadeAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bucket")
	o, err := Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.PutIfAbsent(t.Context(), "a/b/c", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := o.PutIfAbsent(t.Context(), "a/b/d", nil); !errors.Is(err, bucket.ErrNoBucket) {
		t.Fatalf("put: %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Fatal("the bucket is back")
	}
}

func TestRemovedSubdirectoriesAreMadeAgain(t *testing.T) {
	dir := t.TempDir()
	o := open(t, dir)
	for _, key := range []string{"a/b/c", "a/b/d"} {
		if err := o.Put(t.Context(), key, strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnObjectCannotBeADirectoryToo(t *testing.T) {
	o := open(t, t.TempDir())
	for _, key := range []string{"a/b", "c"} {
		if err := o.PutIfAbsent(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"a", "c/d"} {
		if err := o.PutIfAbsent(t.Context(), key, nil); !errors.Is(err, bucket.ErrBadKey) {
			t.Errorf("put if absent %s: %v", key, err)
		}
		if err := o.Put(t.Context(), key, strings.NewReader(""), 0); !errors.Is(err, bucket.ErrBadKey) {
			t.Errorf("put %s: %v", key, err)
		}
	}
}

func TestForeignFilesAreNotSeen(t *testing.T) {
	dir := t.TempDir()
	o := open(t, dir)
	if err := o.PutIfAbsent(t.Context(), "real", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "real"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "not\xffutf8"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	page, _, err := o.List(t.Context(), "", "", 0)
	if err != nil || len(page) != 1 || page[0].Key != "real" {
		t.Fatalf("list: %+v, %v", page, err)
	}
}

func TestOldLeftoversAreRemoved(t *testing.T) {
	dir := t.TempDir()
	tmp := filepath.Join(dir, tmpDir)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"old": staleAfter + time.Hour, "fresh": time.Minute} {
		path := filepath.Join(tmp, name)
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := open(t, dir).PutIfAbsent(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) != 1 || left[0].Name() != "fresh" {
		t.Fatalf("left %v, %v", left, err)
	}
}

func TestAnUnmarkedDirectoryIsNotOurs(t *testing.T) {
	root := t.TempDir()
	for name, marker := range map[string]string{
		"bare-directory": "", "odd-marker": "{", "newer-marker": `{"format":2,"stack":"mine"}`, "other-marker": `{"format":1,"stack":"other"}`,
	} {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if marker != "" {
			if err := os.WriteFile(filepath.Join(dir, markerName), []byte(marker), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		a := admin(t, root, "mine")
		if err := a.Create(t.Context(), name); !errors.Is(err, bucket.ErrNotOwned) {
			t.Errorf("create over %s: %v", name, err)
		}
		if _, err := a.Dispose(t.Context(), name); !errors.Is(err, bucket.ErrNotOwned) {
			t.Errorf("dispose of %s: %v", name, err)
		}
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
	if names, err := admin(t, root, "mine").List(t.Context()); len(names) > 0 || err != nil {
		t.Errorf("list: %q, %v", names, err)
	}
}

func TestDisposalIsFinishedByAnotherProcess(t *testing.T) {
	root := t.TempDir()
	first := admin(t, root, "mine")
	first.DisposeBatch = 2
	if err := first.Create(t.Context(), "the-bucket"); err != nil {
		t.Fatal(err)
	}
	o, err := first.Open(t.Context(), "the-bucket")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"a", "b", "c/d", "c/e"} {
		if err := o.PutIfAbsent(t.Context(), k, nil); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := first.Dispose(t.Context(), "the-bucket"); done || err != nil {
		t.Fatalf("first call: %v, %v", done, err)
	}
	next := admin(t, root, "mine")
	if names, err := next.List(t.Context()); err != nil || !slices.Equal(names, []string{"the-bucket"}) {
		t.Fatalf("a bucket in disposal is not listed: %q, %v", names, err)
	}
	if done, err := next.Dispose(t.Context(), "the-bucket"); !done || err != nil {
		t.Fatalf("second call: %v, %v", done, err)
	}
	if left, err := os.ReadDir(filepath.Join(root, tmpDir)); len(left) > 0 || err != nil {
		t.Fatalf("left %v, %v", left, err)
	}
}

func TestDeniedIsNotMissing(t *testing.T) {
	if os.Geteuid() == 0 {
		// Root passes every mode; the class is what this process can check.
		if err := translate(&os.PathError{Op: "open", Path: "x", Err: os.ErrPermission}); !errors.Is(err, bucket.ErrDenied) {
			t.Fatal(err)
		}
		return
	}
	dir := t.TempDir()
	o := open(t, dir)
	if err := o.PutIfAbsent(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o700)
	_, err := o.Get(t.Context(), "a", 0, -1)
	if !errors.Is(err, bucket.ErrDenied) || errors.Is(err, bucket.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if err := o.PutIfAbsent(t.Context(), "b", nil); !errors.Is(err, bucket.ErrDenied) {
		t.Errorf("put: %v", err)
	}
}

func TestResolve(t *testing.T) {
	root := t.TempDir()
	if err := admin(t, root, "s").Create(t.Context(), "marked"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][2]string{
		root + "/marked":      {root + "/marked", ""},
		root + "/marked/":     {root + "/marked", ""},
		root + "/marked/a/b/": {root + "/marked", "a/b"},
		root + "/plain/a":     {root + "/plain/a", ""},
	} {
		if dir, prefix := Resolve(path); dir != want[0] || prefix != want[1] {
			t.Errorf("%s: %s, %s", path, dir, prefix)
		}
	}
}

func BenchmarkPutIfAbsent(b *testing.B) {
	o := open(b, b.TempDir())
	data := bytes.Repeat([]byte("x"), 300)
	for i := 0; b.Loop(); i++ {
		if err := o.PutIfAbsent(b.Context(), "log/"+strings.Repeat("0", 5)+time.Duration(i).String(), data); err != nil {
			b.Fatal(err)
		}
	}
}
