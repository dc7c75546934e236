package buckettest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"anycloud/shared/bucket"
)

func testAdmin(t *testing.T, admins func(t *testing.T) (mine, theirs bucket.Admin)) {
	const name = "acme-train-0123456789"
	create := func(t *testing.T, a bucket.Admin, name string) bucket.Objects {
		t.Helper()
		if err := a.Create(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		o, err := a.Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	t.Run("create, twice", func(t *testing.T) {
		mine, _ := admins(t)
		wantExists(t, mine, name, false)
		put(t, create(t, mine, name), "a", "kept")
		wantData(t, create(t, mine, name), "a", "kept")
		wantExists(t, mine, name, true)
		if got := keys(t, create(t, mine, name), "", 0); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("objects %q: a bucket's own mark must not show", got)
		}
	})
	t.Run("create at once by many", func(t *testing.T) {
		mine, theirs := admins(t)
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { errs[i] = mine.Create(context.Background(), name) })
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
		wantErr(t, "create by another stack", theirs.Create(t.Context(), name), bucket.ErrNotOwned)
	})
	t.Run("another stack's bucket is not touched", func(t *testing.T) {
		mine, theirs := admins(t)
		o := create(t, theirs, name)
		put(t, o, "a", "theirs")
		wantErr(t, "create", mine.Create(t.Context(), name), bucket.ErrNotOwned)
		_, err := mine.Exists(t.Context(), name)
		wantErr(t, "exists", err, bucket.ErrNotOwned)
		_, err = mine.Dispose(t.Context(), name)
		wantErr(t, "dispose", err, bucket.ErrNotOwned)
		_, err = mine.Access(t.Context(), name)
		wantErr(t, "access", err, bucket.ErrNotOwned)
		_, err = mine.Open(t.Context(), name)
		wantErr(t, "open", err, bucket.ErrNotOwned)
		wantData(t, o, "a", "theirs")
		wantNames(t, mine)
		wantNames(t, theirs, name)
	})
	t.Run("dispose", func(t *testing.T) { testDispose(t, admins, name) })
	t.Run("access", func(t *testing.T) {
		mine, _ := admins(t)
		_, err := mine.Access(t.Context(), name)
		wantErr(t, "access to nothing", err, bucket.ErrNoBucket)
		create(t, mine, name)
		a, err := mine.Access(t.Context(), name)
		if err != nil || a.URL == "" {
			t.Fatalf("access: %+v, %v", a, err)
		}
		if !a.Expires.IsZero() && time.Until(a.Expires) > time.Hour {
			t.Errorf("credentials live until %v, longer than an hour", a.Expires)
		}
		if a.Expires.IsZero() && len(a.Env) > 0 {
			t.Error("credentials that never expire")
		}
	})
	t.Run("list", func(t *testing.T) {
		mine, theirs := admins(t)
		wantNames(t, mine)
		for _, n := range []string{"job-b", "job-a", "job-c"} {
			create(t, mine, n)
		}
		create(t, theirs, "job-bb")
		wantNames(t, mine, "job-a", "job-b", "job-c")
	})
	t.Run("bad names", func(t *testing.T) {
		mine, _ := admins(t)
		for _, n := range []string{"", "..", "a/b", "../up", ".tmp", "UPPER", "ab", "-ab", "a_b_c"} {
			wantErr(t, "create "+n, mine.Create(t.Context(), n), bucket.ErrBadKey)
		}
	})
}

func testDispose(t *testing.T, admins func(t *testing.T) (mine, theirs bucket.Admin), name string) {
	mine, _ := admins(t)
	if done, err := mine.Dispose(t.Context(), name); !done || err != nil {
		t.Fatalf("dispose of nothing: %v, %v", done, err)
	}
	if err := mine.Create(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	o, err := mine.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range Many {
		put(t, o, fmt.Sprintf("d%d/o%d", i%3, i), "x")
	}
	put(t, o, "d0/old/deleted", "x")
	if err := o.Delete(t.Context(), "d0/old/deleted"); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if done, err := mine.Dispose(ended, name); done || err == nil {
		t.Fatalf("dispose with an ended context: %v, %v", done, err)
	}
	calls := 0
	for done := false; !done; calls++ {
		if calls > 10*Many {
			t.Fatal("disposal never ends")
		}
		if done, err = mine.Dispose(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("disposed of %d objects in %d calls", Many, calls)
	wantExists(t, mine, name, false)
	wantNames(t, mine)
	wantErr(t, "put into it", o.PutIfAbsent(t.Context(), "late", nil), bucket.ErrNoBucket)
	if done, err := mine.Dispose(t.Context(), name); !done || err != nil {
		t.Fatalf("dispose again: %v, %v", done, err)
	}
	wantExists(t, mine, name, false)
}

func wantExists(t *testing.T, a bucket.Admin, name string, want bool) {
	t.Helper()
	if got, err := a.Exists(t.Context(), name); err != nil || got != want {
		t.Fatalf("exists %s: %v, %v; want %v", name, got, err, want)
	}
}

func wantNames(t *testing.T, a bucket.Admin, want ...string) {
	t.Helper()
	got, err := a.List(t.Context())
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("buckets %q, %v; want %q", got, err, want)
	}
}
