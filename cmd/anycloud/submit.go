package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"anycloud/shared/api"
)

// imageArgs checks [IMAGE] [-- COMMAND...].
func imageArgs(cmd *cobra.Command, args []string, ids int) error {
	before := len(args)
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		before = dash
	}
	if before > ids+1 {
		return usagef("%q is one argument too many: put the command behind --, as in IMAGE -- COMMAND", args[ids+1])
	}
	return nil
}

func (a *app) submitCommand() *cobra.Command {
	var flags jobFlags
	var follow, dryRun bool
	var key string
	cmd := &cobra.Command{
		Use: "submit [flags] IMAGE [-- COMMAND...]", Short: "Submit a job; prints its id",
		Example: `  anycloud submit ghcr.io/acme/train:latest --spot -- python train.py
  anycloud submit exec: --spot --checkpoint-interval 10s -- ./train -epochs 100
  anycloud submit --file job.yaml --spot`,
		Args: func(cmd *cobra.Command, args []string) error { return imageArgs(cmd, args, 0) },
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if cmd.ArgsLenAtDash() == 0 && len(args) > 0 {
				if flags.file == "" {
					return usagef("the image is missing: write anycloud submit IMAGE -- COMMAND")
				}
				args = append([]string{""}, args...)
			}
			spec, _, err := flags.spec(a.getenv, args)
			if err != nil {
				return err
			}
			if spec.Image == "" && flags.file != "" && len(args) > 0 {
				return usagef("--file %s names no image", flags.file)
			}
			if spec.Image == "" {
				return usagef("the image is missing: write anycloud submit IMAGE -- COMMAND")
			}
			if !spec.Spot && (spec.PersistBucket || flags.set.Changed("checkpoint-interval") || spec.AcceptMixed) {
				a.note("note: without --spot there are no checkpoints; their flags do nothing")
			}
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			if key == "" {
				key = rand.Text() // our own repeats after a lost answer must not make two jobs
			}
			reply, err := c.Submit(ctx, api.SubmitRequest{Spec: spec, DryRun: dryRun}, key)
			if err != nil {
				return err
			}
			if dryRun {
				return a.showOffers(reply)
			}
			if reply.Repeat {
				a.note("this key was used before: the job is the first one")
			}
			if a.json {
				if err := a.printJSON(reply.Job); err != nil || !follow {
					return err
				}
			} else if _, err := fmt.Fprintln(a.stdout, reply.Job.ID); err != nil {
				return err
			}
			if follow {
				return a.follow(ctx, c, reply.Job.ID)
			}
			return nil
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "stream the job's log and exit as wait does")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show placements and prices only")
	cmd.Flags().StringVar(&key, "idempotency-key", "", "a repeat under the same key returns the first job")
	return cmd
}

func (a *app) showOffers(r api.SubmitReply) error {
	if a.json {
		return a.printJSON(map[string]any{"offers": r.Offers, "job": r.Job})
	}
	if len(r.Offers) == 0 {
		a.note("nothing has room for this job now; submitted, it would wait")
		return nil
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CLOUD\tZONE\tTYPE\tSPOT\tUSD/H\tON-DEMAND USD/H")
	for _, p := range r.Offers {
		fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%.4f\t%.4f\n", p.Cloud, p.Zone, p.Type, p.Spot, p.Price, p.List)
	}
	return w.Flush()
}

// follow streams the log to the end of the job and then answers as wait does.
func (a *app) follow(ctx context.Context, c *api.Client, id string) error {
	shown := a.lines()
	err := c.FollowLogs(ctx, id, api.LogQuery{}, shown.take)
	shown.close()
	if ctx.Err() != nil {
		a.note("\njob %s goes on: anycloud logs -f %s shows it, anycloud cancel %s ends it", id, id, id)
		return &exitError{code: exitInterrupted}
	}
	if err != nil {
		return err
	}
	return a.waitFor(ctx, c, []string{id}, 0)
}

// unreachable says whether no answer came.
func unreachable(err error) bool {
	var u *api.Unreachable
	return errors.As(err, &u)
}
