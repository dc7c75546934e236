package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"anycloud/shared/api"
)

func (a *app) resubmitCommand() *cobra.Command {
	var flags jobFlags
	var fresh, follow bool
	cmd := &cobra.Command{
		Use: "resubmit ID [flags] [IMAGE] [-- COMMAND...]", Short: "Start an ended job again, from its retained bucket",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || cmd.ArgsLenAtDash() == 0 {
				return usagef("the job's id is missing")
			}
			return imageArgs(cmd, args, 1)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			id, rest := args[0], args[1:]
			command := false
			if dash := cmd.ArgsLenAtDash(); dash == 1 && len(rest) > 0 {
				rest, command = append([]string{""}, rest...), true // a command without an image
			}
			spec, given, err := flags.spec(a.getenv, rest)
			if err != nil {
				return err
			}
			if command {
				given = without(given, "image")
			}
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			seen, err := c.Get(ctx, id)
			if err != nil {
				return err
			}
			r := api.ResubmitRequest{Fresh: fresh, Set: given}
			if len(given) > 0 {
				r.Spec = &spec
			}
			j, err := c.Resubmit(ctx, id, seen.Revision, r)
			if unreachable(err) {
				// Done, perhaps, and not answered: the run's number tells.
				if now, gerr := c.Get(ctx, id); gerr == nil && now.Run == seen.Run+1 {
					j, err = now, nil
				}
			}
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(j)
			} else {
				_, err = fmt.Fprintln(a.stdout, j.ID)
			}
			if err == nil && follow {
				return a.follow(ctx, c, id)
			}
			return err
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().BoolVar(&fresh, "fresh", false, "start without the retained checkpoints")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "stream the job's log and exit as wait does")
	return cmd
}

func without(names []string, name string) []string {
	var out []string
	for _, n := range names {
		if n != name {
			out = append(out, n)
		}
	}
	return out
}
