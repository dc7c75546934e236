package sim

import (
	"context"
	"time"
)

// functionTimeout is how long an invocation may live. A function service ends
// it then, wherever it is; so no call of it happens after the deadline that it
// wrote into an intent.
const functionTimeout = 50 * time.Second

// call is what happens around each outside call of a function: it lets others
// go on, and injects. after is the side of the call, err what it answered.
func (w *world) call(site string, after bool, err error) error {
	t := w.s.current
	if t == nil {
		return nil // the checker looks
	}
	side := "before "
	if after {
		side = "after "
	}
	if w.faulty {
		if t.crashable && w.s.chance(w.p.crash) {
			w.count("crash " + side + site)
			panic(crash{})
		}
		if !after && w.s.chance(w.p.refuse) {
			w.count(faultRefused)
			return errUnanswered
		}
		if after && err == nil && w.s.chance(w.p.unanswered) {
			w.count(faultUnanswered)
			if site == "cloud.launch" {
				w.count(faultLaunchLost)
			}
			w.s.pause(w.latency())
			return errUnanswered
		}
	}
	w.s.pause(w.latency())
	return nil
}

// latency of a call; now and then a caller stalls while the world goes on.
func (w *world) latency() time.Duration {
	if w.faulty && w.s.chance(w.p.stall) {
		w.count(faultStall)
		return w.s.between(time.Second, 2*functionTimeout)
	}
	return w.s.between(time.Millisecond, 30*time.Millisecond)
}

// invoke runs f as a function's invocation and tells what became of it: nil,
// its error, or errUnanswered if it crashed or timed out.
func (w *world) invoke(name string, after time.Duration, f func(context.Context) error, settle func(error)) {
	t := &task{crashable: true}
	if w.faulty && w.p.skew > 0 {
		t.skew = w.s.between(-w.p.skew, w.p.skew)
		w.count(faultSkew)
	}
	var err error
	settled := false
	t.after = func(crashed bool) {
		if crashed {
			err = errUnanswered
		}
		if !settled && settle != nil {
			settled = true
			settle(err)
		}
	}
	w.s.spawn(name, after, t, func() { err = f(context.Background()) })
	w.s.at(after+functionTimeout, func() {
		if !t.done {
			w.count(faultTimeout)
			w.s.kill(t)
		}
	})
}

// now is the clock of whoever asks: functions' clocks differ a little.
func (w *world) now() time.Time {
	if t := w.s.current; t != nil {
		return w.s.now.Add(t.skew)
	}
	return w.s.now
}
