package checkpoint_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"anycloud/shared/bucket/membucket"
	"anycloud/shared/checkpoint"
	"anycloud/shared/checkpoint/wal"
)

// old commits n versions, an hour apart.
func old(t *testing.T, n int) (*membucket.Objects, string, *checkpoint.Saver, *time.Time) {
	t.Helper()
	dir := t.TempDir()
	objects := membucket.NewObjects()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := newSaver(t, objects, 1, dir, func(o *checkpoint.Options) { o.Now = func() time.Time { return now } })
	for i := range n {
		write(t, filepath.Join(dir, "a"), noise(fmt.Sprint("version ", i), 200_000))
		save(t, s)
		now = now.Add(time.Hour)
	}
	return objects, dir, s, &now
}

func restorable(t *testing.T, objects *membucket.Objects) []int {
	t.Helper()
	var out []int
	vs, err := checkpoint.Verify(t.Context(), objects)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range vs {
		if v.Problem != "" {
			t.Errorf("commit %d: %s", v.Number, v.Problem)
		}
		if !v.Pruned {
			out = append(out, v.Number)
		}
	}
	return out
}

func TestPruneSparesWhatCounts(t *testing.T) {
	objects, dir, s, _ := old(t, 8)
	n, err := s.Prune(t.Context())
	if err != nil || n != 5 {
		t.Fatalf("%d packs deleted, %v", n, err)
	}
	if got := restorable(t, objects); !slices.Equal(got, []int{6, 7, 8}) {
		t.Errorf("restorable: %v", got)
	}
	// Log entries are never deleted.
	if got := len(keys(t, objects, "log/")); got != 9 {
		t.Errorf("%d log entries", got)
	}
	// Again there is nothing to do, and nothing is written.
	if n, err := s.Prune(t.Context()); err != nil || n != 0 || len(keys(t, objects, "log/")) != 9 {
		t.Errorf("%d, %v", n, err)
	}
	into, r := restore(t, objects, 0)
	if r.Number != 8 {
		t.Errorf("%+v", r)
	}
	sameTree(t, describe(t, dir), describe(t, into))
	if _, err := checkpoint.Restore(t.Context(), checkpoint.RestoreOptions{Objects: objects, At: 2, Into: map[string]string{"checkpoint": t.TempDir()}}); !errors.Is(err, checkpoint.ErrNoRestorable) {
		t.Errorf("a pruned commit: %v", err)
	}
	// The next commit reuses nothing that is gone: the first version comes back.
	write(t, filepath.Join(dir, "a"), noise("version 0", 200_000))
	if r := save(t, s); r.SentBytes < 200_000 {
		t.Errorf("%d bytes sent", r.SentBytes)
	}
	into, _ = restore(t, objects, 0)
	sameTree(t, describe(t, dir), describe(t, into))
}

func TestPruneSparesTheYoung(t *testing.T) {
	objects, _, s, now := old(t, 8)
	*now = now.Add(-time.Hour - 7*time.Hour + checkpoint.KeepFor/2) // shortly after the first
	if n, err := s.Prune(t.Context()); err != nil || n != 0 {
		t.Errorf("%d packs deleted, %v", n, err)
	}
	if got := restorable(t, objects); len(got) != 8 {
		t.Errorf("restorable: %v", got)
	}
}

// TestPruneSendsItsEntryFirst: killed at every call, it leaves nothing that a
// commit needs missing, and the next prune goes on.
func TestPruneSendsItsEntryFirst(t *testing.T) {
	for calls := 1; ; calls++ {
		objects, dir, _, now := old(t, 6)
		left := calls
		dying := objects.WithHook(func(_ context.Context, c membucket.Call) error {
			if c.When == membucket.Before {
				if left--; left < 0 {
					return errors.New("killed")
				}
				if c.Op == membucket.OpDelete && len(keys(t, objects, "log/")) != 7 {
					t.Error("a pack goes before the entry that lists it")
				}
			}
			return nil
		})
		at := func(o *checkpoint.Options) { o.Now = func() time.Time { return *now } }
		_, err := newSaver(t, dying, 1, dir, at).Prune(t.Context())
		if got := restorable(t, objects); !slices.Equal(got[len(got)-3:], []int{4, 5, 6}) {
			t.Fatalf("killed at call %d: %v", calls, got)
		}
		if _, perr := newSaver(t, objects, 1, dir, at).Prune(t.Context()); perr != nil {
			t.Fatal(perr)
		}
		if got := restorable(t, objects); !slices.Equal(got, []int{4, 5, 6}) || len(keys(t, objects, "packs/")) != 3 {
			t.Fatalf("killed at call %d, and pruned again: %v, %v", calls, got, keys(t, objects, "packs/"))
		}
		if err == nil {
			return
		}
	}
}

// TestCommitBehindAPrune: a saver that stalled while another process of its
// attempt pruned commits nothing that needs what is gone.
func TestCommitBehindAPrune(t *testing.T) {
	objects, dir, _, now := old(t, 6)
	at := func(o *checkpoint.Options) { o.Now = func() time.Time { return *now } }
	var pruned bool
	stalled := newSaver(t, objects.WithHook(func(_ context.Context, c membucket.Call) error {
		if c.Op == membucket.OpPutIfAbsent && strings.HasPrefix(c.Key, "log/") && c.When == membucket.Before && !pruned {
			pruned = true
			victims := keys(t, objects, "packs/") // of everything, as a clock far ahead would
			if _, err := wal.Open(objects, 1, wal.Options{}).Append(t.Context(), wal.Entry{Kind: wal.KindPrune, Victims: victims, Keeps: []int{}}); err != nil {
				t.Error(err)
			}
			for _, v := range victims {
				if err := objects.Delete(t.Context(), v); err != nil {
					t.Error(err)
				}
			}
		}
		return nil
	}), 1, dir, at)
	write(t, filepath.Join(dir, "b"), []byte("one more file, the other is as it was"))
	if r := save(t, stalled); r.Number != 8 {
		t.Errorf("%+v", r)
	}
	into, r := restore(t, objects, 0)
	if r.Number != 8 {
		t.Errorf("%+v", r)
	}
	sameTree(t, describe(t, dir), describe(t, into))
}
