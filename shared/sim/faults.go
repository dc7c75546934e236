package sim

import (
	"errors"
	"time"
)

// errUnanswered is what a caller sees of a call whose outcome it cannot know.
var errUnanswered = errors.New("simulated: no answer")

// Kinds of faults that are counted, beside the crash sites ("crash before
// store.put"). A run over many schedules must meet every one.
const (
	faultRefused      = "call refused"
	faultUnanswered   = "call done but unanswered"
	faultStall        = "caller stalled"
	faultTimeout      = "function timed out"
	faultConflict     = "conditional write lost"
	faultEventLost    = "event lost"
	faultEventDoubled = "event doubled"
	faultEventDelayed = "event delayed"
	faultTickLost     = "tick lost"
	faultTickDoubled  = "tick doubled"
	faultCapacity     = "no capacity"
	faultQuota        = "quota refused"
	faultThrottled    = "throttled"
	faultLaunchLate   = "launch answered late"
	faultLaunchLost   = "launch never answered"
	faultClaimLost    = "claim answer lost"
	faultReplyLost    = "agent's answer lost"
	faultWarned       = "preempted with a notice"
	faultUnwarned     = "preempted, warning lost"
	faultVanished     = "vm vanished"
	faultImpaired     = "vm impaired"
	faultHang         = "agent hung"
	faultPartition    = "agent cut off"
	faultDeaf         = "control plane deaf"
	faultWriterStall  = "writer stalled before a bucket call"
	faultStaleWriter  = "stale writer fenced"
	faultBucketLost   = "bucket write done but unanswered"
	faultSkew         = "clock skewed"
	faultCancel       = "user cancelled"
	faultCancelNow    = "user cancelled at once"
	faultResubmit     = "user resubmitted"
	faultSaveAsked    = "user asked for a commit"
	faultAppFailure   = "container failed"
	faultExitInWindow = "exit inside the notice window"
	faultNeverClaims  = "agent never claims"
	faultRebalance    = "rebalance advised"
	faultBootFails    = "vm lost before it claimed"
	faultStandbyLost  = "standby preempted"
	faultLimit        = "user's limit reached"
	faultFallback     = "on-demand for want of spot capacity"
)

// allFaults must each be met by a long run.
var allFaults = []string{
	faultRefused, faultUnanswered, faultStall, faultTimeout, faultConflict, faultEventLost, faultEventDoubled, faultEventDelayed,
	faultTickLost, faultTickDoubled, faultCapacity, faultQuota, faultThrottled, faultLaunchLate, faultLaunchLost, faultClaimLost,
	faultReplyLost, faultWarned, faultUnwarned, faultVanished, faultImpaired, faultHang, faultPartition, faultDeaf, faultWriterStall,
	faultStaleWriter, faultBucketLost, faultSkew, faultCancel, faultCancelNow, faultResubmit, faultSaveAsked, faultAppFailure,
	faultExitInWindow, faultNeverClaims, faultRebalance, faultBootFails, faultStandbyLost,
	faultLimit, faultFallback,
}

// crashSites must each be met too, before and after the call.
var crashSites = []string{
	"store.create", "store.get", "store.put", "store.active", "store.job-by-vm", "store.get-doc", "store.put-doc",
	"cloud.offers", "cloud.launch", "cloud.list", "cloud.describe", "cloud.terminate", "cloud.verify",
	"bucket.create-bucket", "bucket.dispose-bucket", "bus.publish",
}

// profile says how hard a schedule is. Each seed draws its own, so that some
// schedules are calm enough to get far and others are storms.
type profile struct {
	crash, refuse, unanswered, stall  float64 // per outside call of a function
	agentStall, bucketLost            float64 // per bucket call of an agent
	replyLost                         float64 // per call of an agent to the control plane
	eventLost, eventDouble, eventLate float64
	tickLost, tickDouble              float64
	skew                              time.Duration
	chaosEvery                        time.Duration // between two acts of chaos
	lossShare                         float64       // of them that cost a VM
	users                             float64       // of them that are users
}

func (s *scheduler) drawProfile() profile {
	pick := func(vs ...float64) float64 { return vs[s.rng.IntN(len(vs))] }
	return profile{
		crash: pick(0, 0.005, 0.02, 0.06), refuse: pick(0, 0.005, 0.02), unanswered: pick(0, 0.005, 0.03),
		stall: pick(0, 0.01, 0.03), agentStall: pick(0, 0.02, 0.1), bucketLost: pick(0, 0.02, 0.1),
		replyLost: pick(0, 0.02, 0.15), eventLost: pick(0, 0.1, 0.5, 1), eventDouble: pick(0, 0.1, 0.3), eventLate: pick(0, 0.1, 0.3),
		tickLost: pick(0, 0.1), tickDouble: pick(0, 0.1), skew: time.Duration(pick(0, 0.5, 2) * float64(time.Second)),
		chaosEvery: time.Duration(pick(12, 25, 45) * float64(time.Second)), lossShare: pick(0.4, 0.7), users: pick(0, 0.1, 0.3),
	}
}

// count notes that a fault was injected.
func (w *world) count(fault string) { w.hits[fault]++ }
