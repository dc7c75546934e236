package main

import (
	"github.com/spf13/cobra"

	"anycloud/shared/api"
	"anycloud/shared/job"
)

func (a *app) preemptCommand() *cobra.Command {
	var notice string
	cmd := &cobra.Command{
		Use: "preempt ID", Short: "Drill: let the cloud take the job's VM", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var r api.PreemptRequest
			if notice != "" {
				d, err := parseDuration("notice", notice)
				if err != nil {
					return err
				}
				n := job.Duration(d)
				r.Notice = &n
			}
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			j, err := c.Preempt(cmd.Context(), args[0], r)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(j)
			}
			a.note("%s: the VM of attempt %d is being preempted", j.ID, j.Attempt)
			return nil
		},
	}
	cmd.Flags().StringVar(&notice, "notice", "", "warning before the VM is taken (default 10s; 0s: none)")
	return cmd
}
