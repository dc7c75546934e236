package job

import (
	"fmt"
	"math"
	"time"
)

// LimitNear is the share of a limit from which on users are warned.
const LimitNear = 0.8

// Limit is one of the user's limits, and how much of it this run has used.
type Limit struct {
	Reason  Reason
	Used    float64 // share: 1 is all of it
	Message string  // both in words
}

// Limits lists those that the user set. They count from the run's start: a
// resubmit begins anew.
func (j *Job) Limits(now time.Time) []Limit {
	var ls []Limit
	s := &j.Spec
	if s.MaxRuntime > 0 {
		up := j.runtime(now)
		ls = append(ls, Limit{ReasonMaxRuntime, up.Seconds() / s.MaxRuntime.D().Seconds(),
			fmt.Sprintf("its container ran for %s, and max_runtime is %s", up.Round(time.Second), s.MaxRuntime)})
	}
	if s.MaxPreemptions != nil {
		ls = append(ls, Limit{ReasonMaxPreemptions, share(float64(j.RunPreemptions), float64(*s.MaxPreemptions)),
			fmt.Sprintf("preempted %d times, and max_preemptions is %d", j.RunPreemptions, *s.MaxPreemptions)})
	}
	if !s.Deadline.IsZero() {
		ls = append(ls, Limit{ReasonDeadline, share(now.Sub(j.RunAt).Seconds(), s.Deadline.Sub(j.RunAt).Seconds()),
			fmt.Sprintf("its deadline is %s", s.Deadline.Format(time.RFC3339))})
	}
	if s.MaxCost > 0 {
		_, cost, _ := j.Spent(now, j.RunFrom)
		ls = append(ls, Limit{ReasonMaxCost, cost / s.MaxCost, fmt.Sprintf("it has cost %.2f USD, and max_cost is %.2f USD", cost, s.MaxCost)})
	}
	return ls
}

func share(used, of float64) float64 {
	if of <= 0 {
		if used > 0 {
			return math.Inf(1)
		}
		return 0
	}
	return used / of
}

// LimitDue is the limit that ends the job now; nil: none. The one on
// preemptions ends it with the loss itself.
func (j *Job) LimitDue(now time.Time) *Limit {
	if j.State.Terminal() || j.State == Stopping {
		return nil
	}
	for _, l := range j.Limits(now) {
		if l.Used >= 1 && l.Reason != ReasonMaxPreemptions {
			return &l
		}
	}
	return nil
}

func (j *Job) overPreemptions() bool {
	return j.Spec.MaxPreemptions != nil && j.RunPreemptions > *j.Spec.MaxPreemptions
}

// runtime is how long containers of this run ran.
func (j *Job) runtime(now time.Time) time.Duration {
	var up time.Duration
	for i := range j.Attempts {
		if a := &j.Attempts[i]; a.Number >= j.RunFrom && !a.ContainerStartedAt.IsZero() {
			up += span(a.ContainerStartedAt, a.ContainerStoppedAt, now)
		}
	}
	return up
}

// Spent adds up the VMs of the attempts from a number on: seconds from start to
// end as the cloud counts them, what they cost at their price, and what they
// would have cost on-demand, in USD. VMs that were in no attempt count in the
// seconds.
func (j *Job) Spent(now time.Time, from int) (seconds, cost, onDemand float64) {
	for i := range j.Attempts {
		a := &j.Attempts[i]
		if a.Number < from {
			continue
		}
		up := span(a.StartedAt, a.EndedAt, now).Seconds()
		seconds += up
		cost += up / 3600 * a.Placement.Price
		onDemand += up / 3600 * a.Placement.List
	}
	for _, o := range j.Others {
		seconds += span(o.StartedAt, o.EndedAt, now).Seconds()
	}
	return seconds, cost, onDemand
}

// span is the time from one moment to another, or to now if that is not known.
func span(from, to, now time.Time) time.Duration {
	if to.IsZero() {
		to = now
	}
	return max(0, to.Sub(from))
}

// limitReached ends the job as cancel does: with time for a final commit.
func (t *step) limitReached(r Reason, message string) {
	j := t.j
	if j.State.Terminal() || j.State == Stopping {
		return // it ends already
	}
	t.doomWriter(EndLimit, t.now.Add(j.Spec.GraceTime()+FinishSlack), "a limit of the user's was reached")
	t.endKeeping(Failed, r, message)
}
