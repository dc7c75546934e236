// Package buckettest is the suite that every bucket driver passes.
//
//	put.go     put if absent, put: races, durability of answers, sizes
//	get.go     ranges
//	list.go    order, paging, startAfter, consistency
//	keys.go    names that are refused, and awkward ones that are not
//	gone.go    a bucket that is not there
//	admin.go   create, own, dispose, access
package buckettest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"anycloud/shared/bucket"
)

// Harness builds what a driver is tested on. A nil function leaves its topics
// out.
type Harness struct {
	// Objects returns a fresh, empty bucket.
	Objects func(t *testing.T) bucket.Objects
	// Missing returns a handle of a bucket that does not exist, or not any more.
	Missing func(t *testing.T) bucket.Objects
	// Admins returns two stacks' views of one fresh store. A disposal should
	// take them more than one call for Many objects, where that can be set.
	Admins func(t *testing.T) (mine, theirs bucket.Admin)
}

// Many is how many objects the tests of disposal put into a bucket.
const Many = 25

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	if h.Objects != nil {
		t.Run("put", func(t *testing.T) { testPut(t, h.Objects) })
		t.Run("get", func(t *testing.T) { testGet(t, h.Objects) })
		t.Run("list", func(t *testing.T) { testList(t, h.Objects) })
		t.Run("keys", func(t *testing.T) { testKeys(t, h.Objects) })
		t.Run("prefix", func(t *testing.T) {
			under := func(t *testing.T) bucket.Objects { return bucket.WithPrefix(h.Objects(t), "some/where") }
			testPut(t, under)
			testGet(t, under)
			testList(t, under)
			testKeys(t, under)
		})
	}
	if h.Missing != nil {
		t.Run("missing bucket", func(t *testing.T) { testMissing(t, h.Missing) })
	}
	if h.Admins != nil {
		t.Run("admin", func(t *testing.T) { testAdmin(t, h.Admins) })
	}
}

type open = func(t *testing.T) bucket.Objects

func put(t testing.TB, o bucket.Objects, key, data string) {
	t.Helper()
	if err := o.Put(t.Context(), key, bytes.NewReader([]byte(data)), int64(len(data))); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

func read(o bucket.Objects, key string, offset, length int64) (string, error) {
	r, err := o.Get(context.Background(), key, offset, length)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	return string(b), errors.Join(err, r.Close())
}

func wantData(t testing.TB, o bucket.Objects, key, want string) {
	t.Helper()
	if got, err := read(o, key, 0, -1); err != nil || got != want {
		t.Fatalf("get %s: %.40q, %v; want %.40q", key, got, err, want)
	}
}

func wantErr(t testing.TB, what string, err, class error) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Fatalf("%s: error %v, want %v", what, err, class)
	}
}

// keys lists everything under the prefix, page by page.
func keys(t testing.TB, o bucket.Objects, prefix string, limit int) []string {
	t.Helper()
	var all []string
	after := ""
	for {
		page, more, err := o.List(context.Background(), prefix, after, limit)
		if err != nil {
			t.Fatalf("list %q after %q: %v", prefix, after, err)
		}
		if limit > 0 && len(page) > limit || more && len(page) == 0 {
			t.Fatalf("list %q: a page of %d with limit %d, more %v", prefix, len(page), limit, more)
		}
		for _, obj := range page {
			all = append(all, obj.Key)
			after = obj.Key
		}
		if !more {
			return all
		}
	}
}
