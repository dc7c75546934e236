package membucket

import "context"

// Op names a call.
type Op string

const (
	OpPutIfAbsent Op = "put-if-absent"
	OpPut         Op = "put"
	OpGet         Op = "get"
	OpList        Op = "list"
	OpDelete      Op = "delete"

	OpCreate      Op = "create-bucket"
	OpExists      Op = "exists-bucket"
	OpDispose     Op = "dispose-bucket"
	OpAccess      Op = "access-bucket"
	OpListBuckets Op = "list-buckets"
)

// When says on which side of a call the hook stands.
type When int

const (
	// Before: an error keeps the call from happening.
	Before When = iota
	// After: the call was carried out; an error takes its answer away.
	After
)

// Call is one look at one call.
type Call struct {
	Op     Op
	Bucket string // "" for a lone bucket and OpListBuckets
	Key    string // the prefix for OpList, "" for calls on buckets
	When   When
	Err    error // After: what the call answered
}

// Hook is asked before and after every call, without any lock held: it may
// wait, call the bucket itself, or return the error that the caller gets.
type Hook func(ctx context.Context, c Call) error

func (h Hook) around(ctx context.Context, c Call, f func() error) error {
	if h == nil {
		return f()
	}
	if err := h(ctx, c); err != nil {
		return err
	}
	err := f()
	c.When, c.Err = After, err
	if lost := h(ctx, c); lost != nil {
		return lost
	}
	return err
}
