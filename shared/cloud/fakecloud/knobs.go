package fakecloud

import (
	"time"

	"anycloud/shared/cloud"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

// Knobs are the faults, to be turned at any time with Set. The functions are
// called with the cloud's lock held and must not call it.
type Knobs struct {
	// Full says which pools have no room; nil: all have.
	Full func(job.Placement) bool
	// Quota is the most VMs that may live at once in the account; 0: no limit.
	Quota int
	// ThrottleEvery refuses every n-th call of any kind; 0: none.
	ThrottleEvery int
	// OnLaunch decides the fate of a launch that nothing else refuses and that
	// is not a repetition; nil: all go well.
	OnLaunch func(cloud.LaunchRequest) LaunchFault

	// Hidden is how long a VM launched from now on is missing from listings.
	// Real clouds lag by seconds; beyond two sweeps it would be an absence.
	Hidden time.Duration
	// NotFound is how long Describe and Terminate of it answer ErrNotFound.
	NotFound time.Duration
	// Stale is the age of what listings show.
	Stale time.Duration

	// OnNotice hears every warning that the cloud gives, at once and without
	// the lock: it stands for the cloud's events, which the caller may lose,
	// double or delay. May be nil.
	OnNotice func(preempt.Notice)
}

// LaunchFault is what becomes of one launch.
type LaunchFault struct {
	// Refuse is answered and no VM is made: a class of the port, or any error
	// for a call that never arrived.
	Refuse error
	// Unanswered: the VM is made, the caller gets an error of no class.
	Unanswered bool
	// Late: unanswered, and the VM comes into being only after this long (or
	// when the same token is launched again). For a launch that is answered
	// late, wait in the hook.
	Late time.Duration
}

// Set turns knobs.
func (c *Cloud) Set(turn func(*Knobs)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	turn(&c.Knobs)
}
