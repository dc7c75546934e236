package buckettest

import (
	"slices"
	"strings"
	"testing"

	"anycloud/shared/bucket"
)

func testKeys(t *testing.T, open open) {
	t.Run("bad keys are refused by every call", func(t *testing.T) {
		o := open(t)
		for _, key := range []string{
			"", "/", "/a", "a/", "a//b", ".", "..", "./a", "../a", "a/..", "a/./b", "a/../b", "a\x00b", "a\nb", "a\xffb",
			strings.Repeat("x", bucket.MaxKeyElement+1), strings.Repeat("xy/", bucket.MaxKey/3+1) + "z",
		} {
			wantErr(t, "put if absent", o.PutIfAbsent(t.Context(), key, nil), bucket.ErrBadKey)
			wantErr(t, "put", o.Put(t.Context(), key, strings.NewReader(""), 0), bucket.ErrBadKey)
			_, err := o.Get(t.Context(), key, 0, -1)
			wantErr(t, "get", err, bucket.ErrBadKey)
			wantErr(t, "delete", o.Delete(t.Context(), key), bucket.ErrBadKey)
		}
		if got := keys(t, o, "", 0); len(got) != 0 {
			t.Fatalf("left %q", got)
		}
	})
	t.Run("awkward keys are kept as they are", func(t *testing.T) {
		o := open(t)
		awkward := []string{
			".hidden", ".tmp/x", "...", "..a", "a b", "a%2Fb", "%", "%%", "%.anycloud-tmp", "a+b", `a\b`, "a:b*?", `"q"`, "~", "#x", "x?y",
			".anycloud-tmp/x", ".anycloud-bucket/x", ".anycloud-%x", ".anycloud-", "d/.anycloud-bucket", "日本/語",
			strings.Repeat("n", 200), strings.Repeat("deep/", 60) + "leaf",
		}
		for _, k := range awkward {
			if err := o.PutIfAbsent(t.Context(), k, []byte(k)); err != nil {
				t.Fatalf("put %q: %v", k, err)
			}
		}
		want := slices.Sorted(slices.Values(awkward))
		if got := keys(t, o, "", 0); !slices.Equal(got, want) {
			t.Fatalf("list %q\nwant %q", got, want)
		}
		for _, k := range want {
			wantData(t, o, k, k)
			if got := keys(t, o, k, 0); !slices.Contains(got, k) {
				t.Errorf("list %q: %q", k, got)
			}
			if err := o.Delete(t.Context(), k); err != nil {
				t.Errorf("delete %q: %v", k, err)
			}
		}
		if got := keys(t, o, "", 0); len(got) != 0 {
			t.Fatalf("left %q", got)
		}
	})
}
