// Package cloud is the port to a cloud's VMs.
//
// Drivers are sub-packages (localcloud, fakecloud, ...); each passes
// cloudtest.Run. Drivers know error codes; nobody else does.
package cloud

import (
	"context"
	"errors"
	"time"

	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

// Error classes. Launch errors of the first group are clear refusals: the
// cloud guarantees that no VM came of the call. Any error outside these
// classes means "unknown": the call may have happened.
var (
	// ErrCapacity: no candidate has room now. Refusal says which.
	ErrCapacity = errors.New("no capacity")
	// ErrQuota: the account's limit refuses another VM.
	ErrQuota = errors.New("quota exceeded")
	// ErrThrottled: too many calls; slow down and repeat the same call.
	ErrThrottled = errors.New("request rate exceeded")
	// ErrDenied: the caller may not do this. A person must act.
	ErrDenied = errors.New("permission denied")
	// ErrInvalid: the request can never succeed as it is (unknown machine
	// type, malformed). A person must act.
	ErrInvalid = errors.New("invalid request")

	// ErrNotFound: Describe or Terminate of an id that the cloud does not show
	// (yet, or any more). Never proof of absence.
	ErrNotFound = errors.New("vm not found")
	// ErrBadProof: the identity proof is not genuine.
	ErrBadProof = errors.New("identity proof refused")
	// ErrUnsupported: the driver cannot do this (a drill with that notice).
	ErrUnsupported = errors.New("not supported here")
)

// Refusal is a clear launch refusal that names the pools that had no room.
// errors.Is sees its Class.
type Refusal struct {
	Class   error // ErrCapacity, ErrQuota, ...
	Pools   []job.Placement
	Message string
}

func (r *Refusal) Error() string { return r.Class.Error() + ": " + r.Message }
func (r *Refusal) Unwrap() error { return r.Class }

// State of a VM, as its cloud says.
type State string

const (
	Pending    State = "pending"    // accepted, not running yet
	Running    State = "running"    // powered on; says nothing about the agent
	Going      State = "going"      // shutting down or stopping: doomed, not gone
	Terminated State = "terminated" // gone, nothing of it runs
)

// VM is one machine as its cloud describes it.
type VM struct {
	ID         string
	Job        string // tags written at launch
	Attempt    int
	Launch     int
	Placement  job.Placement
	State      State
	Impaired   bool            // the cloud's own status checks failed
	Notice     *preempt.Notice // interruption or rebalance, where a listing shows it
	LaunchedAt time.Time       // the cloud's own start
	EndedAt    time.Time       // the cloud's own end; zero while it lives
	EndReason  string          // the cloud's words
}

// LaunchRequest asks for one VM in any one of the candidates, the driver's
// choice guided by their order.
type LaunchRequest struct {
	Token      string // idempotency: same token and candidates, same VM
	Job        string
	Attempt    int
	Launch     int
	Candidates []job.Placement
	Needs      job.Machine
}

// Needs of an offer query.
type Needs struct {
	Machine job.Machine
	Spot    bool
	Regions []string // empty: the driver's default
	Zones   []string
}

// Cloud launches and watches the VMs of one stack. VMs of other stacks are
// invisible. All methods are safe for concurrent use and honour ctx.
type Cloud interface {
	// Name is the word used in placements: aws, gcp, azure, local, fake.
	Name() string
	// Offers lists the placements that could hold such a machine, best
	// (cheapest) first, priced. Empty with ErrInvalid wrapped: no machine of
	// this cloud can ever fit, and the message says why.
	Offers(ctx context.Context, n Needs) ([]job.Placement, error)
	// Launch creates at most one VM per token: repeating a request with the
	// same token, also after its answer was lost, returns the same VM (in
	// whatever state it is by now) or repeats the refusal or tries afresh after
	// one. Tags (stack, job, attempt, launch) are on the VM from its creation.
	Launch(ctx context.Context, r LaunchRequest) (VM, error)
	// List pages through every VM of the stack: live ones, and ended ones for
	// as long as the cloud shows them. next is "" on the last page. Eventually
	// consistent: a new VM may be missing for a while.
	List(ctx context.Context, page string) (vms []VM, next string, err error)
	// Describe returns one VM. ErrNotFound is not proof of absence.
	Describe(ctx context.Context, id string) (VM, error)
	// Terminate asks for the VM's end; nil means accepted, not gone. Repeating
	// it, or terminating a terminated VM, is success.
	Terminate(ctx context.Context, id string) error
	// VerifyProof returns the id of the VM that made the proof, or ErrBadProof.
	VerifyProof(ctx context.Context, proof string) (vmID string, err error)
	// Drill makes the cloud interrupt the VM with its own warning, notice
	// before it is taken; zero takes it without a word. ErrUnsupported names
	// the notices that the cloud can give.
	Drill(ctx context.Context, id string, notice time.Duration) error
}
