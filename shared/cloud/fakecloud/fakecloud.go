// Package fakecloud is the cloud port in memory: a working cloud with faults on
// demand, for tests and for the simulation. It keeps no goroutine and no real
// time: what a VM is follows from the clock that it is given, so equal calls at
// equal times give equal answers, and a listing can be as old as one likes.
//
//	hook.go        Hook: crashes and lost answers around each call
//	knobs.go       the faults
//	vm.go          one VM as a function of time; the ground truth
//	launch.go      offers and launches
//	events.go      what clouds do to VMs: interruption, loss, impairment
//	fakecloud.go   the other calls
package fakecloud

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"anycloud/shared/cloud"
)

// Defaults where Options says nothing.
const (
	// DefaultBootDelay is what EC2 takes to say running, about.
	DefaultBootDelay = 15 * time.Second
	// DefaultTerminationDelay is short for EC2, where half a minute is common.
	DefaultTerminationDelay = 20 * time.Second
	// DefaultShown is how long EC2 lists terminated instances.
	DefaultShown = time.Hour
	// DefaultPageSize is small, so that few VMs already make several pages.
	DefaultPageSize = 50
)

// Options of a cloud. Only Now is required.
type Options struct {
	Now    func() time.Time
	Name   string   // default "fake"
	Stack  string   // whose view it is; default "stack"
	Region string   // default "fake-1"
	Zones  []string // default the region's a, b, c
	Types  []Type   // default DefaultTypes
	Hook   Hook

	BootDelay        time.Duration // pending to running; 0: default, negative: none
	TerminationDelay time.Duration // going to terminated; likewise
	Shown            time.Duration // ended VMs stay listed so long; likewise
	PageSize         int
	Knobs            Knobs
}

// Cloud is one stack's view of the account. It implements cloud.Cloud.
type Cloud struct {
	hook  Hook
	stack string
	*account
}

// account is what all stacks share.
type account struct {
	Options
	mu     sync.Mutex
	vms    []*VM // by creation; ids are their positions
	byID   map[string]*VM
	tokens map[tokenKey]*VM
	live   []*VM // may hold ended ones, dropped when met
	calls  map[Op]int
	total  int
}

type tokenKey struct{ stack, token string }

var _ cloud.Cloud = (*Cloud)(nil)

// New makes an empty account.
func New(o Options) *Cloud {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
		*d = max(*d, 0)
	}
	def(&o.BootDelay, DefaultBootDelay)
	def(&o.TerminationDelay, DefaultTerminationDelay)
	def(&o.Shown, DefaultShown)
	if o.PageSize <= 0 {
		o.PageSize = DefaultPageSize
	}
	if o.Name == "" {
		o.Name = "fake"
	}
	if o.Stack == "" {
		o.Stack = "stack"
	}
	if o.Region == "" {
		o.Region = "fake-1"
	}
	if o.Zones == nil {
		o.Zones = []string{o.Region + "a", o.Region + "b", o.Region + "c"}
	}
	if o.Types == nil {
		o.Types = DefaultTypes
	}
	a := &account{Options: o, byID: map[string]*VM{}, tokens: map[tokenKey]*VM{}, calls: map[Op]int{}}
	return &Cloud{hook: o.Hook, stack: o.Stack, account: a}
}

// As is another stack's view of the same account.
func (c *Cloud) As(stack string) *Cloud { return &Cloud{c.hook, stack, c.account} }

// WithHook is the same view for a caller with a hook of its own (nil: none).
func (c *Cloud) WithHook(h Hook) *Cloud { return &Cloud{h, c.stack, c.account} }

// Name implements cloud.Cloud.
func (c *Cloud) Name() string { return c.Options.Name }

// do runs f, holding the lock, between the hook's two looks.
func (c *Cloud) do(ctx context.Context, op Op, key string, f func(now time.Time) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.hook.around(ctx, Call{Op: op, Key: key}, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.calls[op]++
		c.total++
		if n := c.Knobs.ThrottleEvery; n > 0 && c.total%n == 0 {
			return fmt.Errorf("%s: %w", op, cloud.ErrThrottled)
		}
		return f(c.Now())
	})
}

