package bucketsync_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anycloud/shared/agent/bucketsync"
	"anycloud/shared/bucket"
	"anycloud/shared/bucket/membucket"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// objectsOf lists keys with their content.
func objectsOf(t *testing.T, o bucket.Objects) map[string]string {
	t.Helper()
	dir := t.TempDir()
	if _, _, err := bucketsync.Fetch(t.Context(), o, dir, nil); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error { //nolint:errcheck // the comparison tells
		if !d.IsDir() {
			b, _ := os.ReadFile(path)
			rel, _ := filepath.Rel(dir, path)
			out[rel] = string(b)
		}
		return err
	})
	return out
}

func same(t *testing.T, got map[string]string, want ...string) {
	t.Helper()
	if len(got) != len(want)/2 {
		t.Errorf("got %q, want %q", got, want)
	}
	for i := 0; i < len(want); i += 2 {
		if got[want[i]] != want[i+1] {
			t.Errorf("%s is %q, want %q", want[i], got[want[i]], want[i+1])
		}
	}
}

func put(t *testing.T, o bucket.Objects, key, text string) {
	t.Helper()
	if err := o.Put(t.Context(), key, strings.NewReader(text), int64(len(text))); err != nil {
		t.Fatal(err)
	}
}

func TestFetch(t *testing.T) {
	objects := membucket.NewObjects()
	for i := range 30 {
		put(t, objects, "many/"+string(rune('a'+i%26))+strings.Repeat("x", i), strings.Repeat("y", i))
	}
	put(t, objects, "top", "T")
	put(t, objects, "empty", "")
	dir := t.TempDir()
	var last atomic.Int64
	files, size, err := bucketsync.Fetch(t.Context(), objects, dir, func(done, total int64) { last.Store(max(last.Load(), done)) })
	if err != nil || files != 32 || size != 436 || last.Load() != size {
		t.Fatalf("%d files, %d bytes, %d told, %v", files, size, last.Load(), err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "top")); err != nil || string(b) != "T" {
		t.Errorf("%q, %v", b, err)
	}
	// What is there is not copied again; what changed is.
	put(t, objects, "top", "U")
	gets := 0
	var mu sync.Mutex
	counting := objects.WithHook(func(_ context.Context, c membucket.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if c.Op == membucket.OpGet && c.When == membucket.Before {
			gets++
		}
		return nil
	})
	if _, _, err := bucketsync.Fetch(t.Context(), counting, dir, nil); err != nil || gets != 1 {
		t.Errorf("%d gets, %v", gets, err)
	}
}

