package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"anycloud/shared/api"
)

func (a *app) logsCommand() *cobra.Command {
	var q api.LogQuery
	var follow bool
	cmd := &cobra.Command{
		Use: "logs ID", Short: "Print a job's log, across its attempts", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if q.Attempt < 0 || q.Tail < 0 {
				return usagef("--attempt and --tail cannot be negative")
			}
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			if follow {
				shown := a.lines()
				err := c.FollowLogs(ctx, args[0], q, shown.take)
				shown.close()
				if ctx.Err() != nil {
					return &exitError{code: exitInterrupted}
				}
				return err
			}
			for {
				page, err := c.Logs(ctx, args[0], q)
				if err != nil {
					return err
				}
				for _, l := range page.Lines {
					if err := a.printLine(l); err != nil {
						return err
					}
				}
				if !page.More {
					return nil
				}
				q.After = page.Next
			}
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new lines until the job ends")
	cmd.Flags().IntVar(&q.Attempt, "attempt", 0, "only this attempt's lines")
	cmd.Flags().IntVar(&q.Tail, "tail", 0, "begin with the last lines")
	return cmd
}

// printLine writes the job's stdout to stdout and everything else to stderr;
// the agent's own lines are marked. JSON goes to stdout, a line each.
func (a *app) printLine(l api.LogLine) error {
	if a.json {
		return json.NewEncoder(a.stdout).Encode(l)
	}
	w, end := a.stdout, "\n"
	text := l.Text
	switch l.Stream {
	case "stderr":
		w = a.stderr
	case "anycloud":
		w, text = a.stderr, "[anycloud "+fmt.Sprint(l.Attempt)+"] "+text
	}
	if l.Partial {
		end = ""
	}
	_, err := fmt.Fprint(w, text+end)
	return err
}