// Calls is how often the operation reached the cloud.
func (c *Cloud) Calls(op Op) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[op]
}

// List implements cloud.Cloud. The page is the position of the next VM.
func (c *Cloud) List(ctx context.Context, page string) (vms []cloud.VM, next string, err error) {
	err = c.do(ctx, OpList, page, func(now time.Time) error {
		i := 0
		if page != "" {
			if i, err = strconv.Atoi(page); err != nil || i < 0 {
				return fmt.Errorf("list page %q: %w", page, cloud.ErrInvalid)
			}
		}
		at := now.Add(-c.Knobs.Stale)
		for ; i < len(c.vms); i++ {
			v := c.vms[i]
			if v.Stack != c.stack || v.forgotten || !v.existed(at) || now.Before(v.listedFrom) || v.ended(at.Add(-c.Shown)) {
				continue
			}
			if len(vms) == c.PageSize {
				next = strconv.Itoa(i)
				return nil
			}
			vms = append(vms, v.as(at))
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return vms, next, nil
}

// find returns the VM of this stack that exists now.
func (c *Cloud) find(id string, now time.Time) (*VM, error) {
	v := c.byID[id]
	if v == nil || v.Stack != c.stack || v.forgotten || !v.existed(now) || now.Before(v.describedFrom) || v.ended(now.Add(-c.Shown)) {
		return nil, fmt.Errorf("vm %s: %w", id, cloud.ErrNotFound)
	}
	return v, nil
}

// Describe implements cloud.Cloud.
func (c *Cloud) Describe(ctx context.Context, id string) (vm cloud.VM, err error) {
	err = c.do(ctx, OpDescribe, id, func(now time.Time) error {
		v, err := c.find(id, now)
		if err == nil {
			vm = v.as(now)
		}
		return err
	})
	if err != nil {
		return cloud.VM{}, err
	}
	return vm, nil
}

// Terminate implements cloud.Cloud.
func (c *Cloud) Terminate(ctx context.Context, id string) error {
	return c.do(ctx, OpTerminate, id, func(now time.Time) error {
		v, err := c.find(id, now)
		if err != nil {
			return err
		}
		if v.TerminateCalled.IsZero() {
			v.TerminateCalled = now
		}
		v.end(now, now.Add(c.TerminationDelay), ByTerminate)
		return nil
	})
}

// Proof is what the VM's own metadata service gives its agent.
func Proof(vmID string) string { return "fake:" + vmID }

// VerifyProof implements cloud.Cloud.
func (c *Cloud) VerifyProof(ctx context.Context, proof string) (vmID string, err error) {
	err = c.do(ctx, OpVerify, proof, func(now time.Time) error {
		id, ok := strings.CutPrefix(proof, "fake:")
		v := c.byID[id]
		if !ok || v == nil || v.Stack != c.stack || !v.existed(now) {
			return fmt.Errorf("verify proof: %w", cloud.ErrBadProof)
		}
		vmID = id
		return nil
	})
	if err != nil {
		return "", err
	}
	return vmID, nil
}

// Drill implements cloud.Cloud: any notice can be given.
func (c *Cloud) Drill(ctx context.Context, id string, notice time.Duration) error {
	var tell func()
	err := c.do(ctx, OpDrill, id, func(now time.Time) error {
		if notice < 0 {
			return fmt.Errorf("drill: negative notice: %w", cloud.ErrInvalid)
		}
		v, err := c.find(id, now)
		if err != nil {
			return err
		}
		if v.ended(now) {
			return fmt.Errorf("drill: vm %s has ended: %w", id, cloud.ErrNotFound)
		}
		tell = c.interrupt(v, now, notice, notice > 0, true)
		return nil
	})
	if tell != nil {
		tell()
	}
	return err
}

// errUnanswered is what a caller sees of a call whose outcome it cannot know.
var errUnanswered = errors.New("no answer from the cloud")
