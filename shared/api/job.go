package api

import (
	"time"

	"anycloud/shared/job"
)

// Job is a job as users see it. Field names are fixed: people script against
// them.
type Job struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	State     job.State  `json:"state"`
	Reason    job.Reason `json:"reason"`
	Message   string     `json:"message,omitempty"` // the reason in words
	Spot      bool       `json:"spot"`
	Image     string     `json:"image"`
	Command   []string   `json:"command"`
	Revision  int64      `json:"revision"`
	Run       int        `json:"run"`
	CreatedAt time.Time  `json:"created_at"`
	UpdatedAt time.Time  `json:"updated_at"`
	StartedAt *time.Time `json:"started_at"` // first container start
	EndedAt   *time.Time `json:"ended_at"`
	ExitCode  *int       `json:"exit_code"`
	Env       []string   `json:"env,omitempty"` // names only, never values

	Attempt         int     `json:"attempt"`
	Writer          int     `json:"writer"`
	Preemptions     int     `json:"preemptions"`
	Failures        int     `json:"failures"`
	RefusedLaunches int     `json:"refused_launches"`
	LostSeconds     float64 `json:"lost_seconds"`
	DownSeconds     float64 `json:"down_seconds"`
	VMSeconds       float64 `json:"vm_seconds"`
	CostUSD         float64 `json:"cost_usd"`
	OnDemandUSD     float64 `json:"on_demand_usd"`

	Bucket            *string      `json:"bucket"`
	PersistBucket     bool         `json:"persist_bucket"`
	KeepUntil         *time.Time   `json:"keep_until"`
	WakeAt            *time.Time   `json:"wake_at"`
	WaitingFor        *job.Waiting `json:"waiting_for"`
	WaitReason        string       `json:"wait_reason,omitempty"`
	UnresponsiveSince *time.Time   `json:"unresponsive_since"`
	Checkpoint        *Checkpoint  `json:"checkpoint"`
	Limits            []Limit      `json:"limits"`
	Attempts          []Attempt    `json:"attempts"`
	Doomed            []Doomed     `json:"doomed"`
	Kept              []Kept       `json:"kept"`
}

// Checkpoint is the state of the job's commits.
type Checkpoint struct {
	Latest       int        `json:"latest"`
	Clean        bool       `json:"clean"`
	CommittedAt  *time.Time `json:"committed_at"`
	Files        int64      `json:"files"`
	Bytes        int64      `json:"bytes"`
	PauseSeconds Pauses     `json:"pause_seconds"`
	Health       string     `json:"health"` // ok, late, failing, none
	Problem      string     `json:"problem"`
}

// Limit is one of the limits that the user set, counted from the run's start.
type Limit struct {
	Limit   string  `json:"limit"` // max_runtime, max_preemptions, deadline, max_cost
	Used    float64 `json:"used"`  // share: at 1 it ends the job with this reason
	Message string  `json:"message"`
	Near    bool    `json:"near"` // most of it is used
}

// Pauses are how long the job was frozen for clean commits, in seconds.
type Pauses struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Attempt is one VM's work for the job.
type Attempt struct {
	Number      int           `json:"number"`
	VMID        string        `json:"vm_id"`
	Placement   job.Placement `json:"placement"`
	StartedAt   time.Time     `json:"started_at"`
	EndedAt     *time.Time    `json:"ended_at"`
	EndReason   job.EndReason `json:"end_reason"`
	ExitCode    *int          `json:"exit_code"`
	Restored    int           `json:"restored"`
	LostSeconds float64       `json:"lost_seconds"`
	Phases      job.Phases    `json:"phases"`
}

// Doomed is a VM that is being terminated.
type Doomed struct {
	VMID           string    `json:"vm_id"`
	TerminateAfter time.Time `json:"terminate_after"`
}

// Kept is a VM that stays on the user's wish.
type Kept struct {
	VMID  string    `json:"vm_id"`
	Since time.Time `json:"since"`
	Price float64   `json:"usd_per_hour"`
}

// LogLine is one line of a job's output. Cursor, given back as `after`,
// continues behind the line.
type LogLine struct {
	Attempt int       `json:"attempt"`
	Time    time.Time `json:"time"`
	Stream  string    `json:"stream"`            // stdout, stderr, anycloud
	Text    string    `json:"text"`              // invalid UTF-8 is replaced
	Partial bool      `json:"partial,omitempty"` // the line goes on in the next one
	Cursor  string    `json:"cursor"`
	// Progress of something long, which the text says too; of the agent's own
	// lines only.
	Progress *Progress `json:"progress,omitempty"`
}

// Progress of getting an image or the input, restoring or saving.
type Progress struct {
	What  string `json:"what"`  // image, input, restore, save
	Done  int64  `json:"done"`  // bytes
	Total int64  `json:"total"` // bytes; may grow
}

// SubmitReply answers POST /v1/jobs.
type SubmitReply struct {
	Job    Job             `json:"job"`
	Repeat bool            `json:"repeat"`           // an Idempotency-Key named an earlier job
	Offers []job.Placement `json:"offers,omitempty"` // dry run: what would be tried, best first
}

// SubmitRequest is the body of POST /v1/jobs: the fields of --file.
type SubmitRequest struct {
	job.Spec
	DryRun bool `json:"dry_run,omitempty"`
}

// CancelRequest is the body of POST /v1/jobs/{id}/cancel.
type CancelRequest struct {
	Now bool `json:"now,omitempty"`
}

// ResubmitRequest is the body of POST /v1/jobs/{id}/resubmit.
type ResubmitRequest struct {
	Fresh bool      `json:"fresh,omitempty"`
	Spec  *job.Spec `json:"spec,omitempty"` // fields named in Set replace the old ones
	Set   []string  `json:"set,omitempty"`  // JSON names of the fields given anew
}

// PreemptRequest is the body of POST /v1/jobs/{id}/preempt. Notice nil means
// the cloud's default.
type PreemptRequest struct {
	Notice *job.Duration `json:"notice,omitempty"`
}

// CheckpointRequest is the body of POST /v1/jobs/{id}/checkpoint. It asks for a
// commit; repeating it with the request number of the reply waits for the same
// one.
type CheckpointRequest struct {
	Request int64 `json:"request,omitempty"`
}

// CheckpointReply says whether the requested commit is durable.
type CheckpointReply struct {
	Request int64 `json:"request"`
	Done    bool  `json:"done"`
	Commit  int   `json:"commit,omitempty"`
}
