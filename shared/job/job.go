package job

import "time"

// Format is the version of the stored record. A reader refuses a newer one.
const Format = 1

// Job is one row of the table.
type Job struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"`
	Stack     string    `json:"stack"`
	Spec      Spec      `json:"spec"`
	State     State     `json:"state"`
	Revision  int64     `json:"revision"` // grows by one with every write
	Changed   int64     `json:"changed"`  // revision of the last change a person would care about; see Guard
	Run       int       `json:"run"`      // 1, and one more per resubmit
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	RunAt     time.Time `json:"run_at"` // start of this run: limits count from here
	EndedAt   time.Time `json:"ended_at,omitzero"`

	Attempt   int       `json:"attempt"`              // newest attempt whose launch was answered, claimed or given up
	Writer    int       `json:"writer"`               // the one attempt that may commit; 0: none yet
	FreshFrom int       `json:"fresh_from,omitempty"` // commits of lower attempts are never restored
	RunFrom   int       `json:"run_from"`             // first attempt number of this run
	Attempts  []Attempt `json:"attempts,omitempty"`   // those that had a VM, by number
	Launch    *Launch   `json:"launch,omitempty"`     // the launch intended in Provisioning
	Launches  int       `json:"launches"`             // launch numbers used, over all attempts
	Doomed    []Doomed  `json:"doomed,omitempty"`
	Kept      []Kept    `json:"kept,omitempty"`

	Outcome    *Outcome  `json:"outcome,omitempty"` // recorded when Stopping begins
	WakeAt     time.Time `json:"wake_at,omitzero"`
	WaitingFor Waiting   `json:"waiting_for,omitempty"`
	WaitReason string    `json:"wait_reason,omitempty"` // the last refusal, in words
	CancelNow  bool      `json:"cancel_now,omitempty"`  // the user wants no final commit
	KeepUntil  time.Time `json:"keep_until,omitzero"`
	Bucket     *Bucket   `json:"bucket,omitempty"`

	Preemptions     int `json:"preemptions"`
	Failures        int `json:"failures"`
	RefusedLaunches int `json:"refused_launches"`
	AgentFailures   int `json:"agent_failures,omitempty"`  // in a row, without a container start
	RunPreemptions  int `json:"run_preemptions,omitempty"` // of this run: limits look at these
	RunFailures     int `json:"run_failures,omitempty"`
	RefusedInRow    int `json:"refused_in_row,omitempty"` // drives the backoff of launches

	NoSpotSince time.Time `json:"no_spot_since,omitzero"` // first of the refusals for want of spot capacity since the last launch

	Checkpoint  *Checkpoint `json:"checkpoint,omitempty"`
	SaveRequest int64       `json:"save_request,omitempty"` // number of the newest `checkpoint now`
	SaveDone    int64       `json:"save_done,omitempty"`    // newest request answered by a durable commit
	SaveDoneAs  int         `json:"save_done_as,omitempty"` // that commit

	LossNoticed  time.Time `json:"loss_noticed,omitzero"` // of the loss that the next attempt makes good
	LossRecorded time.Time `json:"loss_recorded,omitzero"`
	Others       []OtherVM `json:"others,omitempty"` // VMs found that are in no attempt

	Outbox []Message `json:"outbox,omitempty"` // effects written with the row, not known to be sent
}

// Attempt is one VM working for the job.
type Attempt struct {
	Number     int       `json:"number"`
	VMID       string    `json:"vm_id"`
	Launch     int       `json:"launch"`
	Placement  Placement `json:"placement"`
	StartedAt  time.Time `json:"started_at"`        // the cloud's own start of the VM
	EndedAt    time.Time `json:"ended_at,omitzero"` // the cloud's own end
	EndReason  EndReason `json:"end_reason,omitempty"`
	SecretHash string    `json:"secret_hash,omitempty"`

	Doomed  bool `json:"doomed,omitempty"`
	Kept    bool `json:"kept,omitempty"`
	Gone    bool `json:"gone,omitempty"`    // the cloud said so
	Sealed  bool `json:"sealed,omitempty"`  // it will commit nothing more
	Exited  bool `json:"exited,omitempty"`  // its container's own exit is recorded
	Settled bool `json:"settled,omitempty"` // its end was counted (preemption or failure)

	ExitCode           *int        `json:"exit_code,omitempty"`
	ContainerStartedAt time.Time   `json:"container_started_at,omitzero"`
	ContainerStoppedAt time.Time   `json:"container_stopped_at,omitzero"`
	Restored           int         `json:"restored,omitempty"` // commit number; 0: started from nothing
	RestoredCaptured   time.Time   `json:"restored_captured,omitzero"`
	LostSeconds        float64     `json:"lost_seconds"`
	Phases             Phases      `json:"phases"`
	Notice             *NoticeInfo `json:"notice,omitempty"`
	Rebalance          time.Time   `json:"rebalance,omitzero"` // the cloud recommended to move

	LastHeard    time.Time `json:"last_heard,omitzero"`
	SilentSweeps int       `json:"silent_sweeps,omitempty"`
	SilentSweep  int64     `json:"silent_sweep,omitempty"` // number of the last sweep counted
	SilentSince  time.Time `json:"silent_since,omitzero"`
	Watch
}

