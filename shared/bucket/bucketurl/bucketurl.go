// Package bucketurl opens a bucket by its URL: file:///dir[/prefix],
// s3://bucket[/prefix], ... It knows no driver but the one for files; who needs
// another scheme hands its opener in, so that no binary links an SDK that it
// does not call.
package bucketurl

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"anycloud/shared/bucket"
	"anycloud/shared/bucket/filebucket"
)

// Opener opens one scheme's URLs. env holds the driver's own credential names,
// as bucket.Access gives them; nil leaves the driver to its defaults.
type Opener func(ctx context.Context, u *url.URL, env map[string]string) (bucket.Objects, error)

// Registry is the schemes that a program knows. The composition root fills it.
type Registry map[string]Opener

// Open opens the URL's bucket, or the part of it under the URL's prefix.
func (r Registry) Open(ctx context.Context, rawURL string, env map[string]string) (bucket.Objects, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme == "" {
		return nil, fmt.Errorf("%q is not a bucket URL: write for example file:///dir or s3://bucket/prefix", rawURL)
	}
	open, ok := r[u.Scheme]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(r)), ", ")
		return nil, fmt.Errorf("cannot open %s: this program knows buckets of %s only", u.Redacted(), known)
	}
	o, err := open(ctx, u, env)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", u.Redacted(), err)
	}
	return o, nil
}

// File opens file:///dir[/prefix]. The directory must be there when it is used.
func File(_ context.Context, u *url.URL, _ map[string]string) (bucket.Objects, error) {
	path, err := filePath(u)
	if err != nil {
		return nil, err
	}
	dir, prefix := filebucket.Resolve(path)
	o, err := filebucket.Open(dir)
	if err != nil {
		return nil, err
	}
	return bucket.WithPrefix(o, prefix), nil
}

// MakeFile is File for a person's own bucket: the directory is made if missing.
func MakeFile(_ context.Context, u *url.URL, _ map[string]string) (bucket.Objects, error) {
	path, err := filePath(u)
	if err != nil {
		return nil, err
	}
	dir, prefix := filebucket.Resolve(path)
	o, err := filebucket.Init(dir)
	if err != nil {
		return nil, err
	}
	return bucket.WithPrefix(o, prefix), nil
}

func filePath(u *url.URL) (string, error) {
	if u.Opaque != "" || (u.Host != "" && u.Host != "localhost") || !strings.HasPrefix(u.Path, "/") || u.RawQuery != "" {
		return "", fmt.Errorf("a directory's URL has three slashes and an absolute path, as in file:///dir")
	}
	return u.Path, nil
}
