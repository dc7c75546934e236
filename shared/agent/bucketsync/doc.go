// Package bucketsync copies a user's input bucket to the VM, and mirrors the
// job's output directory to a user's bucket, as plain objects.
//
//	input.go   Fetch: everything, before the container starts
//	mirror.go  Mirror: what changed, every interval and at the end
package bucketsync

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"anycloud/shared/bucket"
)

// Parallel transfers at once.
const Parallel = 8

// tryFor bounds the tries of one object.
const tryFor = 2 * time.Minute

// retry repeats a call until it succeeds, ctx ends, or the answer would be the
// same at once again.
func retry(ctx context.Context, call func() error) error {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 200 * time.Millisecond
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := call()
		if final(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(b), backoff.WithMaxElapsedTime(tryFor))
	var permanent *backoff.PermanentError
	if errors.As(err, &permanent) {
		return permanent.Unwrap()
	}
	return err
}

func final(err error) bool {
	var local *localError
	return errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrFull) || errors.Is(err, bucket.ErrDenied) ||
		errors.Is(err, bucket.ErrBadKey) || errors.Is(err, errChanged) || errors.As(err, &local)
}

// localError is one of this machine's disk.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }
