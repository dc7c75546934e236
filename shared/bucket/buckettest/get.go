package buckettest

import (
	"fmt"
	"testing"

	"anycloud/shared/bucket"
)

func testGet(t *testing.T, open open) {
	t.Run("ranges", func(t *testing.T) {
		o := open(t)
		const text = "0123456789"
		put(t, o, "dir/a", text)
		for _, c := range []struct {
			offset, length int64
			want           string
		}{
			{0, -1, text}, {0, 10, text}, {3, 4, "3456"}, {3, -1, "3456789"}, {9, 1, "9"},
			{8, 5, "89"}, {0, 1000, text}, {10, -1, ""}, {10, 5, ""}, {20, -1, ""}, {20, 3, ""}, {4, 0, ""},
		} {
			if got, err := read(o, "dir/a", c.offset, c.length); err != nil || got != c.want {
				t.Errorf("get %d+%d: %q, %v; want %q", c.offset, c.length, got, err, c.want)
			}
		}
		if _, err := o.Get(t.Context(), "dir/a", -1, 1); err == nil {
			t.Error("a negative offset was taken")
		}
	})
	t.Run("missing", func(t *testing.T) {
		o := open(t)
		put(t, o, "dir/a", "x")
		for _, key := range []string{"b", "dir", "dir/b", "dir/a/below", "other/a"} {
			_, err := read(o, key, 0, -1)
			wantErr(t, "get "+key, err, bucket.ErrNotFound)
			if err == bucket.ErrNoBucket {
				t.Errorf("get %s: the bucket is there", key)
			}
		}
	})
	t.Run("readers are independent", func(t *testing.T) {
		o := open(t)
		for i := range 3 {
			put(t, o, fmt.Sprint("k", i), fmt.Sprint("text ", i))
		}
		r, err := o.Get(t.Context(), "k0", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		wantData(t, o, "k1", "text 1")
		put(t, o, "k0", "replaced")
		b := make([]byte, 6)
		if n, _ := r.Read(b); n > 0 && string(b[:n]) != "text 0"[:n] {
			t.Errorf("an open reader changed under its caller: %q", b[:n])
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
