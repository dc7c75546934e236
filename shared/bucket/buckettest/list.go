package buckettest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"anycloud/shared/bucket"
)

// awkward sorts differently as paths than as bytes, and by locale than either.
var awkward = []string{
	"a-b", "a.b", "a/b", "a/b-c", "a/c/d", "a0", "aB", "ab", "b/0000000001", "b/0000000002", "b/0000000010",
	"c!/x", "c/x", "c0/x", "d/e/f/g/h", "z", "é/ü", "日本",
}

func testList(t *testing.T, open open) {
	fill := func(t *testing.T) (bucket.Objects, []string) {
		o := open(t)
		for _, k := range awkward {
			put(t, o, k, k)
		}
		return o, slices.Sorted(slices.Values(awkward))
	}
	t.Run("order, prefixes and pages", func(t *testing.T) {
		o, all := fill(t)
		for _, prefix := range []string{"", "a", "a/", "a/b", "a/c/d", "a/c/d/", "b/00", "b/0000000002", "c", "c/", "none", "none/", "z/", "a//", "d/e/", "é"} {
			want := slices.DeleteFunc(slices.Clone(all), func(k string) bool { return !strings.HasPrefix(k, prefix) })
			for _, limit := range []int{0, 1, 2, 3, 100} {
				if got := keys(t, o, prefix, limit); !slices.Equal(got, want) {
					t.Errorf("list %q by %d: %q\nwant %q", prefix, limit, got, want)
				}
			}
		}
	})
	t.Run("start after", func(t *testing.T) {
		o, all := fill(t)
		for _, prefix := range []string{"", "a/", "b/"} {
			for _, after := range append([]string{"a", "a/", "a/b", "a/bz", "a/c", "a/c/", "a/z", "b", "b/0000000001x", "b0", "c", "zz", "~"}, all...) {
				want := slices.DeleteFunc(slices.Clone(all), func(k string) bool {
					return !strings.HasPrefix(k, prefix) || k <= after
				})
				page, more, err := o.List(t.Context(), prefix, after, 0)
				if err != nil || more {
					t.Fatalf("list %q after %q: more %v, %v", prefix, after, more, err)
				}
				var got []string
				for _, obj := range page {
					got = append(got, obj.Key)
				}
				if !slices.Equal(got, want) {
					t.Errorf("list %q after %q: %q\nwant %q", prefix, after, got, want)
				}
			}
		}
	})
	t.Run("the last page says so", func(t *testing.T) {
		o, all := fill(t)
		for limit, wantMore := range map[int]bool{len(all): false, len(all) - 1: true} {
			page, more, err := o.List(t.Context(), "", "", limit)
			if err != nil || len(page) != limit || more != wantMore {
				t.Errorf("limit %d of %d: %d objects, more %v, %v", limit, len(all), len(page), more, err)
			}
		}
	})
	t.Run("sizes and times", func(t *testing.T) {
		o := open(t)
		put(t, o, "a", "12345")
		page, _, err := o.List(t.Context(), "", "", 0)
		if err != nil || len(page) != 1 || page[0].Size != 5 {
			t.Fatalf("list: %+v, %v", page, err)
		}
		if d := time.Since(page[0].Modified); d < -time.Hour || d > time.Hour {
			t.Errorf("modified %v ago", d)
		}
	})
	t.Run("every finished write is seen", func(t *testing.T) {
		o := open(t)
		for n := range 15 {
			key := fmt.Sprintf("log/%010d", n)
			if err := o.PutIfAbsent(t.Context(), key, []byte("x")); err != nil {
				t.Fatal(err)
			}
			if got := keys(t, o, "log/", 0); len(got) != n+1 || got[n] != key {
				t.Fatalf("after %s: %q", key, got)
			}
			if n%3 == 2 {
				put(t, o, "gone", "x")
				if err := o.Delete(context.Background(), "gone"); err != nil {
					t.Fatal(err)
				}
				if got := keys(t, o, "gone", 0); len(got) != 0 {
					t.Fatalf("deleted and still listed: %q", got)
				}
			}
		}
	})
}
