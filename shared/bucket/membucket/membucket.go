// Package membucket is the bucket port in memory: the working fake for tests
// and for the simulation. It loses everything with its process.
//
//	hook.go        Hook: faults on demand, before and after each call
//	objects.go     one bucket: Objects
//	membucket.go   many buckets with owners: Buckets
package membucket

import (
	"context"
	"fmt"
	"sync"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/internal/keyset"
)

// DefaultDisposeBatch is how many objects one Dispose call removes: small, so
// that callers meet a disposal that is not done at once.
const DefaultDisposeBatch = 1000

// Buckets is all buckets, as one stack sees them. It implements bucket.Admin.
// Set its fields before use.
type Buckets struct {
	// Hook sees every call on Buckets and, unless a handle has its own, on the
	// objects opened here.
	Hook Hook
	// DisposeBatch bounds one Dispose call; 0: DefaultDisposeBatch.
	DisposeBatch int
	// Now is the clock; nil: time.Now.
	Now func() time.Time

	stack string
	*namespace
}

// namespace is what all stacks share: bucket names are global.
type namespace struct {
	mu      sync.Mutex
	names   keyset.Set
	buckets map[string]owned
}

type owned struct {
	stack string
	data  *data
}

var _ bucket.Admin = (*Buckets)(nil)

// New makes an empty namespace whose caller is the stack.
func New(stack string) *Buckets {
	return &Buckets{stack: stack, namespace: &namespace{buckets: map[string]owned{}}}
}

// As is another stack's view of the same namespace, with the same settings.
func (b *Buckets) As(stack string) *Buckets {
	c := *b
	c.stack = stack
	return &c
}

func (b *Buckets) add(name, stack string) {
	now := b.Now
	if now == nil {
		now = time.Now
	}
	b.names.Add(name)
	b.buckets[name] = owned{stack, newData(name, now)}
}

// do runs f, holding the lock, between the hook's two looks.
func (b *Buckets) do(ctx context.Context, op Op, name string, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.Hook.around(ctx, Call{Op: op, Bucket: name}, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if own, ok := b.buckets[name]; ok && own.stack != b.stack {
			return fmt.Errorf("%s bucket %s: %w", op, name, bucket.ErrNotOwned)
		}
		return f()
	})
}

// Create implements bucket.Admin.
func (b *Buckets) Create(ctx context.Context, name string) error {
	if err := bucket.CheckName(name); err != nil {
		return err
	}
	return b.do(ctx, OpCreate, name, func() error {
		if _, ok := b.buckets[name]; !ok {
			b.add(name, b.stack)
		}
		return nil
	})
}

// Exists implements bucket.Admin.
func (b *Buckets) Exists(ctx context.Context, name string) (ok bool, err error) {
	err = b.do(ctx, OpExists, name, func() error {
		_, ok = b.buckets[name]
		return nil
	})
	return ok && err == nil, err
}

// Dispose implements bucket.Admin.
func (b *Buckets) Dispose(ctx context.Context, name string) (done bool, err error) {
	err = b.do(ctx, OpDispose, name, func() error {
		own, ok := b.buckets[name]
		if !ok {
			done = true
			return nil
		}
		batch := b.DisposeBatch
		if batch <= 0 {
			batch = DefaultDisposeBatch
		}
		d := own.data
		d.mu.Lock()
		defer d.mu.Unlock()
		keys := d.keys.From("")
		for _, k := range append([]string(nil), keys[:min(batch, len(keys))]...) {
			delete(d.objects, k)
			d.keys.Remove(k)
		}
		if d.keys.Len() > 0 {
			return nil
		}
		d.gone = true
		delete(b.buckets, name)
		b.names.Remove(name)
		done = true
		return nil
	})
	return done && err == nil, err
}

// Access implements bucket.Admin. The URL is for showing only: nothing opens
// another process's memory.
func (b *Buckets) Access(ctx context.Context, name string) (a bucket.Access, err error) {
	err = b.do(ctx, OpAccess, name, func() error {
		if _, ok := b.buckets[name]; !ok {
			return fmt.Errorf("access bucket %s: %w", name, bucket.ErrNoBucket)
		}
		a = bucket.Access{URL: "mem:///" + name}
		return nil
	})
	return a, err
}

// Open implements bucket.Admin. Like a cloud's client, the handle answers
// ErrNoBucket later, not here, where the bucket is missing.
func (b *Buckets) Open(_ context.Context, name string) (bucket.Objects, error) {
	return b.Bucket(name, b.Hook)
}

// Bucket is Open for a caller with a hook of its own (nil: none).
func (b *Buckets) Bucket(name string, h Hook) (*Objects, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	own, ok := b.buckets[name]
	switch {
	case !ok:
		return &Objects{data: &data{name: name, gone: true}, Hook: h}, nil
	case own.stack != b.stack:
		return nil, fmt.Errorf("open bucket %s: %w", name, bucket.ErrNotOwned)
	}
	return &Objects{data: own.data, Hook: h}, nil
}

// List implements bucket.Admin.
func (b *Buckets) List(ctx context.Context) (names []string, err error) {
	err = b.do(ctx, OpListBuckets, "", func() error {
		for _, n := range b.names.From("") {
			if b.buckets[n].stack == b.stack {
				names = append(names, n)
			}
		}
		return nil
	})
	return names, err
}
