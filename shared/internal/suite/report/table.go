package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"anycloud/shared/internal/suite"
)

// table prints a line per package and per suite, and returns how many suites
// and single tests were left out.
func (c *collector) table(needs []suite.Outcome) int {
	fmt.Fprint(c.out, "\n")
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	slices.SortFunc(c.packages, func(a, b pkg) int { return strings.Compare(a.name, b.name) })
	for _, p := range c.packages {
		if p.state == "no tests" {
			fmt.Fprintf(w, "%s\t%s\t\n", p.state, p.name)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%d tests in %.1f s\n", p.state, p.name, p.tests, p.seconds)
	}

	left, explained := 0, map[string]bool{}
	for _, s := range bySuite(needs) {
		if len(s.left) == 0 {
			fmt.Fprintf(w, "ran\tsuite %s\t%d tests\n", s.name, s.ran)
			continue
		}
		left++
		for _, o := range s.left {
			explained[o.Test] = true
		}
		fmt.Fprintf(w, "left out\tsuite %s\t%d tests: %s; to enable: %s\n", s.name, len(s.left), s.left[0].Why, s.left[0].Enable)
	}
	// Tests that skipped by themselves have no suite to answer for them.
	for _, p := range c.packages {
		for _, s := range p.skipped {
			if !explained[s.test] {
				left++
				fmt.Fprintf(w, "left out\t%s %s\t%s\n", p.name, s.test, s.why)
			}
		}
	}
	return left
}

// need is one suite and what became of the tests that need it.
type need struct {
	name string
	ran  int
	left []suite.Outcome
}

func bySuite(all []suite.Outcome) []need {
	m := map[string]need{}
	for _, o := range all {
		n := m[o.Suite]
		n.name = o.Suite
		if o.Ran {
			n.ran++
		} else {
			n.left = append(n.left, o)
		}
		m[o.Suite] = n
	}
	return slices.SortedFunc(maps.Values(m), func(a, b need) int { return strings.Compare(a.name, b.name) })
}
