package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is what `go test -json` prints; `go doc test2json` describes it.
type event struct {
	Action      string
	Package     string
	Test        string
	ImportPath  string // of build-output
	Output      string
	FailedBuild string
	Elapsed     float64 // seconds
}

// testID names one test of one package; Test is empty for the package itself.
type testID struct{ Package, Test string }

// pkg is what became of one package.
type pkg struct {
	name    string
	state   string // ran, FAILED or no tests
	seconds float64
	tests   int // top-level tests that ran
	skipped []skip
}

type skip struct{ test, why string }

// collector turns events into packages, printing as it goes.
type collector struct {
	out      io.Writer
	output   map[testID][]string // of tests not ended yet, or failed
	skips    map[string][]skip   // by package
	tests    map[string]int      // by package
	build    map[string][]string // the compiler's words, by import path
	packages []pkg
	failed   int
}

func newCollector(out io.Writer) *collector {
	return &collector{out: out, output: map[testID][]string{}, skips: map[string][]skip{},
		tests: map[string]int{}, build: map[string][]string{}}
}

// read takes events until r ends. Lines that are no event, which the go command
// prints when it cannot even load a package, are passed on.
func (c *collector) read(r io.Reader) error {
	br := bufio.NewReader(r)
	for {
		line, err := br.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil || e.Action == "" {
				fmt.Fprintf(c.out, "%s\n", bytes.TrimSpace(line))
			} else {
				c.take(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *collector) take(e event) {
	id := testID{e.Package, e.Test}
	switch {
	case e.Action == "build-output":
		c.build[e.ImportPath] = append(c.build[e.ImportPath], e.Output)
	case e.Action == "output":
		c.output[id] = append(c.output[id], e.Output)
	case e.Test == "" && slices.Contains([]string{"pass", "fail", "skip"}, e.Action):
		c.ended(e)
	case e.Action == "pass":
		delete(c.output, id)
		c.count(e)
	case e.Action == "fail":
		c.count(e)
	case e.Action == "skip":
		c.skips[e.Package] = append(c.skips[e.Package], skip{e.Test, reason(c.output[id])})
		delete(c.output, id)
	}
}

func (c *collector) count(e event) {
	if !strings.Contains(e.Test, "/") {
		c.tests[e.Package]++
	}
}

// ended prints a package's line, and all that was not a pass if it failed.
func (c *collector) ended(e event) {
	p := pkg{name: e.Package, state: "ran", seconds: e.Elapsed, tests: c.tests[e.Package], skipped: c.skips[e.Package]}
	switch e.Action {
	case "skip":
		p.state = "no tests"
	case "fail":
		p.state = "FAILED"
		c.failed++
		for _, line := range c.build[e.FailedBuild] {
			fmt.Fprint(c.out, line)
		}
		c.printOutput(e.Package)
	}
	fmt.Fprintf(c.out, "%-8s  %s  %.1f s\n", p.state, p.name, p.seconds)
	c.packages = append(c.packages, p)
}

// printOutput prints what a failed package's tests said: the failed ones, and
// those that a panic or a time-out left without an end.
func (c *collector) printOutput(name string) {
	var ids []testID
	for id := range c.output {
		if id.Package == name {
			ids = append(ids, id)
		}
	}
	// The package's own output (panics, the final FAIL) comes last.
	slices.SortFunc(ids, func(a, b testID) int {
		if (a.Test == "") != (b.Test == "") {
			return strings.Compare(b.Test, a.Test)
		}
		return strings.Compare(a.Test, b.Test)
	})
	for _, id := range ids {
		for _, line := range c.output[id] {
			if !strings.HasPrefix(line, "=== ") {
				fmt.Fprint(c.out, line)
			}
		}
		delete(c.output, id)
	}
}

// reason finds what a skipped test said.
func reason(output []string) string {
	var words []string
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		words = append(words, line)
	}
	if len(words) == 0 {
		return "no reason given"
	}
	return strings.Join(words, " ")
}