// Watch is what the sweeps know of one VM or launch.
type Watch struct {
	Seen        bool      `json:"seen,omitempty"` // shown by a listing, described, or claimed
	AbsentSweep int64     `json:"absent_sweep,omitempty"`
	AbsentCount int       `json:"absent_count,omitempty"` // sweeps in a row that missed it
	AbsentSince time.Time `json:"absent_since,omitzero"`
}

// NoticeInfo is the notice that doomed an attempt, or came to it.
type NoticeInfo struct {
	Kind     string    `json:"kind"`
	Deadline time.Time `json:"deadline,omitzero"`
	At       time.Time `json:"at"`
	Drill    bool      `json:"drill,omitempty"`
}

// Phases of an attempt, as times; zero: not reached.
type Phases struct {
	Noticed      time.Time `json:"noticed,omitzero"`       // the cloud's warning that made this attempt needed
	Recorded     time.Time `json:"recorded,omitzero"`      // that notice in the table
	LaunchCalled time.Time `json:"launch_called,omitzero"` // the launch call
	VMCreated    time.Time `json:"vm_created,omitzero"`
	Claimed      time.Time `json:"claimed,omitzero"`
	ImageReady   time.Time `json:"image_ready,omitzero"`
	Prefetched   time.Time `json:"prefetched,omitzero"` // restored while the predecessor still worked
	Writer       time.Time `json:"writer,omitzero"`
	Restored     time.Time `json:"restored,omitzero"`
	Started      time.Time `json:"started,omitzero"` // its container
	Sealed       time.Time `json:"sealed,omitzero"`
	Gone         time.Time `json:"gone,omitzero"`
}

// Launch is an intended launch, written before the call.
type Launch struct {
	Attempt    int         `json:"attempt"`
	Number     int         `json:"number"`
	Token      string      `json:"token"`
	Candidates []Placement `json:"candidates"`
	Deadline   time.Time   `json:"deadline"` // of the caller; nobody replays before
	Intended   time.Time   `json:"intended"` // first intent
	Replays    int         `json:"replays,omitempty"`
	From       State       `json:"from"` // the state to fall back to when refused
}

// Doomed is a VM, or an unanswered launch, that is to be terminated.
type Doomed struct {
	VMID           string    `json:"vm_id,omitempty"` // empty: an unanswered launch, found by its tags
	Attempt        int       `json:"attempt"`
	Launch         int       `json:"launch"`
	Cloud          string    `json:"cloud"`
	TerminateAfter time.Time `json:"terminate_after"`
	Deadline       time.Time `json:"deadline,omitzero"` // of an unanswered launch's last call
	StartedAt      time.Time `json:"started_at,omitzero"`
	Evidence       string    `json:"evidence"` // why this VM may be destroyed
	Watch
}

// Kept is a VM that the user asked to keep after the job's end.
type Kept struct {
	VMID    string    `json:"vm_id"`
	Attempt int       `json:"attempt"`
	Cloud   string    `json:"cloud"`
	Since   time.Time `json:"since"`
	Watch
}

// Outcome is how a job ends, recorded when Stopping begins.
type Outcome struct {
	State    State     `json:"state"` // Succeeded, Failed or Cancelled
	Reason   Reason    `json:"reason,omitempty"`
	Message  string    `json:"message,omitempty"`
	ExitCode *int      `json:"exit_code,omitempty"`
	At       time.Time `json:"at"`
	Revision int64     `json:"revision"` // of the write that recorded it
}

// Bucket is the job's checkpoint bucket.
type Bucket struct {
	Name   string      `json:"name"`
	Cloud  string      `json:"cloud"`
	Region string      `json:"region"`
	State  BucketState `json:"state"`
}

// BucketState is the life of a job's bucket.
type BucketState string

const (
	BucketIntended  BucketState = "intended"  // to be created before the first VM
	BucketCreated   BucketState = "created"   // exists, ours
	BucketDisposing BucketState = "disposing" // irrevocable; resubmit is refused from here on
	BucketDisposed  BucketState = "disposed"
)

// Checkpoint is what the record knows of the job's commits.
type Checkpoint struct {
	Latest      int       `json:"latest"` // newest acknowledged commit, its number in the log
	Attempt     int       `json:"attempt"`
	Clean       bool      `json:"clean"`
	CommittedAt time.Time `json:"committed_at,omitzero"`
	Files       int64     `json:"files"`
	Bytes       int64     `json:"bytes"`
	PauseP50    float64   `json:"pause_p50"` // seconds
	PauseP99    float64   `json:"pause_p99"`
	PauseMax    float64   `json:"pause_max"`
	Health      string    `json:"health"` // ok, late, failing, none
	Problem     string    `json:"problem,omitempty"`
}

// Message is an effect waiting in the outbox.
type Message struct {
	Type     string    `json:"type"`
	Revision int64     `json:"revision"` // of the write that caused it
	At       time.Time `json:"at"`
}

// OtherVM is a VM of the job that never was an attempt's (an orphan found
// late). It counts in the job's VM-seconds.
type OtherVM struct {
	VMID      string    `json:"vm_id"`
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
}
