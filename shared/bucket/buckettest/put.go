package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"anycloud/shared/bucket"
)

func testPut(t *testing.T, open open) {
	t.Run("put if absent creates once", func(t *testing.T) {
		o := open(t)
		if err := o.PutIfAbsent(t.Context(), "log/1", []byte("one")); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "again", o.PutIfAbsent(t.Context(), "log/1", []byte("one")), bucket.ErrExists)
		wantErr(t, "other bytes", o.PutIfAbsent(t.Context(), "log/1", []byte("two")), bucket.ErrExists)
		wantData(t, o, "log/1", "one")
		put(t, o, "log/2", "by put")
		wantErr(t, "over a put", o.PutIfAbsent(t.Context(), "log/2", nil), bucket.ErrExists)
	})
	t.Run("exactly one of many wins", func(t *testing.T) { testRace(t, open(t)) })
	t.Run("put replaces", func(t *testing.T) {
		o := open(t)
		put(t, o, "a", "long first text")
		put(t, o, "a", "second")
		wantData(t, o, "a", "second")
	})
	t.Run("empty objects", func(t *testing.T) {
		o := open(t)
		put(t, o, "empty", "")
		wantData(t, o, "empty", "")
		if err := o.PutIfAbsent(t.Context(), "empty2", nil); err != nil {
			t.Fatal(err)
		}
		wantData(t, o, "empty2", "")
	})
	t.Run("a big object", func(t *testing.T) {
		o := open(t)
		b := make([]byte, 9<<20+17)
		r := rand.NewChaCha8([32]byte{1})
		r.Read(b)
		if err := o.Put(t.Context(), "big", bytes.NewReader(b), int64(len(b))); err != nil {
			t.Fatal(err)
		}
		if got, err := read(o, "big", 0, -1); err != nil || got != string(b) {
			t.Fatalf("read back %d bytes, %v", len(got), err)
		}
	})
	t.Run("the store keeps a copy", func(t *testing.T) {
		o := open(t)
		b := []byte("before")
		if err := o.PutIfAbsent(t.Context(), "a", b); err != nil {
			t.Fatal(err)
		}
		copy(b, "after!")
		wantData(t, o, "a", "before")
	})
	t.Run("a failed put leaves nothing", func(t *testing.T) { testFailedPut(t, open(t)) })
	t.Run("delete", func(t *testing.T) {
		o := open(t)
		put(t, o, "d/a", "x")
		for range 2 { // the second time it is missing, which is success
			if err := o.Delete(t.Context(), "d/a"); err != nil {
				t.Fatal(err)
			}
			_, err := read(o, "d/a", 0, -1)
			wantErr(t, "get deleted", err, bucket.ErrNotFound)
		}
		if err := o.Delete(t.Context(), "d"); err != nil {
			t.Fatalf("delete of what was only a prefix: %v", err)
		}
		if err := o.PutIfAbsent(t.Context(), "d/a", []byte("y")); err != nil {
			t.Fatalf("put after delete: %v", err)
		}
		wantData(t, o, "d/a", "y")
	})
	t.Run("an object in the place of a deleted prefix", func(t *testing.T) {
		o := open(t)
		for _, k := range []string{"p/q/r", "p/s"} {
			put(t, o, k, "x")
			if err := o.Delete(t.Context(), k); err != nil {
				t.Fatal(err)
			}
		}
		put(t, o, "p", "now an object")
		wantData(t, o, "p", "now an object")
	})
	t.Run("an ended context does nothing", func(t *testing.T) {
		o := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := o.PutIfAbsent(ctx, "a", []byte("x")); err == nil {
			t.Fatal("put with an ended context succeeded")
		}
		if got := keys(t, o, "", 0); len(got) != 0 {
			t.Fatalf("left %q", got)
		}
	})
}

// testRace has many callers append to one dense log: every number is won once,
// by the one that was told so.
func testRace(t *testing.T, o bucket.Objects) {
	const callers, entries = 8, 12
	var mu sync.Mutex
	won := map[string]string{}
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for n := range entries {
				key, mine := fmt.Sprintf("log/%010d", n), fmt.Sprintf("caller %d", c)
				err := o.PutIfAbsent(context.Background(), key, []byte(mine))
				if err == nil {
					mu.Lock()
					if other, twice := won[key]; twice {
						t.Errorf("%s won by %s and %s", key, other, mine)
					}
					won[key] = mine
					mu.Unlock()
				} else if !errors.Is(err, bucket.ErrExists) {
					t.Errorf("put %s: %v", key, err)
				}
				if got, err := read(o, key, 0, -1); err != nil || !strings.HasPrefix(got, "caller ") {
					t.Errorf("%s is not whole after its put: %q, %v", key, got, err)
				}
			}
		})
	}
	wg.Wait()
	if len(won) != entries {
		t.Fatalf("%d of %d entries were won by anybody", len(won), entries)
	}
	for key, mine := range won {
		wantData(t, o, key, mine)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("source broke") }

func testFailedPut(t *testing.T, o bucket.Objects) {
	put(t, o, "old", "stays")
	for name, r := range map[string]io.Reader{
		"broken": io.MultiReader(strings.NewReader("abc"), brokenReader{}),
		"short":  strings.NewReader("abc"),
		"long":   strings.NewReader("abcdefgh"),
	} {
		for _, key := range []string{"new", "old"} {
			src := r
			if s, ok := r.(*strings.Reader); ok {
				s.Seek(0, io.SeekStart)
			}
			if err := o.Put(t.Context(), key, src, 5); err == nil {
				t.Fatalf("a %s source was taken for an object of 5 bytes", name)
			}
		}
	}
	wantData(t, o, "old", "stays")
	if got := keys(t, o, "", 0); !slices.Equal(got, []string{"old"}) {
		t.Fatalf("left %q", got)
	}
}
