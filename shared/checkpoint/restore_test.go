package checkpoint_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/bucket/membucket"
	"anycloud/shared/checkpoint"
	"anycloud/shared/checkpoint/wal"
)

// history commits n versions of one file, of 200,000 bytes.
func history(t *testing.T, n int) (*membucket.Objects, string) {
	t.Helper()
	dir := t.TempDir()
	objects := membucket.NewObjects()
	s := newSaver(t, objects, 1, dir)
	for i := range n {
		write(t, filepath.Join(dir, "a"), noise(fmt.Sprint("version ", i+1), 200_000))
		save(t, s)
	}
	return objects, dir
}

func keys(t *testing.T, objects bucket.Objects, prefix string) []string {
	t.Helper()
	page, _, err := objects.List(t.Context(), prefix, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range page {
		out = append(out, o.Key)
	}
	return out
}

// packOf the newest commit is the one that the commit before has not got.
func newPack(t *testing.T, objects bucket.Objects, before []string) string {
	t.Helper()
	for _, k := range keys(t, objects, "packs/") {
		if !slices.Contains(before, k) {
			return k
		}
	}
	t.Fatal("no pack was added")
	return ""
}

// replace gives an object other bytes, as a bad disk would.
func replace(t *testing.T, objects bucket.Objects, key string, change func([]byte) []byte) {
	t.Helper()
	r, err := objects.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	b = change(bytes.Clone(b))
	if err := objects.Put(t.Context(), key, bytes.NewReader(b), int64(len(b))); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedCommitFallsBackToTheOneBefore(t *testing.T) {
	flip := func(at func(int) int) func([]byte) []byte {
		return func(b []byte) []byte { b[at(len(b))] ^= 1; return b }
	}
	for name, damage := range map[string]func(*testing.T, bucket.Objects, string){
		"missing": func(t *testing.T, o bucket.Objects, pack string) {
			if err := o.Delete(t.Context(), pack); err != nil {
				t.Fatal(err)
			}
		},
		"cut short": func(t *testing.T, o bucket.Objects, pack string) {
			replace(t, o, pack, func(b []byte) []byte { return b[:len(b)/2] })
		},
		"one bit of a chunk": func(t *testing.T, o bucket.Objects, pack string) {
			replace(t, o, pack, flip(func(int) int { return 100_000 }))
		},
		"one bit of its index": func(t *testing.T, o bucket.Objects, pack string) {
			replace(t, o, pack, flip(func(n int) int { return n - 21 }))
		},
		"empty": func(t *testing.T, o bucket.Objects, pack string) {
			replace(t, o, pack, func([]byte) []byte { return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			objects, dir := history(t, 2)
			want := describe(t, dir)
			before := keys(t, objects, "packs/")
			write(t, filepath.Join(dir, "a"), noise("version 3", 200_000))
			// Another VM's saver, so that the third commit has a pack of its own.
			save(t, newSaver(t, objects, 2, dir))
			damage(t, objects, newPack(t, objects, before))

			into, r := restore(t, objects, 0)
			if r.Number != 2 || len(r.Fallbacks) != 1 || !strings.Contains(r.Fallbacks[0], "commit 3 cannot be restored") {
				t.Fatalf("%+v", r)
			}
			sameTree(t, want, describe(t, into))
			vs, err := checkpoint.Verify(t.Context(), objects)
			if err != nil || len(vs) != 3 || vs[0].Problem != "" || vs[1].Problem != "" || vs[2].Problem == "" {
				t.Errorf("%+v, %v", vs, err)
			}
			// The next commit is whole again, also if the agent is restarted before.
			state := func(o *checkpoint.Options) { o.StateDir = dir + ".state" }
			if err := newSaver(t, objects, 3, dir, state).Distrust(r.Damaged); err != nil {
				t.Fatal(err)
			}
			s := newSaver(t, objects, 3, dir, state)
			if res, err := s.Save(t.Context(), checkpoint.SaveRequest{}); err != nil || !res.Committed {
				t.Fatalf("%+v, %v", res, err)
			}
			into, r = restore(t, objects, 0)
			if r.Number != 4 {
				t.Fatalf("%+v", r)
			}
			sameTree(t, describe(t, dir), describe(t, into))
		})
	}
}

// TestNothingRestorableIsNeverAnEmptyStart, and leaves the directory alone.
func TestNothingRestorableIsNeverAnEmptyStart(t *testing.T) {
	objects, _ := history(t, 3)
	for _, k := range keys(t, objects, "packs/") {
		if err := objects.Delete(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	into := t.TempDir()
	write(t, filepath.Join(into, "mine"), []byte("what was here before"))
	want := describe(t, into)
	_, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: objects, Into: map[string]string{"checkpoint": into}})
	if !errors.Is(err, checkpoint.ErrNoRestorable) || strings.Count(err.Error(), "cannot be restored") != 3 {
		t.Errorf("got %v", err)
	}
	sameTree(t, want, describe(t, into))
}

// TestRefusalsAreNoProof: a bucket that refuses or does not answer is asked again
// and no commit is given up for it.
func TestRefusalsAreNoProof(t *testing.T) {
	for _, refusal := range []error{bucket.ErrDenied, errors.New("connection reset"), context.DeadlineExceeded} {
		objects, dir := history(t, 2)
		synctest.Test(t, func(t *testing.T) {
			var calls atomic.Int32
			refusing := objects.WithHook(func(context.Context, membucket.Call) error {
				if calls.Add(1) <= 60 {
					return refusal
				}
				return nil
			})
			into := filepath.Join(t.TempDir(), "into")
			r, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: refusing, Into: map[string]string{"checkpoint": into}})
			if err != nil || r.Number != 2 || len(r.Fallbacks) != 0 {
				t.Fatalf("%v: %+v, %v", refusal, r, err)
			}
			sameTree(t, describe(t, dir), describe(t, into))
		})
	}
}

// TestListingThatLags: a log that shows less than the record knows is waited for.
func TestListingThatLags(t *testing.T) {
	objects, _ := history(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	into := map[string]string{"checkpoint": filepath.Join(t.TempDir(), "into")}
	_, err := checkpoint.Restore(ctx, checkpoint.RestoreOptions{Objects: objects, Into: into, Known: 4})
	if !errors.Is(err, checkpoint.ErrBehind) {
		t.Errorf("got %v", err)
	}
	if r, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: objects, Into: into, Known: 3}); err != nil || r.Number != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	// An empty bucket without a known commit is a first start.
	if r, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: membucket.NewObjects(), Into: into}); err != nil || r.Number != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestFreshAndAt(t *testing.T) {
	objects, dir := history(t, 2)
	into := map[string]string{"checkpoint": filepath.Join(t.TempDir(), "into")}
	// --fresh: what lower attempts committed is not looked at.
	if r, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: objects, Into: into, FreshFrom: 2, Known: 2}); err != nil || r.Number != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	write(t, filepath.Join(dir, "a"), []byte("of attempt 2"))
	save(t, newSaver(t, objects, 2, dir))
	if r, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: objects, Into: into, FreshFrom: 2, Known: 3}); err != nil || r.Number != 3 || r.Attempt != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: objects, Into: into, At: 1}); err != nil || r.Number != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	_, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: objects, Into: into, At: 9})
	if !errors.Is(err, checkpoint.ErrNoRestorable) || !strings.Contains(err.Error(), "[3 2 1]") {
		t.Errorf("got %v", err)
	}
}

