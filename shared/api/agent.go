package api

import (
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

// The agent's protocol. Every call may be repeated; the answers are the same.
//
//	POST /v1/agent/claim                           ClaimRequest -> ClaimReply
//	POST /v1/agent/jobs/{id}/{attempt}/report      Report -> Orders
//	POST /v1/agent/jobs/{id}/{attempt}/credentials (empty) -> Credentials
//
// claim is authorised by the proof in it, the others by the secret whose hash
// the claim fixed (Authorization: Bearer <secret>).
//
// Answers that end an agent: 403 with code "superseded" or "unknown_vm" (never
// to be repeated: the VM is not wanted, the agent powers it off), 410 "ended".
// 425 "too_early": the VM is not visible yet, try again. Everything else is
// retried with backoff, for ever.

// ClaimRequest claims the attempt that the VM's tags name.
type ClaimRequest struct {
	Proof      string `json:"proof"` // from the VM's metadata service
	Cloud      string `json:"cloud"`
	SecretHash string `json:"secret_hash"` // hex SHA-256 of the secret on the VM's disk
	Version    string `json:"version"`     // of the agent
}

// ClaimReply tells the agent what it works for. It holds no secret of the
// stack; secrets are named by source and fetched on the VM.
type ClaimReply struct {
	JobID   string   `json:"job_id"`
	Stack   string   `json:"stack"`
	Attempt int      `json:"attempt"`
	VMID    string   `json:"vm_id"`
	Spec    job.Spec `json:"spec"`
	GPUs    int      `json:"gpus"` // resolved number
	Orders  Orders   `json:"orders"`
}

// Role is what an attempt may do.
type Role string

const (
	// Standby: pull, prefetch, wait. Nothing of it is committed or started.
	Standby Role = "standby"
	// Writer: fence, restore, start, commit, mirror, report exit.
	Writer Role = "writer"
	// Stop: superseded or ended: stop the container without a commit and power
	// the VM off.
	Stop Role = "stop"
)

// Orders is what the control plane wants of an agent, in every reply.
type Orders struct {
	Role         Role            `json:"role"`
	WriterNo     int             `json:"writer"`                 // the writer's number, for logs
	ReportEvery  job.Duration    `json:"report_every"`           // come back after this long
	Notice       *preempt.Notice `json:"notice,omitempty"`       // what the control plane heard
	Finish       *Finish         `json:"finish,omitempty"`       // end the container in order: SIGTERM, grace, final commit, sealed
	SaveRequest  int64           `json:"save_request,omitempty"` // commit asked for; answered by Report.SaveDone
	SaveNow      bool            `json:"save_now,omitempty"`     // rebalance: save early
	NewestCommit int             `json:"newest_commit"`          // newest acknowledged one in the record
	FreshFrom    int             `json:"fresh_from"`
	ExitsKnown   []int           `json:"exits_known,omitempty"` // attempts whose exit the record has
	Exited       bool            `json:"exited,omitempty"`      // this attempt's exit is recorded: nothing more to do
}

// Finish orders the end of a container that may still save (cancel, limit).
type Finish struct {
	Why      job.EndReason `json:"why"`
	Deadline time.Time     `json:"deadline"` // when the VM is terminated
	Now      bool          `json:"now"`      // no final commit
}

// Report is what an agent tells. Facts once reported are repeated in later
// reports until one is answered; the control plane takes each once, in whatever
// order reports arrive.
type Report struct {
	Seq        int64             `json:"seq"` // grows within the attempt; for logs
	Phases     job.Phases        `json:"phases"`
	Started    *ContainerStarted `json:"started,omitempty"`
	StoppedAt  time.Time         `json:"stopped_at,omitzero"` // the container ended, for whatever reason
	Checkpoint *job.Checkpoint   `json:"checkpoint,omitempty"`
	SaveDone   int64             `json:"save_done,omitempty"` // newest SaveRequest covered by a durable commit
	SaveDoneAs int               `json:"save_done_as,omitempty"`
	Notice     *preempt.Notice   `json:"notice,omitempty"` // seen in the VM's metadata
	Sealed     bool              `json:"sealed,omitempty"` // container stopped, last commit appended (or given up): nothing of this attempt follows
	Exit       *Exit             `json:"exit,omitempty"`
	Failure    *Failure          `json:"failure,omitempty"`
}

// ContainerStarted says that the writer's container runs, and from what.
type ContainerStarted struct {
	At         time.Time `json:"at"`
	Restored   int       `json:"restored"` // commit number; 0: from nothing
	CapturedAt time.Time `json:"captured_at,omitzero"`
}

// Exit is a container's end by itself.
type Exit struct {
	Attempt   int       `json:"attempt"` // whose container; a successor reports what it found in the log
	Code      int       `json:"code"`
	OOM       bool      `json:"oom,omitempty"`
	StoppedAt time.Time `json:"stopped_at,omitzero"`
}

// Failure says that the writer's agent cannot start or go on with the job.
type Failure struct {
	Reason    job.Reason `json:"reason"` // image_not_found, image_denied, command_not_found, restore_failed; empty: the VM or agent is unfit
	Message   string     `json:"message"`
	Permanent bool       `json:"permanent"` // another VM would fail the same way
}

// Credentials open the job's bucket and its part of the log store.
type Credentials struct {
	Checkpoint *bucket.Access `json:"checkpoint,omitempty"` // nil: job without a bucket
	Input      *bucket.Access `json:"input,omitempty"`      // to read; nil: none is asked for
	Output     *bucket.Access `json:"output,omitempty"`     // to write; nil: none is asked for
	Logs       bucket.Access  `json:"logs"`
	LogPrefix  string         `json:"log_prefix"` // logs/<job>/<attempt, 6 digits>/
}
