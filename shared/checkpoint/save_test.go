package checkpoint_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anycloud/shared/bucket"
	"anycloud/shared/bucket/membucket"
	"anycloud/shared/checkpoint"
	"anycloud/shared/checkpoint/wal"
)

// count keeps a hook's calls by kind.
type count struct {
	mu sync.Mutex
	n  map[membucket.Op]int
}

func (c *count) hook(_ context.Context, call membucket.Call) error {
	if call.When == membucket.Before {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.n == nil {
			c.n = map[membucket.Op]int{}
		}
		c.n[call.Op]++
	}
	return nil
}

func TestOddFilesComeBackAsTheyWere(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "plain"), noise("plain", 200_001))
	write(t, filepath.Join(dir, "empty"), nil)
	write(t, filepath.Join(dir, "no utf-8 \xff\xfe"), []byte("named in Latin-1"))
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "deep/empty directory"), 0o750),
		os.Link(filepath.Join(dir, "plain"), filepath.Join(dir, "deep/same file")),
		os.Symlink("../plain", filepath.Join(dir, "deep/link")),
		os.Symlink("/no/such \xff target", filepath.Join(dir, "dangling")),
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
		unix.Chmod(filepath.Join(dir, "empty"), 0o4711),
		unix.Chmod(filepath.Join(dir, "deep"), 0o1555),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sparse.Truncate(1<<26), func() error { _, err := sparse.WriteAt([]byte("x"), 1<<25); return err }(), sparse.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(dir, "deep"), 0o700) }) //nolint:errcheck // for TempDir's removal

	objects := membucket.NewObjects()
	r := save(t, newSaver(t, objects, 1, dir))
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], `"pipe"`) {
		t.Errorf("warnings: %q", r.Warnings)
	}
	if r.SentBytes > 1<<20 {
		t.Errorf("a file of holes sent %d bytes", r.SentBytes)
	}
	if err := os.Remove(filepath.Join(dir, "pipe")); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	into, _ := restore(t, objects, 0)
	t.Cleanup(func() { os.Chmod(filepath.Join(into, "deep"), 0o700) }) //nolint:errcheck // likewise
	// Removing the pipe moved the time of the directory itself.
	if err := os.Chtimes(into, fi.ModTime(), fi.ModTime()); err != nil {
		t.Fatal(err)
	}
	sameTree(t, describe(t, dir), describe(t, into))
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(into, "sparse"), &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("the sparse file takes %d bytes, %v", st.Blocks*512, err)
	}
}

func TestUnreadableFileFailsTheSaveAndNamesIt(t *testing.T) {
	// Not even root can open what is no directory as one; a loop of links in the
	// place of the root is the portable unreadable thing.
	dir := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink("loop", dir); err != nil {
		t.Fatal(err)
	}
	objects := membucket.NewObjects()
	if _, err := newSaver(t, objects, 1, dir+"/x").Save(t.Context(), checkpoint.SaveRequest{}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
	if page, _, err := objects.List(t.Context(), "", "", 0); err != nil || len(page) > 0 {
		t.Errorf("it left %v, %v", page, err)
	}
}

func TestNothingChangedCostsNothing(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), noise("a", 300_000))
	var c count
	objects := membucket.NewObjects()
	s := newSaver(t, objects.WithHook(c.hook), 1, dir)
	save(t, s)
	time.Sleep(50 * time.Millisecond) // the files' timestamps are no longer racy
	for range 3 {
		c = count{}
		r, err := s.Save(t.Context(), checkpoint.SaveRequest{})
		if err != nil || r.Committed || r.Number != 1 || len(c.n) != 0 {
			t.Errorf("%+v, %v after %v", r, err, c.n)
		}
	}
	// A seal is a commit even so, and costs no data.
	r, err := s.Save(t.Context(), checkpoint.SaveRequest{Sealed: true, Stopped: true, Exit: &checkpoint.Exit{Code: 3}})
	if err != nil || !r.Committed || r.Number != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.SentBytes > 10_000 {
		t.Errorf("the seal sent %d bytes", r.SentBytes)
	}
	if _, got := restore(t, objects, 0); got.Exit == nil || got.Exit.Code != 3 {
		t.Errorf("%+v", got)
	}
}

