// Package bucket is the port to object stores.
//
// Two interfaces, because two parties hold them: Objects is what an agent on a
// VM gets (one bucket, one prefix, credentials that expire), Admin is what the
// control plane holds (buckets are created and disposed of by their job's
// record only).
//
// Drivers are sub-packages (membucket, filebucket, ...); each passes
// buckettest.Run. Drivers translate their store's errors into the classes
// below; nobody else knows error codes.
package bucket

import (
	"context"
	"errors"
	"io"
	"time"
)

var (
	// ErrNotFound: the object (or the whole bucket) is not there. It is an
	// answer, never a guess: time-outs and refusals are not ErrNotFound.
	ErrNotFound = errors.New("not found")
	// ErrNoBucket: the bucket itself is not there. It also matches ErrNotFound.
	ErrNoBucket = noBucketError{}
	// ErrExists: PutIfAbsent found the name taken (perhaps by an earlier try of
	// the same caller whose answer was lost: read it to know).
	ErrExists = errors.New("already exists")
	// ErrDenied: credentials are missing, expired or do not cover the call.
	ErrDenied = errors.New("access denied")
	// ErrNotOwned: a bucket of that name exists and is not ours. It is never
	// touched.
	ErrNotOwned = errors.New("bucket belongs to someone else")
	// ErrFull: the store has no room (a disk under filebucket, a quota).
	ErrFull = errors.New("no space left")
)

type noBucketError struct{}

func (noBucketError) Error() string        { return "no such bucket" }
func (noBucketError) Is(target error) bool { return target == ErrNotFound }

// Object describes a stored object.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time
}

// Objects is one bucket (or a prefix of one) as its user sees it. All methods
// are safe for concurrent use, also by several processes. Keys are slash
// separated, relative, without "." or ".." elements; a driver refuses others.
//
// Any other error than the classes above means "unknown": the call may or may
// not have happened, and may be repeated. Every write is idempotent when
// repeated with the same bytes (PutIfAbsent answers ErrExists then).
type Objects interface {
	// PutIfAbsent creates the object only if the key is not taken, atomically
	// against every other caller: exactly one of many concurrent calls
	// succeeds. When it returns nil, the object is durable and visible whole to
	// every later Get and List; a failed or interrupted call leaves either
	// nothing or the whole object.
	PutIfAbsent(ctx context.Context, key string, data []byte) error
	// Put creates or replaces the object whole, with PutIfAbsent's durability.
	// size is the number of bytes r will give.
	Put(ctx context.Context, key string, r io.Reader, size int64) error
	// Get returns length bytes from offset; length < 0 means up to the end. A
	// range that reaches past the end gives what there is. The caller closes.
	Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// List returns up to limit objects whose key has the prefix and sorts
	// strictly after startAfter (bytewise), in order; limit <= 0 means a page of
	// the driver's size. more says whether another page follows. It is strongly
	// consistent: it shows every write that returned before it began.
	List(ctx context.Context, prefix, startAfter string, limit int) (page []Object, more bool, err error)
	// Delete removes the object; a missing object is success.
	Delete(ctx context.Context, key string) error
}

// Access is what an agent needs to open a bucket: its URL, and credentials
// scoped to one job.
type Access struct {
	URL     string            `json:"url"`
	Env     map[string]string `json:"env,omitempty"` // the driver's own credential names
	Expires time.Time         `json:"expires,omitzero"`
}

// Admin creates and disposes of jobs' buckets.
type Admin interface {
	// Create makes the bucket and marks it with the stack. Repeating it is
	// success. A bucket of that name that is not this stack's is ErrNotOwned.
	Create(ctx context.Context, name string) error
	// Exists says whether the bucket is there and ours (ErrNotOwned if not).
	Exists(ctx context.Context, name string) (bool, error)
	// Dispose removes every object and then the bucket; it may be interrupted
	// and repeated. A missing bucket is success; one that is not ours is
	// ErrNotOwned. One call does a bounded amount of work; done says whether
	// anything is left.
	Dispose(ctx context.Context, name string) (done bool, err error)
	// Access hands out credentials for exactly this bucket that expire within
	// an hour.
	Access(ctx context.Context, name string) (Access, error)
	// Open gives the control plane's own view of the bucket.
	Open(ctx context.Context, name string) (Objects, error)
	// List names this stack's buckets, for doctor.
	List(ctx context.Context) ([]string, error)
}