func TestFetchGoesOnAfterErrors(t *testing.T) {
	objects := membucket.NewObjects()
	put(t, objects, "a", "A")
	put(t, objects, "b/c", "C")
	var calls atomic.Int32
	flaky := objects.WithHook(func(_ context.Context, c membucket.Call) error {
		if c.When == membucket.Before && calls.Add(1)%2 == 1 {
			return errors.New("connection reset")
		}
		return nil
	})
	dir := t.TempDir()
	if _, _, err := bucketsync.Fetch(t.Context(), flaky, dir, nil); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "A", "b/c": "C"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// sized pretends an object's size.
type sized struct {
	bucket.Objects
	size int64
}

func (s sized) List(ctx context.Context, prefix, after string, limit int) ([]bucket.Object, bool, error) {
	page, more, err := s.Objects.List(ctx, prefix, after, limit)
	page = slices.Clone(page)
	for i := range page {
		page[i].Size = s.size
	}
	return page, more, err
}

func TestFetchOfTooMuchCopiesNothing(t *testing.T) {
	objects := membucket.NewObjects()
	put(t, objects, "huge", "x")
	dir := t.TempDir()
	_, _, err := bucketsync.Fetch(t.Context(), sized{objects, 1 << 60}, dir, nil)
	if !errors.Is(err, bucketsync.ErrNoRoom) || !strings.Contains(err.Error(), "1.0 EiB") {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestFetchOfNothing(t *testing.T) {
	o, err := membucket.New("st").Bucket("gone", nil)
	if err == nil {
		_, _, err = bucketsync.Fetch(t.Context(), o, t.TempDir(), nil)
	}
	if !errors.Is(err, bucket.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

type mirror struct {
	*bucketsync.Mirror
	t *testing.T
}

func open(t *testing.T, o bucketsync.Options) mirror {
	t.Helper()
	if o.State == "" {
		o.State = filepath.Join(t.TempDir(), "mirror.json")
	}
	m, err := bucketsync.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return mirror{m, t}
}

func (m mirror) sync(last bool) bucketsync.Result {
	m.t.Helper()
	r, err := m.Sync(m.t.Context(), last)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

func TestMirror(t *testing.T) {
	dir, to := t.TempDir(), membucket.NewObjects()
	put(t, to, "of others", "mine")
	write(t, dir, "a", "1")
	write(t, dir, "b/c", "2")
	if err := errors.Join(os.Symlink("a", filepath.Join(dir, "link")), os.Mkdir(filepath.Join(dir, "empty"), 0o755)); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "no utf-8 \xff", "3")
	state := filepath.Join(t.TempDir(), "state")
	m := open(t, bucketsync.Options{Dir: dir, To: to, State: state})
	r := m.sync(false)
	if r.Files != 2 || len(r.Skipped) != 2 {
		t.Errorf("%+v", r)
	}
	same(t, objectsOf(t, to), "a", "1", "b/c", "2", "of others", "mine")
	if r := m.sync(false); r.Files != 0 {
		t.Errorf("sent again: %+v", r)
	}
	write(t, dir, "a", "1, and more")
	if err := os.Remove(filepath.Join(dir, "b/c")); err != nil {
		t.Fatal(err)
	}
	// A restarted agent goes on from the state; deleted files stay.
	if r := open(t, bucketsync.Options{Dir: dir, To: to, State: state}).sync(false); r.Files != 1 {
		t.Errorf("%+v", r)
	}
	same(t, objectsOf(t, to), "a", "1, and more", "b/c", "2", "of others", "mine")
	// Another VM sends all of it: what is there may be of a lost future.
	put(t, to, "a", "lost future")
	if r := open(t, bucketsync.Options{Dir: dir, To: to}).sync(true); r.Files != 1 {
		t.Errorf("%+v", r)
	}
	same(t, objectsOf(t, to), "a", "1, and more", "b/c", "2", "of others", "mine")
}

// TestDeleteKnowsItsOwn: what this job mirrored and has no more goes, also from
// another VM whose predecessor died before it could tell; nothing else does.
func TestDeleteKnowsItsOwn(t *testing.T) {
	dir, to, journal := t.TempDir(), membucket.NewObjects(), membucket.NewObjects()
	put(t, to, "of others", "mine")
	write(t, dir, "keep", "k")
	write(t, dir, "lost", "of a lost future")
	first := open(t, bucketsync.Options{Dir: dir, To: to, Delete: true, Journal: journal, Attempt: 1})
	first.sync(false)
	restored := t.TempDir()
	write(t, restored, "keep", "k")
	second := open(t, bucketsync.Options{Dir: restored, To: to, Delete: true, Journal: journal, Attempt: 2})
	if r := second.sync(false); r.Deleted != 1 {
		t.Errorf("%+v", r)
	}
	same(t, objectsOf(t, to), "keep", "k", "of others", "mine")
	write(t, restored, "lost", "made again")
	second.sync(false)
	same(t, objectsOf(t, to), "keep", "k", "lost", "made again", "of others", "mine")
	if err := os.Remove(filepath.Join(restored, "lost")); err != nil {
		t.Fatal(err)
	}
	if r := second.sync(true); r.Deleted != 1 {
		t.Errorf("%+v", r)
	}
	same(t, objectsOf(t, to), "keep", "k", "of others", "mine")
}

// TestJournalComesFirst: an object is never made before it is noted whose it is.
func TestJournalComesFirst(t *testing.T) {
	dir, to, journal := t.TempDir(), membucket.NewObjects(), membucket.NewObjects()
	write(t, dir, "a", "1")
	refusing := journal.WithHook(func(_ context.Context, c membucket.Call) error {
		if c.Op == membucket.OpPutIfAbsent {
			return bucket.ErrDenied
		}
		return nil
	})
	m := open(t, bucketsync.Options{Dir: dir, To: to, Delete: true, Journal: refusing, Attempt: 1})
	if _, err := m.Sync(t.Context(), true); !errors.Is(err, bucket.ErrDenied) {
		t.Errorf("got %v", err)
	}
	same(t, objectsOf(t, to))
}

func TestWriteOnceWaitsForRest(t *testing.T) {
	dir, to := t.TempDir(), membucket.NewObjects()
	write(t, dir, "big", "half")
	m := open(t, bucketsync.Options{Dir: dir, To: to, WriteOnce: true})
	if r := m.sync(false); r.Files != 0 || m.Mirrored("big") {
		t.Errorf("mirrored while it is written: %+v", r)
	}
	if r := m.sync(true); r.Files != 1 || !m.Mirrored("big") {
		t.Errorf("%+v", r)
	}
	same(t, objectsOf(t, to), "big", "half")
	write(t, dir, "big", "changed all the same")
	if m.Mirrored("big") {
		t.Error("a changed file counts as mirrored")
	}
}

// TestRestlessFile is told, and mirrored once it rests.
func TestRestlessFile(t *testing.T) {
	dir, to := t.TempDir(), membucket.NewObjects()
	write(t, dir, "log", "begin")
	f, err := os.OpenFile(filepath.Join(dir, "log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	busy := true
	m := open(t, bucketsync.Options{Dir: dir, To: to.WithHook(func(_ context.Context, c membucket.Call) error {
		if c.Op == membucket.OpPut && c.When == membucket.After && busy {
			time.Sleep(10 * time.Millisecond) // another tick of the clock that stamps files
			f.WriteString("+")                //nolint:errcheck // the comparison tells
		}
		return nil
	})})
	if r := m.sync(false); len(r.Restless) != 1 || r.Restless[0] != "log" {
		t.Errorf("%+v", r)
	}
	busy = false
	if r := m.sync(true); r.Files != 1 || len(r.Restless) != 0 {
		t.Errorf("%+v", r)
	}
	same(t, objectsOf(t, to), "log", "begin+++")
}
