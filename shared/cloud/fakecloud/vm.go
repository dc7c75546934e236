package fakecloud

import (
	"time"

	"anycloud/shared/cloud"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

// EndedBy says what ended a VM.
type EndedBy string

const (
	ByTerminate    EndedBy = "terminated by request"
	ByInterruption EndedBy = "spot interruption"
	ByVanish       EndedBy = "host failure"
	ByPowerOff     EndedBy = "powered off from inside"
)

// VM is the ground truth about one VM, whatever listings show. Callers read it
// and change nothing; while others use the cloud they copy what they need from
// a call of All made in between.
type VM struct {
	ID        string
	Stack     string
	Token     string
	Job       string
	Attempt   int
	Launch    int
	Placement job.Placement
	Answered  bool // some launch call returned this VM

	Created         time.Time // the cloud's own start; may lie ahead (LaunchFault.Late)
	Going           time.Time // when it began to end; zero: not known to end
	Ends            time.Time // the cloud's own end; may lie ahead; zero: not known to end
	EndedBy         EndedBy
	TerminateCalled time.Time // first accepted Terminate; zero: never
	Impaired        time.Time // since then; zero: never

	running       time.Time
	noticed       time.Time
	notice        preempt.Notice
	listedFrom    time.Time
	describedFrom time.Time
	forgotten     bool
	candidates    []job.Placement
}

func (v *VM) existed(at time.Time) bool { return !at.Before(v.Created) }
func (v *VM) ended(at time.Time) bool   { return !v.Ends.IsZero() && !at.Before(v.Ends) }

// State of the VM at a time.
func (v *VM) State(at time.Time) cloud.State {
	switch {
	case v.ended(at):
		return cloud.Terminated
	case !v.Going.IsZero() && !at.Before(v.Going):
		return cloud.Going
	case at.Before(v.running):
		return cloud.Pending
	}
	return cloud.Running
}

// Alive says whether something of it exists at a time: pending, running or
// going.
func (v *VM) Alive(at time.Time) bool { return v.existed(at) && !v.ended(at) }

// end lets the VM go, unless it ends sooner anyway.
func (v *VM) end(going, ends time.Time, by EndedBy) {
	if !v.Ends.IsZero() && !ends.Before(v.Ends) {
		if going.Before(v.Going) {
			v.Going = going
		}
		return
	}
	v.Going, v.Ends, v.EndedBy = going, ends, by
}

// as is the VM as the cloud shows it at a time.
func (v *VM) as(at time.Time) cloud.VM {
	vm := cloud.VM{
		ID: v.ID, Job: v.Job, Attempt: v.Attempt, Launch: v.Launch, Placement: v.Placement,
		State: v.State(at), LaunchedAt: v.Created,
		Impaired: !v.Impaired.IsZero() && !at.Before(v.Impaired),
	}
	if vm.State == cloud.Terminated {
		vm.EndedAt, vm.EndReason = v.Ends, string(v.EndedBy)
	}
	if !v.noticed.IsZero() && !at.Before(v.noticed) {
		n := v.notice
		vm.Notice = &n
	}
	return vm
}
