package agent

import (
	"math"
	"slices"
	"time"

	"anycloud/shared/checkpoint"
)

// margin is what estimates are multiplied by: half as much again. A save that is
// cut off costs all since the commit before; stopping a little early costs a
// little.
const margin = 1.5

// coldSpeed is assumed before any upload was measured, in bytes per second: a
// slow network disk, so that the first notice is met in time.
const coldSpeed = 20e6

// lastSave is what the final commit takes: walk, upload of what changed, append.
func lastSave(e checkpoint.Estimate) time.Duration {
	speed := e.BytesPerSecond
	if speed <= 0 {
		speed = coldSpeed
	}
	upload := time.Duration(math.Min(float64(e.DirtyBytes)/speed, 1e6) * float64(time.Second))
	return upload + e.Walk + e.Append
}

// leastSave is the least that a final commit is given, whatever the estimate.
const leastSave = 500 * time.Millisecond

// stopTime is when to begin the end of the container, given the deadline of its
// VM: as late as is safe, not earlier. Without a deadline it is at once.
func stopTime(deadline time.Time, e checkpoint.Estimate, grace time.Duration) time.Time {
	if deadline.IsZero() {
		return deadline
	}
	need := max(lastSave(e), leastSave) + grace
	return deadline.Add(-time.Duration(float64(need) * margin))
}

// graceLeft is how long the container may take after its SIGTERM: its grace, or
// less, so that a program that ignores the signal still gets its final commit.
func graceLeft(now, deadline time.Time, e checkpoint.Estimate, grace time.Duration) time.Duration {
	if deadline.IsZero() {
		return grace
	}
	rest := time.Duration(float64(max(lastSave(e), leastSave)) * margin)
	return max(0, min(grace, deadline.Sub(now)-rest))
}

// percentiles are p50, p99 and the largest of values.
func percentiles(values []float64) (p50, p99, most float64) {
	if len(values) == 0 {
		return 0, 0, 0
	}
	s := slices.Sorted(slices.Values(values))
	at := func(p float64) float64 { return s[min(len(s)-1, int(p*float64(len(s))))] }
	return at(0.50), at(0.99), s[len(s)-1]
}