// TestFencedRestoreStops: an attempt that was replaced restores nothing.
func TestFencedRestoreStops(t *testing.T) {
	objects, dir := history(t, 1)
	if err := newSaver(t, objects, 3, dir).TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: objects, Attempt: 2, Into: map[string]string{"checkpoint": t.TempDir()}})
	if !errors.Is(err, wal.ErrFenced) {
		t.Errorf("got %v", err)
	}
}

// TestDeltaRestoreFetchesWhatDiffers.
func TestDeltaRestoreFetchesWhatDiffers(t *testing.T) {
	dir := t.TempDir()
	for i := range 20 {
		write(t, filepath.Join(dir, fmt.Sprint(i)), noise(fmt.Sprint(i), 300_000))
	}
	objects := membucket.NewObjects()
	s := newSaver(t, objects, 1, dir)
	save(t, s)
	into := map[string]string{"checkpoint": filepath.Join(t.TempDir(), "into")}
	first, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: objects, Into: into})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "7"), noise("new", 300_000))
	save(t, s)
	var fetched atomic.Int64
	counting := countingBytes{objects, &fetched}
	if _, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: counting, Into: into, Have: &first}); err != nil {
		t.Fatal(err)
	}
	if n := fetched.Load(); n > 400_000 {
		t.Errorf("%d bytes fetched for 300,000 that differ", n)
	}
	sameTree(t, describe(t, dir), describe(t, into["checkpoint"]))
}

