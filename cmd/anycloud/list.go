package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"anycloud/shared/api"
	"anycloud/shared/job"
)

func (a *app) listCommand() *cobra.Command {
	var all bool
	var state string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List jobs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			jobs := []api.Job{}
			for q := (api.ListQuery{All: all, State: job.State(state)}); ; {
				page, err := c.List(cmd.Context(), q)
				if err != nil {
					return err
				}
				jobs = append(jobs, page.Jobs...)
				if page.Next == "" {
					break
				}
				q.After = page.Next
			}
			if a.json {
				return a.printJSON(jobs)
			}
			return a.table(jobs)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "ended jobs too")
	cmd.Flags().StringVar(&state, "state", "", "only jobs in this state")
	return cmd
}

func (a *app) table(jobs []api.Job) error {
	if len(jobs) == 0 {
		a.note("no jobs; ended ones: anycloud list --all")
		return nil
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tATTEMPT\tPREEMPTIONS\tCHECKPOINT\tAGE\tNOTE")
	for _, j := range jobs {
		checkpoint := "-"
		if k := j.Checkpoint; k != nil && k.CommittedAt != nil {
			checkpoint = humanize.Time(*k.CommittedAt)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%s\n", j.ID, j.State, j.Attempt, j.Preemptions, checkpoint, since(j.CreatedAt), remark(j))
	}
	return w.Flush()
}

// remark is the one thing to know about a job in a table.
func remark(j api.Job) string {
	switch {
	case len(j.Kept) > 0:
		return "VM " + keptLine(j.ID, j.Kept[0])
	case j.Reason != "":
		return string(j.Reason)
	case nearLimit(j) != "":
		return nearLimit(j)
	case j.WaitingFor != nil:
		return "waits for " + string(*j.WaitingFor)
	case j.UnresponsiveSince != nil:
		return "silent since " + j.UnresponsiveSince.Format(time.TimeOnly)
	case j.Checkpoint != nil && (j.Checkpoint.Health == "late" || j.Checkpoint.Health == "failing"):
		return "saves are " + j.Checkpoint.Health
	}
	return ""
}

func nearLimit(j api.Job) string {
	for _, l := range j.Limits {
		if l.Near {
			return fmt.Sprintf("%s: %d%% used", l.Limit, int(100*min(l.Used, 1)))
		}
	}
	return ""
}

func since(t time.Time) string { return shortDuration(time.Since(t)) }

// shortDuration rounds to what people look at.
func shortDuration(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
