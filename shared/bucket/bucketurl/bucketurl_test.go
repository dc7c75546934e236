package bucketurl

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anycloud/shared/bucket"
	"anycloud/shared/bucket/membucket"
)

func TestOpen(t *testing.T) {
	mem := membucket.NewObjects()
	r := Registry{"file": File, "mem": func(context.Context, *url.URL, map[string]string) (bucket.Objects, error) { return mem, nil }}
	if o, err := r.Open(t.Context(), "mem://x/y", nil); err != nil || o != bucket.Objects(mem) {
		t.Fatalf("%v, %v", o, err)
	}
	dir := t.TempDir()
	o, err := r.Open(t.Context(), "file://"+dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.PutIfAbsent(t.Context(), "a/b", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a", "b")); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownSchemesSaySo(t *testing.T) {
	r := Registry{"file": File}
	for raw, want := range map[string]string{
		"s3://key:secret@b/p": "this program knows buckets of file only",
		"/just/a/path":        "not a bucket URL",
		"file://host/dir":     "three slashes",
		"file:dir":            "three slashes",
		"":                    "not a bucket URL",
	} {
		_, err := r.Open(t.Context(), raw, nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestMakeFileMakesTheDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new bucket")
	raw := (&url.URL{Scheme: "file", Path: dir}).String()
	o, err := Registry{"file": File}.Open(t.Context(), raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.PutIfAbsent(t.Context(), "a", nil); !errors.Is(err, bucket.ErrNoBucket) {
		t.Fatal(err)
	}
	o, err = Registry{"file": MakeFile}.Open(t.Context(), raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.PutIfAbsent(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
}
