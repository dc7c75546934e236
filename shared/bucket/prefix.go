package bucket

import (
	"context"
	"io"
	"strings"
)

// WithPrefix is o's part under prefix, a directory: keys lose it on the way
// out and get it on the way in. "" is o itself.
func WithPrefix(o Objects, prefix string) Objects {
	prefix = strings.Trim(prefix, "/")
	if prefix == "" {
		return o
	}
	return &prefixed{o, prefix + "/"}
}

type prefixed struct {
	Objects
	prefix string
}

func (p *prefixed) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	return p.Objects.PutIfAbsent(ctx, p.prefix+key, data)
}

func (p *prefixed) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	return p.Objects.Put(ctx, p.prefix+key, r, size)
}

func (p *prefixed) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	return p.Objects.Get(ctx, p.prefix+key, offset, length)
}

func (p *prefixed) List(ctx context.Context, prefix, startAfter string, limit int) ([]Object, bool, error) {
	if startAfter != "" {
		startAfter = p.prefix + startAfter
	}
	page, more, err := p.Objects.List(ctx, p.prefix+prefix, startAfter, limit)
	for i := range page {
		page[i].Key = strings.TrimPrefix(page[i].Key, p.prefix)
	}
	return page, more, err
}

func (p *prefixed) Delete(ctx context.Context, key string) error {
	return p.Objects.Delete(ctx, p.prefix+key)
}
