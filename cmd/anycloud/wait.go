package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"anycloud/shared/api"
	"anycloud/shared/job"
)

func (a *app) waitCommand() *cobra.Command {
	var timeout string
	cmd := &cobra.Command{
		Use: "wait ID...", Short: "Wait until jobs have ended", Args: cobra.MinimumNArgs(1),
		Long: `Waits until all the jobs have ended.

Exit codes: 0 all succeeded, 1 one failed or was cancelled, 3 not observable,
4 time-out, 130 interrupted.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var limit time.Duration
			if timeout != "" {
				var err error
				if limit, err = parseDuration("timeout", timeout); err != nil {
					return err
				}
			}
			c, err := a.connect(cmd.Context())
			if err != nil {
				return &exitError{exitUnknown, err}
			}
			return a.waitFor(cmd.Context(), c, args, limit)
		},
	}
	cmd.Flags().StringVar(&timeout, "timeout", "", "give up after this long (exit 4)")
	return cmd
}

// lookEvery is how often a waiting command asks.
const lookEvery = 200 * time.Millisecond

// patience is how long a control plane may be out of reach while we wait.
const patience = 30 * time.Second

func (a *app) waitFor(ctx context.Context, c *api.Client, ids []string, limit time.Duration) error {
	var expired <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		expired = t.C
	}
	ended := map[string]api.Job{}
	answered := time.Now()
	for {
		for _, id := range ids {
			if _, done := ended[id]; done {
				continue
			}
			j, err := c.Get(ctx, id)
			switch {
			case ctx.Err() != nil:
				return &exitError{code: exitInterrupted}
			case api.CodeOf(err) == api.CodeNotFound:
				return &exitError{exitUnknown, err}
			case err != nil && time.Since(answered) > patience:
				return &exitError{exitUnknown, err}
			case err != nil:
				continue
			}
			answered = time.Now()
			if j.State.Terminal() {
				ended[id] = j
			}
		}
		if len(ended) >= countDistinct(ids) {
			return a.verdict(ids, ended)
		}
		select {
		case <-ctx.Done():
			return &exitError{code: exitInterrupted}
		case <-expired:
			return &exitError{exitTimeout, errors.New("the time is up and jobs go on: wait again, or look with anycloud status")}
		case <-time.After(lookEvery):
		}
	}
}

func countDistinct(ids []string) int {
	seen := map[string]bool{}
	for _, id := range ids {
		seen[id] = true
	}
	return len(seen)
}

// verdict tells how the jobs ended.
func (a *app) verdict(ids []string, ended map[string]api.Job) error {
	code := 0
	jobs := []api.Job{}
	for _, id := range ids {
		j := ended[id]
		jobs = append(jobs, j)
		if j.State != job.Succeeded {
			code = exitFailed
			reason := string(j.Reason)
			if j.Message != "" {
				reason += ": " + j.Message
			}
			a.note("%s %s (%s)", j.ID, j.State, reason)
		}
	}
	if a.json {
		if err := a.printJSON(jobs); err != nil {
			return err
		}
	}
	if code != 0 {
		return &exitError{code: code}
	}
	return nil
}
