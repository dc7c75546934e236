package buckettest

import (
	"strings"
	"testing"

	"anycloud/shared/bucket"
)

func testMissing(t *testing.T, open open) {
	o := open(t)
	_, err := o.Get(t.Context(), "a/b", 0, -1)
	wantErr(t, "get", err, bucket.ErrNoBucket)
	wantErr(t, "get", err, bucket.ErrNotFound)
	for _, prefix := range []string{"", "a/", "a//"} {
		_, _, err = o.List(t.Context(), prefix, "", 0)
		wantErr(t, "list", err, bucket.ErrNoBucket)
	}
	wantErr(t, "put if absent", o.PutIfAbsent(t.Context(), "a/b", nil), bucket.ErrNoBucket)
	wantErr(t, "put", o.Put(t.Context(), "c", strings.NewReader("x"), 1), bucket.ErrNoBucket)
	wantErr(t, "delete", o.Delete(t.Context(), "a/b"), bucket.ErrNoBucket)
	_, _, err = o.List(t.Context(), "", "", 0)
	wantErr(t, "list after the puts", err, bucket.ErrNoBucket)
}
