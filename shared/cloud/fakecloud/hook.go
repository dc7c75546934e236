package fakecloud

import "context"

// Op names a call.
type Op string

const (
	OpOffers    Op = "offers"
	OpLaunch    Op = "launch"
	OpList      Op = "list"
	OpDescribe  Op = "describe"
	OpTerminate Op = "terminate"
	OpVerify    Op = "verify"
	OpDrill     Op = "drill"
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
	Key  string // token, page, VM id or proof; "" for offers
	When When
	Err  error // After: what the call answered
}

// Hook is asked before and after every call, without the lock held: it may
// wait, call the cloud itself, or return the error that the caller gets.
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
