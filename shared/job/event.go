package job

import (
	"fmt"
	"time"
)

// Event is something that happened or is wanted. Every event may be given
// twice, late, or out of order: Next answers with a documented transition, a
// no-op, or a *Refused.
type Event interface{ Kind() string }

// Facts about one VM, as its cloud tells them.
type VMFacts struct {
	ID        string
	Cloud     string
	Attempt   int // tags
	Launch    int
	Placement Placement
	StartedAt time.Time
	EndedAt   time.Time
}

type (
	// BucketReady: the job's bucket exists and is ours.
	BucketReady struct{}
	// LaunchIntended: recover will launch the next attempt, until Deadline.
	LaunchIntended struct {
		Candidates []Placement
		Deadline   time.Time
	}
	// LaunchReplayed: the unanswered launch is about to be tried again.
	LaunchReplayed struct {
		Attempt, Number int
		Deadline        time.Time
	}
	// Launched: the launch was answered by a VM.
	Launched struct{ VM VMFacts }
	// LaunchRefused: the cloud said clearly that no VM came of it.
	LaunchRefused struct {
		Attempt, Number int
		For             Waiting // capacity, quota, or backoff (throttled)
		Message         string
		RetryAt         time.Time
		Fatal           bool // another try can never succeed
	}
	// LaunchUnanswered: replays were not answered either; the launch is given
	// up and stays doomed until found.
	LaunchUnanswered struct{ Attempt, Number int }
	// Postponed: recover found nothing to launch now.
	Postponed struct {
		For     Waiting
		Message string
		Until   time.Time
	}
	// Unlaunchable: no launch can ever be made for this job.
	Unlaunchable struct{ Message string }

	// Claimed: an agent proved that it runs on VM, and fixed its secret.
	Claimed struct {
		VM         VMFacts
		SecretHash string
	}
	// Reported: an agent was heard, with what it knows.
	Reported struct {
		Attempt    int
		Phases     Phases
		StoppedAt  time.Time
		Checkpoint *Checkpoint
		SaveDone   int64
		SaveDoneAs int
	}
	// Started: the writer's container runs.
	Started struct {
		Attempt    int
		At         time.Time
		Restored   int
		CapturedAt time.Time
	}
	// Sealed: nothing of this attempt follows in the log, its container is stopped.
	Sealed struct{ Attempt int }
	// Exited: the container of Attempt ended by itself. By is the writer that
	// says so: the attempt itself, or a successor that found the exit commit.
	Exited struct {
		By, Attempt int
		Code        int
		OOM         bool
		StoppedAt   time.Time
	}
	// AgentFailed: the writer's agent cannot start or go on with the job.
	AgentFailed struct {
		Attempt   int
		Reason    Reason
		Message   string
		Permanent bool
	}

	// Interrupted: a notice that the VM is taken at Deadline, or is going.
	Interrupted struct {
		VMID     string
		Kind_    string // interruption, going, impaired
		Deadline time.Time
		At       time.Time
		Drill    bool
	}
	// RebalanceAdvised: elevated risk; nothing is doomed.
	RebalanceAdvised struct {
		VMID string
		At   time.Time
	}
	// VMGone: the cloud said that the VM is terminated.
	VMGone struct {
		VM VMFacts // facts of a VM that the record does not know are recorded
	}
	// VMSeen: a listing, made before the row was read, shows the VM alive.
	VMSeen struct{ VM VMFacts }
	// VMMissed: sweep Sweep's listing, begun after the row was read, did not
	// show the VM.
	VMMissed struct {
		VMID  string
		Sweep int64
	}
	// LaunchMissed: likewise for an unanswered launch, by its tags.
	LaunchMissed struct {
		Attempt, Number int
		Sweep           int64
	}
	// Silence: sweep Sweep, whose probe of the agents' endpoint succeeded, had
	// not heard of the attempt for a whole interval.
	Silence struct {
		Attempt int
		Sweep   int64
		Every   time.Duration
	}

	// CancelRequested: the user wants the job to end. On an ended job: release
	// its kept VMs.
	CancelRequested struct{ Now bool }
	// Resubmitted: the user wants the ended job to go on from its bucket.
	Resubmitted struct {
		Spec   Spec
		Fresh  bool
		Bucket *Bucket // used if the job has none and its new spec wants one
	}
	// LimitReached: one of the user's limits ends the job.
	LimitReached struct {
		Reason  Reason
		Message string
	}
	// SaveRequested: the user wants a commit.
	SaveRequested struct{}

	// DisposalIntended: the bucket will be disposed of, irrevocably.
	DisposalIntended struct{}
	// BucketGone: nothing of the bucket is left.
	BucketGone struct{}
	// Finished: cleanup found nothing left to do before the job may end.
	Finished struct{}
	// OutboxSent: messages of revisions up to this one were published.
	OutboxSent struct{ Revision int64 }
)

