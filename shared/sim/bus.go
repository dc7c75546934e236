package sim

import (
	"context"
	"time"

	"anycloud/shared/bus"
)

// simBus delivers to recover and cleanup as the queues do: at least once in
// the contract, but here also never, twice, late and out of order, because no
// job may depend on an event.
type simBus struct{ w *world }

var _ bus.Publisher = simBus{}

// Publish implements bus.Publisher.
func (b simBus) Publish(_ context.Context, events ...bus.Event) error {
	w := b.w
	if err := w.call("bus.publish", false, nil); err != nil {
		return err
	}
	for _, e := range events {
		w.published(e)
		for range w.copies() {
			w.deliver(e, w.eventDelay(), 0)
		}
	}
	return w.call("bus.publish", true, nil)
}

// copies decides how often an event arrives.
func (w *world) copies() int {
	if !w.faulty {
		return 1
	}
	switch {
	case w.s.chance(w.p.eventLost):
		w.count(faultEventLost)
		return 0
	case w.s.chance(w.p.eventDouble):
		w.count(faultEventDoubled)
		return 2
	}
	return 1
}

func (w *world) eventDelay() time.Duration {
	if w.faulty && w.s.chance(w.p.eventLate) {
		w.count(faultEventDelayed)
		return w.s.between(time.Second, 5*time.Minute)
	}
	return w.s.between(5*time.Millisecond, 200*time.Millisecond)
}

// redeliveries of a failed invocation before the dead-letter queue.
const redeliveries = 3

// deliver invokes the function that subscribes to the event.
func (w *world) deliver(e bus.Event, after time.Duration, tries int) {
	var f func(context.Context, string) error
	switch e.Type {
	case bus.JobSubmitted, bus.JobPreempted, bus.JobRetry:
		f = w.cp.Recover
	case bus.JobExited, bus.JobCancelled:
		f = w.cp.Cleanup
	default:
		return
	}
	w.invoke(e.Type, after, func(ctx context.Context) error { return f(ctx, e.JobID) }, func(err error) {
		if err != nil && tries < redeliveries {
			w.deliver(e, w.s.between(time.Minute, 2*time.Minute), tries+1)
		}
	})
}
