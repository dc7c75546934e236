package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"anycloud/shared/api"
	"anycloud/shared/job"
)

var stateColours = map[job.State]string{
	job.Running: "32", job.Succeeded: "32", job.Failed: "31", job.Cancelled: "33", job.Recovering: "33", job.Stopping: "36",
}

// timeline prints a job for people.
func (a *app) timeline(j api.Job) error {
	var b strings.Builder
	state := string(j.State)
	if c := stateColours[j.State]; c != "" {
		state = a.colour(c, state)
	}
	fmt.Fprintf(&b, "%s  %s", j.ID, state)
	if j.Reason != "" {
		fmt.Fprintf(&b, " (%s)", j.Reason)
	}
	if j.ExitCode != nil {
		fmt.Fprintf(&b, ", exit code %d", *j.ExitCode)
	}
	b.WriteByte('\n')
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	facts(j, row)
	w.Flush()
	for _, at := range j.Attempts {
		attempt(&b, j, at)
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}

// limitLine warns when most of a limit is used.
func limitLine(l api.Limit) string {
	line := l.Message
	if l.Near {
		line += fmt.Sprintf(" (warning: %d%% used; at 100%% it ends the job)", int(100*min(l.Used, 1)))
	}
	return line
}

// keptLine tells what a kept VM costs and how to end that.
func keptLine(id string, k api.Kept) string {
	up := time.Since(k.Since)
	return fmt.Sprintf("%s, kept for %s, %.4f USD so far at %.4f USD/h; anycloud cancel %s ends it",
		k.VMID, shortDuration(up), up.Hours()*k.Price, k.Price, id)
}

// facts are the lines about the job as a whole.
func facts(j api.Job, row func(name, format string, args ...any)) {
	kind := "on-demand"
	if j.Spot {
		kind = "spot"
	}
	row("image", "%s, %s", j.Image, kind)
	if len(j.Command) > 0 {
		row("command", "%s", strings.Join(j.Command, " "))
	}
	if j.Message != "" {
		row("message", "%s", j.Message)
	}
	if j.WaitingFor != nil {
		until := ""
		if j.WakeAt != nil {
			until = ", next look at " + j.WakeAt.Local().Format(time.TimeOnly)
		}
		row("waits for", "%s%s %s", *j.WaitingFor, until, j.WaitReason)
	}
	if j.UnresponsiveSince != nil {
		row("silent", "its VM runs and says nothing since %s", j.UnresponsiveSince.Local().Format(time.TimeOnly))
	}
	for _, l := range j.Limits {
		row("limit", "%s", limitLine(l))
	}
	for _, k := range j.Kept {
		row("kept VM", "%s", keptLine(j.ID, k))
	}
	row("attempts", "%d (preemptions %d, failures %d, refused launches %d)", len(j.Attempts), j.Preemptions, j.Failures, j.RefusedLaunches)
	row("lost work", "%.1f s", j.LostSeconds)
	row("down", "%.1f s without a container, between first start and end", j.DownSeconds)
	row("VM time", "%s, %.4f USD (on-demand: %.4f USD)", shortDuration(time.Duration(j.VMSeconds*float64(time.Second))), j.CostUSD, j.OnDemandUSD)
	if k := j.Checkpoint; k != nil {
		switch {
		case k.Latest == 0 && k.Problem != "":
			row("checkpoint", "none yet, %s: %s", k.Health, k.Problem)
		case k.Latest == 0:
			row("checkpoint", "none yet")
		default:
			kind := "clean"
			if !k.Clean {
				kind = "mixed"
			}
			row("checkpoint", "commit %d, %s, %d files, %s, health %s", k.Latest, kind, k.Files, humanize.IBytes(uint64(max(0, k.Bytes))), k.Health)
			if k.Problem != "" {
				row("", "%s", k.Problem)
			}
			if k.PauseSeconds.Max > 0 {
				row("pauses", "p50 %.1f ms, p99 %.1f ms, longest %.1f ms", 1e3*k.PauseSeconds.P50, 1e3*k.PauseSeconds.P99, 1e3*k.PauseSeconds.Max)
			}
		}
	}
	if j.Bucket != nil {
		row("bucket", "%s", *j.Bucket)
	}
	if j.KeepUntil != nil {
		row("", "kept until %s: anycloud resubmit %s goes on from it", j.KeepUntil.Local().Format(time.DateTime), j.ID)
	}
	for _, d := range j.Doomed {
		row("ending", "VM %s", d.VMID)
	}
}

// phase is one named moment of an attempt.
type phase struct {
	name string
	at   time.Time
}

func phasesOf(p job.Phases) []phase {
	ps := []phase{
		{"noticed", p.Noticed}, {"recorded", p.Recorded}, {"launch called", p.LaunchCalled}, {"VM created", p.VMCreated}, {"claimed", p.Claimed},
		{"image ready", p.ImageReady}, {"prefetched", p.Prefetched}, {"writer", p.Writer}, {"restored", p.Restored}, {"started", p.Started},
		{"sealed", p.Sealed}, {"gone", p.Gone},
	}
	ps = slices.DeleteFunc(ps, func(p phase) bool { return p.at.IsZero() })
	slices.SortStableFunc(ps, func(a, b phase) int { return a.at.Compare(b.at) })
	return ps
}

// attempt prints one attempt: how it ended, and its phases as times since the
// job was submitted.
func attempt(b *strings.Builder, j api.Job, at api.Attempt) {
	spot := ""
	if at.Placement.Spot {
		spot = ", spot"
	}
	fmt.Fprintf(b, "\n  attempt %d on %s (%s, %s%s)", at.Number, at.VMID, at.Placement.Zone, at.Placement.Type, spot)
	switch {
	case at.EndReason != "" && at.ExitCode != nil:
		fmt.Fprintf(b, ": %s with code %d", at.EndReason, *at.ExitCode)
	case at.EndReason != "":
		fmt.Fprintf(b, ": %s", at.EndReason)
	case at.Number == j.Writer:
		b.WriteString(": works")
	default:
		b.WriteString(": stands by")
	}
	b.WriteByte('\n')
	if at.Restored > 0 {
		fmt.Fprintf(b, "    restored commit %d; work lost before it: %.1f s\n", at.Restored, at.LostSeconds)
	}
	for _, p := range phasesOf(at.Phases) {
		fmt.Fprintf(b, "    %+9.2f s  %s\n", p.at.Sub(j.CreatedAt).Seconds(), p.name)
	}
}
