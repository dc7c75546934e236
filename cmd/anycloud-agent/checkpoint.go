package main

import (
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"anycloud/shared/setup/agent"
)

// checkpointCommand is the engine by itself.
func checkpointCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "checkpoint", Short: "Save and restore directories as atomic commits"}
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON only")
	show := func(v any, text func()) error {
		if asJSON {
			e := json.NewEncoder(os.Stdout)
			e.SetIndent("", "  ")
			return e.Encode(v)
		}
		text()
		return nil
	}
	cmd.AddCommand(saveCommand(show), restoreCommand(show), lsCommand(show), verifyCommand(show), pruneCommand(show))
	return cmd
}

type shower func(v any, text func()) error

func saveCommand(show shower) *cobra.Command {
	var attempt, freeze int
	var pause time.Duration
	var state string
	cmd := &cobra.Command{
		Use: "save DIR URL", Short: "Commit what DIR holds at one moment", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if attempt < 0 || freeze < 0 {
				return &exitError{2, fmt.Errorf("--attempt and --freeze cannot be negative")}
			}
			progress, done := progressBar("saving")
			r, err := agent.SaveOnce(cmd.Context(), args[0], args[1], state, attempt, freeze, pause, progress)
			done()
			if err != nil {
				return err
			}
			for _, w := range r.Warnings {
				fmt.Fprintln(os.Stderr, "anycloud-agent: "+w)
			}
			out := map[string]any{"commit": r.Number, "committed": r.Committed, "clean": r.Clean, "captured_at": r.CapturedAt, "files": r.Files,
				"bytes": r.Bytes, "sent_bytes": r.SentBytes, "pause_seconds": r.Pause.Seconds()}
			return show(out, func() {
				if !r.Committed {
					fmt.Printf("nothing changed since commit %d\n", r.Number)
					return
				}
				kind := "clean"
				if !r.Clean {
					kind = "mixed"
				}
				fmt.Printf("commit %d, %s: %d files, %s; sent %s\n", r.Number, kind, r.Files, humanize.IBytes(uint64(r.Bytes)), humanize.IBytes(uint64(r.SentBytes)))
			})
		},
	}
	cmd.Flags().IntVar(&attempt, "attempt", 0, "the attempt that commits; lower ones are fenced (default: the newest in the log)")
	cmd.Flags().IntVar(&freeze, "freeze", 0, "the process whose tree may be frozen for a moment")
	cmd.Flags().StringVar(&state, "state", "", "a directory that remembers between saves what was read and sent (default: nothing is remembered)")
	cmd.Flags().DurationVar(&pause, "max-pause", 200*time.Millisecond, "longest freeze")
	return cmd
}

func restoreCommand(show shower) *cobra.Command {
	var at int
	cmd := &cobra.Command{
		Use: "restore URL DIR", Short: "Make DIR hold exactly what a commit does", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if at < 0 {
				return &exitError{2, fmt.Errorf("--at must be a commit's number")}
			}
			progress, done := progressBar("restoring")
			r, err := agent.RestoreOnce(cmd.Context(), args[0], args[1], at, progress)
			done()
			if err != nil {
				return err
			}
			if r.Number == 0 {
				return fmt.Errorf("there is no commit in %s", args[0])
			}
			for _, f := range r.Fallbacks {
				fmt.Fprintln(os.Stderr, "anycloud-agent: "+f)
			}
			out := map[string]any{"commit": r.Number, "attempt": r.Attempt, "clean": r.Clean, "captured_at": r.CapturedAt, "files": r.Files, "bytes": r.Bytes, "fallbacks": r.Fallbacks}
			return show(out, func() {
				fmt.Printf("restored commit %d: %d files, %s\n", r.Number, r.Files, humanize.IBytes(uint64(r.Bytes)))
			})
		},
	}
	cmd.Flags().IntVar(&at, "at", 0, "the commit's number (default: the newest clean one)")
	return cmd
}

// progressBar shows bytes done, to people only.
func progressBar(what string) (func(done, total int64), func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil, func() {}
	}
	p := mpb.New(mpb.WithOutput(os.Stderr), mpb.WithWidth(60))
	bar := p.AddBar(0, mpb.PrependDecorators(decor.Name(what+" ")), mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f")), mpb.BarRemoveOnComplete())
	return func(done, total int64) {
			bar.SetTotal(total, false)
			bar.SetCurrent(done)
		}, func() {
			bar.SetTotal(-1, true)
			p.Wait()
		}
}

func lsCommand(show shower) *cobra.Command {
	return &cobra.Command{
		Use: "ls URL", Short: "List commits", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cs, err := agent.List(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return show(cs, func() {
				w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "COMMIT\tATTEMPT\tCAPTURED\tKIND\tFILES\tSIZE")
				for _, c := range cs {
					kind := "clean"
					if !c.Clean {
						kind = "mixed"
					}
					if c.Sealed {
						kind += ", sealed"
					}
					if c.Pruned {
						kind += ", pruned"
					}
					fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%d\t%s\n", c.Number, c.Attempt, c.CapturedAt.Local().Format(time.DateTime), kind, c.Files, humanize.IBytes(uint64(max(0, c.Bytes))))
				}
				w.Flush() //nolint:errcheck // nobody reads
			})
		},
	}
}

func verifyCommand(show shower) *cobra.Command {
	return &cobra.Command{
		Use: "verify URL", Short: "Read every byte that commits hold, and check it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			vs, err := agent.Verify(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			bad := 0
			for _, v := range vs {
				if v.Problem != "" {
					bad++
				}
			}
			err = show(vs, func() {
				for _, v := range vs {
					state := "ok"
					if v.Pruned {
						state = "pruned"
					}
					if v.Problem != "" {
						state = v.Problem
					}
					fmt.Printf("commit %d: %s\n", v.Number, state)
				}
			})
			if err == nil && bad > 0 {
				err = &exitError{1, fmt.Errorf("%d commits are damaged: restore goes back to the one before", bad)}
			}
			return err
		},
	}
}

func pruneCommand(show shower) *cobra.Command {
	return &cobra.Command{
		Use: "prune URL", Short: "Let go of packs that no commit worth keeping needs", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := agent.Prune(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return show(map[string]int{"deleted": n}, func() { fmt.Printf("deleted %d packs\n", n) })
		},
	}
}
