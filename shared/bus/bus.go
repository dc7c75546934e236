// Package bus is the port to the event bus between the functions.
//
// Delivery is at least once, unordered, and may be late: events are hints, the
// table is the truth. Drivers are sub-packages; each passes bustest.Run.
package bus

import (
	"context"
	"time"
)

// Event types. They are a public, versioned interface: users hang
// notifications on them.
const (
	JobSubmitted = "job.submitted"
	JobStarted   = "job.started"
	JobPreempted = "job.preempted"
	JobRecovered = "job.recovered"
	JobRetry     = "job.retry"
	JobExited    = "job.exited"
	JobCancelled = "job.cancelled"
	JobSucceeded = "job.succeeded"
	JobFailed    = "job.failed"
	JobWaiting   = "job.waiting"
)

// Event is what travels. The same Event may be published and delivered more
// than once; ID tells copies of one occurrence apart from two occurrences.
type Event struct {
	Version int       `json:"version"` // format of this envelope: 1
	ID      string    `json:"id"`      // deterministic: <job>/<revision>/<type>
	Type    string    `json:"type"`
	JobID   string    `json:"job_id"`
	Attempt int       `json:"attempt,omitempty"`
	State   string    `json:"state,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Time    time.Time `json:"time"`
}

// Publisher sends events. A nil error means the event is durable and will be
// delivered at least once to every subscriber of its type; any error means
// unknown, and the caller may repeat it.
type Publisher interface {
	Publish(ctx context.Context, events ...Event) error
}

// Handler consumes one event. A returned error makes the bus deliver the event
// again after a delay, up to a bounded number of times, then keep it as a dead
// letter.
type Handler func(ctx context.Context, e Event) error
