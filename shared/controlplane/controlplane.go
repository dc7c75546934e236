// Package controlplane decides what happens to jobs: the four reconcilers over
// the ports, and the service behind the HTTP API.
//
//	controlplane.go  options, the one way a job is changed (change)
//	submit.go        Submit: validation, idempotency
//	preempt.go       Notice
//	sweep.go         Tick: compares the table with the clouds
//	recover.go       Recover: launches
//	cleanup.go       Cleanup: terminations, buckets, the end
//	agents.go        Claim, Report, Credentials
//	users.go         Get, List, Cancel, Preempt, Checkpoint
//	resubmit.go      Resubmit
//
// Nothing is kept in memory between calls: the same code runs in a server and
// in functions. Every outside call may be refused, unanswered, done twice or
// answered late; what makes that harmless is said where the call is made.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/bus"
	"anycloud/shared/cloud"
	"anycloud/shared/job"
	"anycloud/shared/store"
)

// Options of a control plane.
type Options struct {
	Store   store.Store
	Clouds  map[string]cloud.Cloud  // by name
	Buckets map[string]bucket.Admin // by cloud
	Logs    bucket.Objects          // log lines of all jobs
	Bus     bus.Publisher
	Now     func() time.Time
	NewID   func() string // 10 base32 characters
	// Probe calls the agents' endpoint through the front door; silence is
	// counted only in sweeps in which it answers.
	Probe func(context.Context) error
	// NewestEntry is the time of the newest entry of a job's log. A job whose
	// agent cannot reach us but commits is not silent.
	NewestEntry func(ctx context.Context, objects bucket.Objects) (time.Time, error)
	// LogAccess hands out credentials to write log objects under a prefix.
	LogAccess func(ctx context.Context, prefix string) (bucket.Access, error)
	// Commits lists what a job's log holds.
	Commits func(ctx context.Context, objects bucket.Objects) ([]api.Commit, error)
	// SyncAccess hands out credentials for a user's bucket, to read or to write.
	SyncAccess func(ctx context.Context, url string, write bool) (bucket.Access, error)
	// DeadLetters tells doctor of events that no function could handle.
	DeadLetters func(context.Context) ([]string, error)
	Logger      *slog.Logger
	Config
}

// Config are the figures and names of a stack.
type Config struct {
	Stack        string
	Prefix       string        // of job ids
	DefaultCloud string        // the control plane's own
	SweepEvery   time.Duration // default DefaultSweepEvery
	LaunchFor    time.Duration // deadline of one launch call; default DefaultLaunchFor
	ReportEvery  time.Duration // of a running job; default DefaultReportEvery
	HandoverPoll time.Duration // of an agent that waits to become the writer; default DefaultHandoverPoll

	SyncSchemes   []string // of buckets that VMs can reach: file, s3, …
	SecretSources []string // that VMs can resolve: file, env, …
}

const (
	// DefaultSweepEvery is the floor under all events.
	DefaultSweepEvery = 30 * time.Second
	// DefaultLaunchFor is long against any cloud's launch call, short against
	// a VM's boot: an unanswered launch is replayed after it.
	DefaultLaunchFor = 60 * time.Second
	// DefaultReportEvery bounds how late a cancel or a save request is heard.
	DefaultReportEvery = time.Second
	// DefaultHandoverPoll adds to the down time of every recovery.
	DefaultHandoverPoll = 250 * time.Millisecond
	// badPoolFor is how long a pool that lost or refused a VM is avoided.
	badPoolFor = 10 * time.Minute
	// tries of a conditional write; each lost one means that somebody else
	// got on.
	tries = 20
)

// ControlPlane implements api.Service over the ports.
type ControlPlane struct {
	Options
}

// New makes a control plane.
func New(o Options) *ControlPlane {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.SweepEvery, DefaultSweepEvery)
	def(&o.LaunchFor, DefaultLaunchFor)
	def(&o.ReportEvery, DefaultReportEvery)
	def(&o.HandoverPoll, DefaultHandoverPoll)
	clock := o.Now
	if clock == nil {
		clock = time.Now
	}
	o.Now = func() time.Time { return clock().UTC() } // records and answers are in UTC
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &ControlPlane{o}
}

// change reads the job, lets decide name events, applies them as one write, and
// publishes what came of it. decide sees the job as it is and may be called
// again after a lost write. It returns the job as written. Without any change
// nothing is written.
//
// A write that was not answered is decided anew: Next makes a no-op of what
// already happened.
func (c *ControlPlane) change(ctx context.Context, id string, decide func(*job.Job) ([]job.Event, error)) (*job.Job, error) {
	for range tries {
		j, err := c.Store.Get(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("read job %s: %w", id, err)
		}
		got, err := c.apply(ctx, j, decide)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		return got, err
	}
	return nil, fmt.Errorf("job %s: %w after %d tries", id, store.ErrConflict, tries)
}

// apply is change for a job that was just read; a lost write is ErrConflict.
func (c *ControlPlane) apply(ctx context.Context, j *job.Job, decide func(*job.Job) ([]job.Event, error)) (*job.Job, error) {
	events, err := decide(j)
	if err != nil {
		return j, err
	}
	next, refused := fold(j, c.Now(), events...)
	if next.Revision == j.Revision {
		return j, refused
	}
	if err := c.Store.Put(ctx, next); err != nil {
		return nil, fmt.Errorf("write job %s: %w", j.ID, err)
	}
	if next.State != j.State {
		c.Logger.Info("job "+string(next.State), "job", j.ID, "attempt", next.Attempt, "writer", next.Writer, "from", j.State)
	}
	c.publish(ctx, next)
	return next, refused
}

// fold applies events one after the other as one write: the revision grows by
// one. The first refusal is returned beside what the others changed.
func fold(j *job.Job, now time.Time, events ...job.Event) (*job.Job, error) {
	cur := *j
	var refused error
	for _, e := range events {
		next, _, err := job.Next(cur, e, now)
		if err != nil {
			if refused == nil {
				refused = err
			}
			continue
		}
		cur = next
	}
	cur.SetRevision(j.Revision, j.Changed)
	return &cur, refused
}

// publish sends what waits in the row's outbox. The row is written already: a
// crash here leaves the messages in it, and the next sweep sends them. That
// they went out is noted with the row's next write or by the sweep; a message
// may be sent twice.
func (c *ControlPlane) publish(ctx context.Context, j *job.Job) {
	if len(j.Outbox) == 0 {
		return
	}
	events := make([]bus.Event, len(j.Outbox))
	for i, m := range j.Outbox {
		events[i] = bus.Event{
			Version: 1, ID: fmt.Sprintf("%s/%d/%s", j.ID, m.Revision, m.Type), Type: m.Type, JobID: j.ID,
			Attempt: j.Attempt, State: string(j.State), Time: m.At,
		}
		if j.Outcome != nil {
			events[i].Reason = string(j.Outcome.Reason)
		}
	}
	if err := c.Bus.Publish(ctx, events...); err != nil {
		c.Logger.Warn("events not sent; the sweep will", "job", j.ID, "err", err)
		return
	}
	sent, _, err := job.Next(*j, job.OutboxSent{Revision: j.Revision}, c.Now())
	if err != nil || sent.Revision == j.Revision {
		return
	}
	if err := c.Store.Put(ctx, &sent); err == nil {
		*j = sent
	}
	// A lost write: whoever won carries the outbox on, and sends it again.
}

// Ping answers the sweep's probe of the agents' endpoint.
func (c *ControlPlane) Ping(context.Context) error { return nil }

var _ api.Service = (*ControlPlane)(nil)
