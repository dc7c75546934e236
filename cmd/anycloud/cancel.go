package main

import (
	"errors"

	"github.com/spf13/cobra"

	"anycloud/shared/api"
	"anycloud/shared/job"
)

func (a *app) cancelCommand() *cobra.Command {
	var now bool
	cmd := &cobra.Command{
		Use: "cancel ID...", Short: "End jobs: SIGTERM, grace, final commit; on an ended job: release its kept VM", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			var errs []error
			jobs := []api.Job{}
			for _, id := range args {
				// What we see guards what we do: a job that was resubmitted
				// meanwhile is another run, and not ours to cancel.
				seen, err := c.Get(ctx, id)
				if err == nil {
					var j api.Job
					j, err = c.Cancel(ctx, id, seen.Revision, api.CancelRequest{Now: now})
					for tries := 0; tries < 5 && (api.CodeOf(err) == api.CodeStale || unreachable(err)); tries++ {
						run := seen.Run
						if seen, err = c.Get(ctx, id); err != nil || seen.Run != run {
							break
						}
						j, err = c.Cancel(ctx, id, seen.Revision, api.CancelRequest{Now: now})
					}
					if err == nil {
						jobs = append(jobs, j)
						a.tellCancel(seen, j)
					}
				}
				errs = append(errs, err)
			}
			if a.json {
				errs = append(errs, a.printJSON(jobs))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVar(&now, "now", false, "at once, without a final commit")
	return cmd
}

func (a *app) tellCancel(before, after api.Job) {
	switch {
	case before.State.Terminal() && len(before.Kept) > 0:
		a.note("%s: its kept VM goes", after.ID)
	case before.State.Terminal():
		a.note("%s has ended already (%s)", after.ID, after.State)
	case after.State == job.Stopping:
		a.note("%s is stopping", after.ID)
	}
}
