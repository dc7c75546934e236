package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"anycloud/shared/api"
)

func (a *app) doctorCommand() *cobra.Command {
	var fix bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what is wrong, and mend it (--fix asks first)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			r, err := c.Doctor(cmd.Context(), nil)
			if err != nil {
				return err
			}
			if fix {
				var ids []string
				answers := bufio.NewReader(a.stdin)
				for _, k := range r.Checks {
					if k.Fixable && a.ask(answers, k) {
						ids = append(ids, k.ID)
					}
				}
				if len(ids) > 0 {
					if r, err = c.Doctor(cmd.Context(), ids); err != nil {
						return err
					}
				}
			}
			if a.json {
				err = a.printJSON(r)
			} else {
				a.showChecks(r)
			}
			for _, k := range r.Checks {
				if k.Level == "error" && err == nil {
					err = &exitError{code: exitFailed}
				}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&fix, "fix", false, "mend what can be mended, after asking")
	return cmd
}

// ask wants a yes for everything that destroys something.
func (a *app) ask(answers *bufio.Reader, k api.DoctorCheck) bool {
	fmt.Fprintf(a.stderr, "%s\n  %s: do it? [y/N] ", k.What, k.Do)
	line, _ := answers.ReadString('\n')
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes"
}

func (a *app) showChecks(r api.DoctorReport) {
	colours := map[string]string{"ok": "32", "warning": "33", "error": "31"}
	for _, k := range r.Checks {
		fmt.Fprintf(a.stdout, "%s  %s\n", a.colour(colours[k.Level], fmt.Sprintf("%-7s", k.Level)), k.What)
		if k.Do != "" {
			fmt.Fprintf(a.stdout, "         %s\n", k.Do)
		}
	}
}
