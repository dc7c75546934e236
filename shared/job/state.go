package job

// State of a job.
type State string

const (
	// Pending: accepted; no VM is intended. Entered by submit, resubmit, and a
	// refused first launch; left by recover's launch intent. A crash here loses
	// nothing: the sweep wakes the job when WakeAt has passed.
	Pending State = "pending"
	// Provisioning: a launch of attempt Attempt+1 is intended (Launch); its VM
	// may or may not exist. A crash here is repaired by replaying the launch
	// with its token once its deadline has passed.
	Provisioning State = "provisioning"
	// Starting: the newest attempt's VM is recorded; its agent boots, pulls the
	// image, restores, and waits to become the writer. It has no time-out of its
	// own; an unclaimed VM ends after 15 min.
	Starting State = "starting"
	// Running: the writer's container runs. Entered by the agent's report, left
	// by its exit, a notice, or the loss of its VM.
	Running State = "running"
	// Recovering: the writer's VM is lost or doomed, or its container failed and
	// may be retried; the next attempt is not yet intended.
	Recovering State = "recovering"
	// Stopping: the outcome is recorded; VMs and bucket are being disposed of by
	// cleanup. A crash here is repaired by the sweep, which drives cleanup again.
	Stopping State = "stopping"
	// Succeeded: the container ended by itself with exit code 0, and every VM is
	// confirmed gone or kept. Left through resubmit only (if the bucket was kept).
	Succeeded State = "succeeded"
	// Failed: ended otherwise, Reason says how. Left through resubmit only.
	Failed State = "failed"
	// Cancelled: ended on the user's wish. Left through resubmit only.
	Cancelled State = "cancelled"
)

// States lists every state in the order of a job's life.
var States = []State{Pending, Provisioning, Starting, Running, Recovering, Stopping, Succeeded, Failed, Cancelled}

// Terminal says whether the job has ended.
func (s State) Terminal() bool { return s == Succeeded || s == Failed || s == Cancelled }

// Reason says why a job ended; empty when it succeeded.
type Reason string

const (
	ReasonExitCode        Reason = "exit_code"
	ReasonOutOfMemory     Reason = "out_of_memory"
	ReasonImageNotFound   Reason = "image_not_found"
	ReasonImageDenied     Reason = "image_denied"
	ReasonCommandNotFound Reason = "command_not_found"
	ReasonRestoreFailed   Reason = "restore_failed"
	ReasonInputFailed     Reason = "input_failed"
	ReasonOutputFailed    Reason = "output_failed"
	ReasonSecretFailed    Reason = "secret_failed"
	ReasonLaunchRefused   Reason = "launch_refused"
	ReasonMaxRuntime      Reason = "max_runtime"
	ReasonMaxPreemptions  Reason = "max_preemptions"
	ReasonDeadline        Reason = "deadline"
	ReasonMaxCost         Reason = "max_cost"
	ReasonVMLost          Reason = "vm_lost"
	ReasonCancelled       Reason = "cancelled"
)

// EndReason says why an attempt ended.
type EndReason string

const (
	EndPreempted    EndReason = "preempted"    // warned, or the cloud said so
	EndVanished     EndReason = "vanished"     // gone without a word
	EndUnresponsive EndReason = "unresponsive" // silent for as long as the user allows
	EndExited       EndReason = "exited"       // its container ended by itself
	EndCancelled    EndReason = "cancelled"
	EndSuperseded   EndReason = "superseded" // not needed any more, or found late
	EndLimit        EndReason = "limit"
	EndAgentFailed  EndReason = "agent_failed" // never claimed, or its agent gave up
)

// Waiting says what a waiting job waits for.
type Waiting string

const (
	WaitCapacity   Waiting = "capacity"
	WaitQuota      Waiting = "quota"
	WaitBudget     Waiting = "budget"
	WaitQueue      Waiting = "queue"
	WaitBackoff    Waiting = "backoff"
	WaitPreviousVM Waiting = "previous_vm"
)
