package memstore

import "context"

// Op names a call.
type Op string

const (
	OpCreate  Op = "create"
	OpGet     Op = "get"
	OpPut     Op = "put"
	OpActive  Op = "active"
	OpList    Op = "list"
	OpJobByVM Op = "job-by-vm"
	OpGetDoc  Op = "get-doc"
	OpPutDoc  Op = "put-doc"
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
	Op   Op
	Key  string // job id, VM id or document key; "" for pages
	When When
	Err  error // After: what the call answered
}

// Hook is asked before and after every call, without the lock held: it may
// wait, call the store itself (a rival's write), or return the error that the
// caller gets.
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
