package storetest

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"anycloud/shared/store"
)

func testDocs(t *testing.T, h Harness) {
	t.Run("versions", func(t *testing.T) {
		s := h.fresh(t)
		_, v, err := s.GetDoc(t.Context(), "k")
		wantErr(t, "get", err, store.ErrNotFound)
		if v != 0 {
			t.Errorf("an absent document has version %d", v)
		}
		wantErr(t, "put over what is absent", s.PutDoc(t.Context(), "k", nil, 1, time.Time{}), store.ErrConflict)
		putDoc(t, s, "k", "one", 0, time.Time{})
		v1 := wantDoc(t, s, "k", "one")
		wantErr(t, "put as if absent", s.PutDoc(t.Context(), "k", nil, 0, time.Time{}), store.ErrConflict)
		wantErr(t, "put ahead", s.PutDoc(t.Context(), "k", nil, v1+1, time.Time{}), store.ErrConflict)
		putDoc(t, s, "k", "two", v1, time.Time{})
		if v2 := wantDoc(t, s, "k", "two"); v2 <= v1 {
			t.Errorf("version %d after %d", v2, v1)
		}
		wantErr(t, "put with the old version", s.PutDoc(t.Context(), "k", nil, v1, time.Time{}), store.ErrConflict)
		wantDoc(t, s, "k", "two")
	})
	t.Run("expiry", func(t *testing.T) {
		var mu sync.Mutex
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		s := h.New(t, func() time.Time { mu.Lock(); defer mu.Unlock(); return now })
		pass := func(d time.Duration) { mu.Lock(); now = now.Add(d); mu.Unlock() }
		putDoc(t, s, "k", "one", 0, now.Add(time.Minute))
		pass(59 * time.Second)
		v := wantDoc(t, s, "k", "one")
		pass(time.Second)
		_, gone, err := s.GetDoc(t.Context(), "k")
		wantErr(t, "get expired", err, store.ErrNotFound)
		if gone != 0 {
			t.Errorf("an expired document has version %d", gone)
		}
		wantErr(t, "put over what expired", s.PutDoc(t.Context(), "k", nil, v, time.Time{}), store.ErrConflict)
		putDoc(t, s, "k", "two", 0, time.Time{})
		pass(24 * 365 * time.Hour)
		wantDoc(t, s, "k", "two")
	})
	t.Run("nothing is shared", func(t *testing.T) {
		s := h.fresh(t)
		b := []byte("text")
		if err := s.PutDoc(t.Context(), "k", b, 0, time.Time{}); err != nil {
			t.Fatal(err)
		}
		b[0] = 'X'
		got, _, err := s.GetDoc(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		got[1] = 'X'
		wantDoc(t, s, "k", "text")
	})
	t.Run("rivals lose no update", func(t *testing.T) {
		s := h.fresh(t)
		const writers, steps = 6, 8
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for done := 0; done < steps; {
					data, v, err := s.GetDoc(context.Background(), "n")
					if err != nil && !errors.Is(err, store.ErrNotFound) {
						t.Error(err)
						return
					}
					n, _ := strconv.Atoi(string(data))
					err = s.PutDoc(context.Background(), "n", strconv.AppendInt(nil, int64(n+1), 10), v, time.Time{})
					if err == nil {
						done++
					} else if !errors.Is(err, store.ErrConflict) {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		wantDoc(t, s, "n", strconv.Itoa(writers*steps))
	})
}

func putDoc(t *testing.T, s store.Store, key, data string, ifVersion int64, expires time.Time) {
	t.Helper()
	if err := s.PutDoc(t.Context(), key, []byte(data), ifVersion, expires); err != nil {
		t.Fatal(err)
	}
}

func wantDoc(t *testing.T, s store.Store, key, want string) int64 {
	t.Helper()
	got, v, err := s.GetDoc(t.Context(), key)
	if err != nil || string(got) != want || v <= 0 {
		t.Fatalf("document %s: %q at version %d, %v; want %q", key, got, v, err, want)
	}
	return v
}
