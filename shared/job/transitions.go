package job

import (
	"fmt"
	"strings"
)

// Transition is one documented change of state.
type Transition struct {
	From State
	On   string // the event's kind
	To   State
	When string
}

// Transitions lists every change of state that Next can make. Whatever is not
// here leaves the state as it is. The diagram in docs/architecture.md is
// generated from it, and the tests hold Next to it.
var Transitions = []Transition{
	{Pending, "LaunchIntended", Provisioning, "a launch is intended"},
	{Pending, "Unlaunchable", Stopping, "no launch is possible"},
	{Pending, "CancelRequested", Stopping, "cancelled"},
	{Pending, "LimitReached", Stopping, "a limit"},
	{Recovering, "LaunchIntended", Provisioning, "the next launch is intended"},
	{Recovering, "Unlaunchable", Stopping, "no launch is possible"},
	{Recovering, "CancelRequested", Stopping, "cancelled"},
	{Recovering, "LimitReached", Stopping, "a limit"},
	{Recovering, "Exited", Stopping, "the doomed writer's container ended"},

	{Provisioning, "Launched", Starting, "the launch was answered"},
	{Provisioning, "VMSeen", Starting, "a listing answers the launch"},
	{Provisioning, "Claimed", Starting, "the VM's agent answers the launch"},
	{Provisioning, "VMGone", Recovering, "the launch's VM is lost already"},
	{Provisioning, "VMGone", Stopping, "lost once too often"},
	{Provisioning, "LaunchRefused", Pending, "first launch refused"},
	{Provisioning, "LaunchRefused", Recovering, "refused"},
	{Provisioning, "LaunchRefused", Stopping, "can never succeed"},
	{Provisioning, "LaunchUnanswered", Pending, "first launch never answered"},
	{Provisioning, "LaunchUnanswered", Recovering, "never answered"},
	{Provisioning, "CancelRequested", Stopping, "cancelled"},
	{Provisioning, "LimitReached", Stopping, "a limit"},
	{Provisioning, "Exited", Stopping, "the doomed writer's container ended"},

	{Starting, "Started", Running, "the writer's container runs"},
	{Starting, "Interrupted", Recovering, "notice"},
	{Starting, "Interrupted", Stopping, "lost once too often"},
	{Starting, "Sealed", Recovering, "its agent saw a notice"},
	{Starting, "Sealed", Stopping, "lost once too often"},
	{Starting, "VMGone", Recovering, "lost"},
	{Starting, "VMGone", Stopping, "lost once too often"},
	{Starting, "VMMissed", Recovering, "absent from two sweeps"},
	{Starting, "VMMissed", Stopping, "lost once too often"},
	{Starting, "Silence", Recovering, "unclaimed, or silent for too long"},
	{Starting, "Silence", Stopping, "agents failed too often"},
	{Starting, "AgentFailed", Recovering, "may be retried"},
	{Starting, "AgentFailed", Stopping, "permanent, or too often"},
	{Starting, "Exited", Recovering, "exit not 0, retries left"},
	{Starting, "Exited", Stopping, "ended"},
	{Starting, "CancelRequested", Stopping, "cancelled"},
	{Starting, "LimitReached", Stopping, "a limit"},

	{Running, "Interrupted", Recovering, "notice"},
	{Running, "Interrupted", Stopping, "no restart allowed"},
	{Running, "Sealed", Recovering, "its agent saw a notice"},
	{Running, "Sealed", Stopping, "no restart allowed"},
	{Running, "VMGone", Recovering, "lost"},
	{Running, "VMGone", Stopping, "no restart allowed"},
	{Running, "VMMissed", Recovering, "absent from two sweeps"},
	{Running, "VMMissed", Stopping, "no restart allowed"},
	{Running, "Silence", Recovering, "silent for as long as the user allows"},
	{Running, "Silence", Stopping, "no restart allowed"},
	{Running, "AgentFailed", Recovering, "may be retried"},
	{Running, "AgentFailed", Stopping, "permanent, or too often"},
	{Running, "Exited", Recovering, "exit not 0, retries left"},
	{Running, "Exited", Stopping, "ended"},
	{Running, "CancelRequested", Stopping, "cancelled"},
	{Running, "LimitReached", Stopping, "a limit"},

	{Stopping, "Finished", Succeeded, "all VMs gone or kept, bucket disposed of"},
	{Stopping, "Finished", Failed, "all VMs gone or kept"},
	{Stopping, "Finished", Cancelled, "all VMs gone or kept"},
	{Succeeded, "Resubmitted", Pending, "its bucket was kept"},
	{Failed, "Resubmitted", Pending, "resubmit"},
	{Cancelled, "Resubmitted", Pending, "resubmit"},
}

// Diagram draws the transitions as a Mermaid state diagram, one arrow per pair
// of states.
func Diagram() string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n    [*] --> pending : submit\n")
	for _, from := range States {
		for _, to := range States {
			var on []string
			for _, t := range Transitions {
				if t.From == from && t.To == to {
					on = append(on, t.On)
				}
			}
			if len(on) > 0 {
				fmt.Fprintf(&b, "    %s --> %s : %s\n", from, to, strings.Join(on, ", "))
			}
		}
	}
	for _, s := range States {
		if s.Terminal() {
			fmt.Fprintf(&b, "    %s --> [*]\n", s)
		}
	}
	return b.String()
}