type countingBytes struct {
	bucket.Objects
	n *atomic.Int64
}

func (c countingBytes) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	r, err := c.Objects.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	c.n.Add(int64(len(b)))
	return io.NopCloser(bytes.NewReader(b)), errors.Join(err, r.Close())
}

// TestHostileTreeWritesNothingOutside: what the bucket holds is not trusted.
func TestHostileTreeWritesNothingOutside(t *testing.T) {
	for name, change := range map[string][2]string{
		"a path that climbs":        {`"path":"sub/file"`, `"path":"../../../../../escaped"`},
		"a path that begins at /":   {`"path":"sub/file"`, `"path":"/tmp/anycloud-escaped"`},
		"a mode of another world":   {`"mode":420`, `"mode":4294967295`},
		"a type that is unknown":    {`"type":"symlink"`, `"type":"door"`},
		"a size without chunks":     {`"size":5`, `"size":99999999999`},
		"a negative size":           {`"size":5`, `"size":-5`},
		"a hard link that climbs":   {`"type":"symlink"`, `"type":"link"`},
		"a file below a link":       {`"path":"sub/file"`, `"path":"out/file"`},
		"a directory that is twice": {`"path":"sub/file"`, `"path":"sub"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			outside := t.TempDir()
			if err := errors.Join(os.MkdirAll(filepath.Join(dir, "sub"), 0o755), os.Symlink(outside, filepath.Join(dir, "out"))); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "sub/file"), []byte("hello"))
			objects := membucket.NewObjects()
			if err := checkpoint.Forge(t.Context(), objects, dir, func(tree []byte) []byte {
				out := bytes.Replace(tree, []byte(change[0]), []byte(change[1]), 1)
				if bytes.Equal(out, tree) {
					t.Fatalf("nothing to change in %s", tree)
				}
				return out
			}); err != nil {
				t.Fatal(err)
			}
			into := filepath.Join(t.TempDir(), "into")
			if err := os.Mkdir(into, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(into, "mine"), []byte("as it was"))
			want := describe(t, into)
			_, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: objects, Into: map[string]string{"checkpoint": into}})
			if !errors.Is(err, checkpoint.ErrNoRestorable) {
				t.Errorf("got %v", err)
			}
			if left, _ := os.ReadDir(outside); len(left) > 0 {
				t.Errorf("outside there is now %v", left)
			}
			sameTree(t, want, describe(t, into))
		})
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	objects, _ := history(t, 1)
	root, err := json.Marshal(checkpoint.Root{Version: checkpoint.Version + 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wal.Open(objects, 1, wal.Options{}).Append(t.Context(), wal.Entry{Kind: wal.KindCommit, Commit: root}); err != nil {
		t.Fatal(err)
	}
	into := map[string]string{"checkpoint": t.TempDir()}
	if _, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: objects, Into: into}); !errors.Is(err, checkpoint.ErrNewer) {
		t.Errorf("restore: %v", err)
	}
	if _, err := newSaver(t, objects, 2, t.TempDir()).Save(t.Context(), checkpoint.SaveRequest{}); !errors.Is(err, checkpoint.ErrNewer) {
		t.Errorf("save: %v", err)
	}
}