// TestFewBytesForFewChanges: what is sent follows what changed.
func TestFewBytesForFewChanges(t *testing.T) {
	dir := t.TempDir()
	for i := range 4 {
		write(t, filepath.Join(dir, fmt.Sprint("shard", i)), noise(fmt.Sprint(i), 16<<20))
	}
	objects := membucket.NewObjects()
	s := newSaver(t, objects, 1, dir)
	save(t, s)
	f, err := os.OpenFile(filepath.Join(dir, "shard2"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range 20 { // 20 scattered blocks of 16 KiB, each in a chunk of its own
		if _, err := f.WriteAt(noise(fmt.Sprint("new", i), 16<<10), int64(i)*700_000); err != nil {
			t.Fatal(err)
		}
	}
	if r := save(t, s); r.SentBytes > 40*checkpoint.ChunkSize+200_000 {
		t.Errorf("20 blocks of 16 KiB sent %d bytes", r.SentBytes)
	}
	into, _ := restore(t, objects, 0)
	sameTree(t, describe(t, dir), describe(t, into))
}

// TestKilledSaverSendsNothingTwice: packs that the store acknowledged before the
// saver died belong to the next saver's commit.
func TestKilledSaverSendsNothingTwice(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, "a"), noise("a", 40<<20))
	objects := membucket.NewObjects()
	ctx, kill := context.WithCancel(t.Context())
	var packs atomic.Int32
	dying := objects.WithHook(func(_ context.Context, c membucket.Call) error {
		if strings.HasPrefix(c.Key, "packs/") && c.When == membucket.After && packs.Add(1) == 3 {
			kill()
		}
		return nil
	})
	withState := func(o *checkpoint.Options) { o.StateDir, o.Parallel = state, 1 }
	if _, err := newSaver(t, dying, 1, dir, withState).Save(ctx, checkpoint.SaveRequest{}); err == nil {
		t.Fatal("the save survived")
	}
	if list, err := checkpoint.List(t.Context(), objects); err != nil || len(list) != 0 {
		t.Errorf("half a save counts: %v, %v", list, err)
	}
	r := save(t, newSaver(t, objects, 1, dir, withState))
	if r.SentBytes > 40<<20-2*checkpoint.PackSize+1<<20 {
		t.Errorf("the second saver sent %d bytes", r.SentBytes)
	}
	into, _ := restore(t, objects, 0)
	sameTree(t, describe(t, dir), describe(t, into))
}

// TestUnansweredCalls: every call of a save is carried out and its answer lost
// once; every one is refused once. The commit is there exactly once.
func TestUnansweredCalls(t *testing.T) {
	for _, when := range []membucket.When{membucket.Before, membucket.After} {
		for n := 1; n <= 8; n++ {
			t.Run(fmt.Sprint(when, " ", n), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				write(t, filepath.Join(dir, "a"), noise("a", 9<<20))
				objects := membucket.NewObjects()
				var calls atomic.Int32
				s := newSaver(t, objects.WithHook(func(_ context.Context, c membucket.Call) error {
					if c.When == when && calls.Add(1) == int32(n) {
						return errors.New("connection reset")
					}
					return nil
				}), 1, dir)
				r, err := s.Save(t.Context(), checkpoint.SaveRequest{})
				if err != nil {
					r, err = s.Save(t.Context(), checkpoint.SaveRequest{})
				}
				if err != nil {
					t.Fatal(err)
				}
				list, err := checkpoint.List(t.Context(), objects)
				if err != nil || len(list) != 1 || list[0].Number != r.Number {
					t.Fatalf("%+v, %v after %+v", list, err, r)
				}
				into, _ := restore(t, objects, 0)
				sameTree(t, describe(t, dir), describe(t, into))
			})
		}
	}
}

func TestFencedSaverCommitsNothing(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), []byte("one"))
	objects := membucket.NewObjects()
	old := newSaver(t, objects, 1, dir)
	save(t, old)
	if err := newSaver(t, objects, 2, t.TempDir()).TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "a"), []byte("two, and too late"))
	if _, err := old.Save(t.Context(), checkpoint.SaveRequest{Sealed: true}); !errors.Is(err, wal.ErrFenced) {
		t.Errorf("the old attempt's save: %v", err)
	}
	if _, err := old.Prune(t.Context()); !errors.Is(err, wal.ErrFenced) {
		t.Errorf("the old attempt's prune: %v", err)
	}
	if _, r := restore(t, objects, 0); r.Number != 1 {
		t.Errorf("commit %d is restored", r.Number)
	}
}

// TestHopelessBucketIsToldAtOnce: some answers do not get better by waiting.
func TestHopelessBucketIsToldAtOnce(t *testing.T) {
	for _, want := range []error{bucket.ErrNoBucket, bucket.ErrDenied, bucket.ErrFull} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a"), []byte("data"))
		s := newSaver(t, membucket.NewObjects().WithHook(func(context.Context, membucket.Call) error { return want }), 1, dir)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if _, err := s.Save(ctx, checkpoint.SaveRequest{}); !errors.Is(err, want) {
			t.Errorf("got %v, not %v", err, want)
		}
		cancel()
	}
}

func TestAttachmentTravels(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), []byte("data"))
	objects := membucket.NewObjects()
	lines := noise("lines", 200_000)
	save(t, newSaver(t, objects, 1, dir, func(o *checkpoint.Options) {
		o.BeforeAppend = func(context.Context) ([]byte, error) { return lines, nil }
	}))
	if _, r := restore(t, objects, 0); string(r.Attachment) != string(lines) {
		t.Errorf("%d bytes came back", len(r.Attachment))
	}
	if vs, err := checkpoint.Verify(t.Context(), objects); err != nil || len(vs) != 1 || vs[0].Problem != "" {
		t.Errorf("%+v, %v", vs, err)
	}
}