func (BucketReady) Kind() string      { return "BucketReady" }
func (LaunchIntended) Kind() string   { return "LaunchIntended" }
func (LaunchReplayed) Kind() string   { return "LaunchReplayed" }
func (Launched) Kind() string         { return "Launched" }
func (LaunchRefused) Kind() string    { return "LaunchRefused" }
func (LaunchUnanswered) Kind() string { return "LaunchUnanswered" }
func (Postponed) Kind() string        { return "Postponed" }
func (Unlaunchable) Kind() string     { return "Unlaunchable" }
func (Claimed) Kind() string          { return "Claimed" }
func (Reported) Kind() string         { return "Reported" }
func (Started) Kind() string          { return "Started" }
func (Sealed) Kind() string           { return "Sealed" }
func (Exited) Kind() string           { return "Exited" }
func (AgentFailed) Kind() string      { return "AgentFailed" }
func (Interrupted) Kind() string      { return "Interrupted" }
func (RebalanceAdvised) Kind() string { return "RebalanceAdvised" }
func (VMGone) Kind() string           { return "VMGone" }
func (VMSeen) Kind() string           { return "VMSeen" }
func (VMMissed) Kind() string         { return "VMMissed" }
func (LaunchMissed) Kind() string     { return "LaunchMissed" }
func (Silence) Kind() string          { return "Silence" }
func (CancelRequested) Kind() string  { return "CancelRequested" }
func (Resubmitted) Kind() string      { return "Resubmitted" }
func (LimitReached) Kind() string     { return "LimitReached" }
func (SaveRequested) Kind() string    { return "SaveRequested" }
func (DisposalIntended) Kind() string { return "DisposalIntended" }
func (BucketGone) Kind() string       { return "BucketGone" }
func (Finished) Kind() string         { return "Finished" }
func (OutboxSent) Kind() string       { return "OutboxSent" }

// Effect is what is published once the row is written: the type of an event on
// the bus.
type Effect struct{ Type string }

// Effect types; the words of package bus, which this package cannot import.
const (
	sendSubmitted = "job.submitted"
	sendStarted   = "job.started"
	sendPreempted = "job.preempted"
	sendRecovered = "job.recovered"
	sendRetry     = "job.retry"
	sendExited    = "job.exited"
	sendCancelled = "job.cancelled"
	sendSucceeded = "job.succeeded"
	sendFailed    = "job.failed"
	sendWaiting   = "job.waiting"
)

// Refused says that an event is not possible in this state. The record is
// unchanged.
type Refused struct {
	State State
	Event string
	Code  string // superseded, ended, busy, disposing, nothing_kept, too_early
	Why   string
}

func (r *Refused) Error() string { return fmt.Sprintf("%s in state %s: %s", r.Event, r.State, r.Why) }

// Codes of Refused.
const (
	RefusedSuperseded = "superseded" // a newer attempt, another VM, or an older run
	RefusedEnded      = "ended"
	RefusedBusy       = "busy" // not in this state
	RefusedDisposing  = "disposing"
	RefusedEarly      = "too_early"
)

// Waiting times that are contracts.
const (
	// UnclaimedAfter: a VM whose agent did not claim within this is destroyed;
	// the agent's dead-man switch uses the same figure.
	UnclaimedAfter = 15 * time.Minute
	// SettleAfter: an unanswered launch, or a VM never seen, counts as absent
	// after listings stayed empty for this long past its deadline.
	SettleAfter = 10 * time.Minute
	// FinishSlack is added to the grace of a cancelled or limited job, for its
	// final commit.
	FinishSlack = 10 * time.Minute
	// SilentSweepsShown: after this many silent sweeps status shows it.
	SilentSweepsShown = 3
	// MaxAgentFailures in a row, without a container start, fail the job.
	MaxAgentFailures = 5
	// HearEvery: reports that say nothing new are written at most this often.
	HearEvery = 10 * time.Second
	// MaxReplays of a launch that is not answered before it is given up.
	MaxReplays = 2
)
