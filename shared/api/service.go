package api

import (
	"context"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/job"
)

// Service is the control plane as the handler calls it and as the client
// offers it. Errors are *Problem where a user or agent can act on them; any
// other error is internal and may be retried.
type Service interface {
	// Submit accepts a job. idempotencyKey "" means none; a repeat returns the
	// first job with Repeat set.
	Submit(ctx context.Context, r SubmitRequest, idempotencyKey string) (SubmitReply, error)
	Get(ctx context.Context, id string) (Job, error)
	List(ctx context.Context, q ListQuery) (JobPage, error)
	// Logs returns a page of lines after q.After. Ended means that no line will
	// ever follow.
	Logs(ctx context.Context, id string, q LogQuery) (LogPage, error)
	// Cancel, Resubmit: ifMatch 0 means unconditional.
	Cancel(ctx context.Context, id string, ifMatch int64, r CancelRequest) (Job, error)
	Resubmit(ctx context.Context, id string, ifMatch int64, r ResubmitRequest) (Job, error)
	Preempt(ctx context.Context, id string, r PreemptRequest) (Job, error)
	Checkpoint(ctx context.Context, id string, r CheckpointRequest) (CheckpointReply, error)
	// CheckpointAccess hands out credentials to read the job's bucket.
	CheckpointAccess(ctx context.Context, id string) (bucket.Access, error)
	// Checkpoints lists the job's commits, oldest first.
	Checkpoints(ctx context.Context, id string) (CommitPage, error)
	Doctor(ctx context.Context, fix []string) (DoctorReport, error)

	AgentService
}

// AgentService is the part of the control plane that agents call.
type AgentService interface {
	Claim(ctx context.Context, r ClaimRequest) (ClaimReply, error)
	Report(ctx context.Context, id string, attempt int, secret string, r Report) (Orders, error)
	Credentials(ctx context.Context, id string, attempt int, secret string) (Credentials, error)
	// Ping answers nil: the sweep's probe of the agents' endpoint calls it
	// through the front door.
	Ping(ctx context.Context) error
}

// ListQuery selects jobs.
type ListQuery struct {
	State job.State
	All   bool // ended ones too
	After string
	Limit int
}

// JobPage is a page of jobs; Next "" on the last.
type JobPage struct {
	Jobs []Job  `json:"jobs"`
	Next string `json:"next,omitempty"`
}

// LogQuery selects log lines.
type LogQuery struct {
	Attempt int    // 0: all
	After   string // cursor of the last line seen
	Tail    int    // only the last lines; 0: from the beginning
	Limit   int
}

// LogPage is a page of lines.
type LogPage struct {
	Lines []LogLine `json:"lines"`
	Next  string    `json:"next"` // give back as After
	More  bool      `json:"more"` // another page is there now
	Ended bool      `json:"ended"`
}

// CommitPage is a job's commits.
type CommitPage struct {
	Commits []Commit `json:"commits"`
}

// Commit is one saved checkpoint.
type Commit struct {
	Number      int       `json:"number"`
	Attempt     int       `json:"attempt"`
	Clean       bool      `json:"clean"`
	Sealed      bool      `json:"sealed"`
	ExitCode    *int      `json:"exit_code"`
	CapturedAt  time.Time `json:"captured_at"`
	CommittedAt time.Time `json:"committed_at"`
	Files       int64     `json:"files"`
	Bytes       int64     `json:"bytes"`
	Pruned      bool      `json:"pruned"` // it cannot be restored any more
}

// DoctorReport is what is wrong, and what could be mended.
type DoctorReport struct {
	Checks []DoctorCheck `json:"checks"`
}

// DoctorCheck is one finding. ID is stable within a report; Fixable ones are
// mended by Doctor(fix=[ID]).
type DoctorCheck struct {
	ID      string    `json:"id"`
	Level   string    `json:"level"` // ok, warning, error
	What    string    `json:"what"`
	Do      string    `json:"do,omitempty"`
	Fixable bool      `json:"fixable,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}
