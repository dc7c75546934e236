// Package suite says which of the machine's abilities a test needs beyond Go
// itself, such as a container engine or root.
//
// A test that calls [Need] is left out where the ability is absent, with the
// command that would enable it. Left out must never mean unnoticed: every
// outcome is written down for the report at the end of `make test`, and under
// ANYCLOUD_REQUIRE_SUITES=all, as in CI, an absent ability is a failure.
package suite

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The environment that `make test` and CI set. It is read here and not handed
// in, because the test binaries of all packages share it and have no main of
// their own.
const (
	// EnvRequire, when set to "all", makes Need fail where it would skip.
	EnvRequire = "ANYCLOUD_REQUIRE_SUITES"
	// EnvReport names the file to which every outcome is appended as one line
	// of JSON (an [Outcome]); unset, nothing is recorded.
	EnvReport = "ANYCLOUD_SUITE_REPORT"
)

// Outcome is what became of one need of one test.
type Outcome struct {
	Suite  string `json:"suite"`
	Ran    bool   `json:"ran"`
	Why    string `json:"why,omitempty"`    // why it was left out
	Enable string `json:"enable,omitempty"` // the command that would enable it
	Test   string `json:"test,omitempty"`
}

// Need returns if this machine has the named ability ("docker", "root",
// "linux", ...; see probes.go for all) and skips the test otherwise. It fails
// the test instead if all suites are required, or if the name is unknown.
func Need(t testing.TB, name string) {
	t.Helper()
	p, ok := probes[name]
	if !ok {
		t.Fatalf("suite %q is unknown; there are %s", name, strings.Join(Names(), ", "))
	}
	need(t, name, p, os.Getenv(EnvRequire) == "all", os.Getenv(EnvReport))
}

// Probe looks for the named ability outside of a test. It returns nil if it is
// there; the error says why not, and how to enable it.
func Probe(name string) error {
	p, ok := probes[name]
	if !ok {
		return fmt.Errorf("suite %q is unknown; there are %s", name, strings.Join(Names(), ", "))
	}
	if err := p.result(); err != nil {
		return fmt.Errorf("%w; to enable: %s", err, p.enable)
	}
	return nil
}

// Names lists the known suites in alphabetical order.
func Names() []string {
	var names []string
	for name := range probes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// need is Need with everything it would read from outside handed in.
func need(t testing.TB, name string, p *probe, required bool, report string) {
	t.Helper()
	o := Outcome{Suite: name, Test: t.Name(), Ran: true}
	if err := p.result(); err != nil {
		o.Ran, o.Why, o.Enable = false, err.Error(), p.enable
	}
	if err := record(report, o); err != nil {
		t.Errorf("record the outcome of suite %s: %v", name, err)
	}
	switch {
	case o.Ran:
	case required:
		t.Fatalf("suite %s is required (%s=all) and absent: %s; to enable it: %s", name, EnvRequire, o.Why, o.Enable)
	default:
		t.Skipf("suite %s left out: %s; to enable it: %s", name, o.Why, o.Enable)
	}
}

// record appends o to the report. One write of one short line with O_APPEND
// keeps the lines of test binaries that run at the same time apart.
func record(path string, o Outcome) error {
	if path == "" {
		return nil
	}
	line, err := json.Marshal(o)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// A probe looks once per process whether an ability is there.
type probe struct {
	enable string
	look   func() error // nil: there; else why not

	once sync.Once
	err  error
}

func (p *probe) result() error {
	p.once.Do(func() { p.err = p.look() })
	return p.err
}
