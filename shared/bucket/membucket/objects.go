package membucket

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/internal/keyset"
)

// PageSize is the length of a List page where the caller sets no limit.
const PageSize = 1000

// Objects is one bucket in memory.
type Objects struct {
	*data
	// Hook sees this handle's calls; nil: none. Set it before use.
	Hook Hook
}

// data is what all handles of one bucket share.
type data struct {
	mu      sync.Mutex
	name    string
	now     func() time.Time
	gone    bool
	keys    keyset.Set
	objects map[string]object
}

// object's bytes are never written to once stored, so readers share them.
type object struct {
	data     []byte
	modified time.Time
}

var _ bucket.Objects = (*Objects)(nil)

// NewObjects makes a lone bucket.
func NewObjects() *Objects { return &Objects{data: newData("", time.Now)} }

func newData(name string, now func() time.Time) *data {
	return &data{name: name, now: now, objects: map[string]object{}}
}

// WithHook returns another handle of the same bucket, with a hook of its own.
func (o *Objects) WithHook(h Hook) *Objects { return &Objects{data: o.data, Hook: h} }

// SetNow sets the clock behind Object.Modified.
func (o *Objects) SetNow(now func() time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = now
}

// Clone returns an independent bucket with the same objects and no hook.
func (o *Objects) Clone() *Objects {
	o.mu.Lock()
	defer o.mu.Unlock()
	return &Objects{data: &data{name: o.name, now: o.now, gone: o.gone, keys: o.keys.Clone(), objects: maps.Clone(o.objects)}}
}

// do runs f between the hook's two looks.
func (o *Objects) do(ctx context.Context, op Op, key string, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return o.Hook.around(ctx, Call{Op: op, Bucket: o.name, Key: key}, func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.gone {
			return fmt.Errorf("%s %s: %w", op, key, bucket.ErrNoBucket)
		}
		return f()
	})
}

// PutIfAbsent implements bucket.Objects.
func (o *Objects) PutIfAbsent(ctx context.Context, key string, b []byte) error {
	if err := bucket.CheckKey(key); err != nil {
		return err
	}
	return o.do(ctx, OpPutIfAbsent, key, func() error {
		if _, taken := o.objects[key]; taken {
			return fmt.Errorf("put %s: %w", key, bucket.ErrExists)
		}
		o.set(key, slices.Clone(b))
		return nil
	})
}

// Put implements bucket.Objects.
func (o *Objects) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	if err := bucket.CheckKey(key); err != nil {
		return err
	}
	if size < 0 {
		return fmt.Errorf("put %s: negative size", key)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("put %s: read %d bytes: %w", key, size, err)
	}
	if n, _ := io.ReadFull(r, make([]byte, 1)); n > 0 {
		return fmt.Errorf("put %s: more than the announced %d bytes", key, size)
	}
	return o.do(ctx, OpPut, key, func() error {
		o.set(key, b)
		return nil
	})
}

func (o *Objects) set(key string, b []byte) {
	o.keys.Add(key)
	o.objects[key] = object{data: b, modified: o.now()}
}

// Get implements bucket.Objects.
func (o *Objects) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := bucket.CheckKey(key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fmt.Errorf("get %s: negative offset", key)
	}
	var b []byte
	err := o.do(ctx, OpGet, key, func() error {
		obj, ok := o.objects[key]
		if !ok {
			return fmt.Errorf("get %s: %w", key, bucket.ErrNotFound)
		}
		b = obj.data[min(offset, int64(len(obj.data))):]
		if length >= 0 {
			b = b[:min(length, int64(len(b)))]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// List implements bucket.Objects.
func (o *Objects) List(ctx context.Context, prefix, startAfter string, limit int) (page []bucket.Object, more bool, err error) {
	if limit <= 0 {
		limit = PageSize
	}
	err = o.do(ctx, OpList, prefix, func() error {
		keys := o.keys.From(prefix)
		if startAfter >= prefix {
			keys = o.keys.After(startAfter)
		}
		for _, k := range keys {
			if !strings.HasPrefix(k, prefix) {
				break
			}
			if len(page) == limit {
				more = true
				break
			}
			obj := o.objects[k]
			page = append(page, bucket.Object{Key: k, Size: int64(len(obj.data)), Modified: obj.modified})
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return page, more, nil
}

// Delete implements bucket.Objects.
func (o *Objects) Delete(ctx context.Context, key string) error {
	if err := bucket.CheckKey(key); err != nil {
		return err
	}
	return o.do(ctx, OpDelete, key, func() error {
		if _, ok := o.objects[key]; ok {
			delete(o.objects, key)
			o.keys.Remove(key)
		}
		return nil
	})
}
