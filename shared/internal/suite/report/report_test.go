package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anycloud/shared/internal/suite"
)

// A module of its own, so that real events of a real go test are read.
var module = map[string]string{
	"go.mod":       "module m\n\ngo 1.26\n",
	"good/good.go": "// Package good is good.\npackage good\n",
	"good/good_test.go": `package good
import "testing"
func TestGood(t *testing.T) { t.Log("quiet") }
func TestLeft(t *testing.T) { t.Skip("no reason to run") }
`,
	"bad/bad_test.go": `package bad
import "testing"
func TestFine(t *testing.T) { t.Log("quiet") }
func TestBad(t *testing.T) { t.Error("loud") }
`,
	"broken/broken_test.go": "package broken\nvar x int = \"a word\"\n",
	"panics/panics_test.go": `package panics
import "testing"
func TestPanic(t *testing.T) { panic("out of order") }
`,
	"empty/empty.go": "// Package empty has no tests.\npackage empty\n",
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	for name, content := range module {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("GOFLAGS", "-mod=mod -vet=off")
	for _, c := range []struct {
		name     string
		args     []string
		required bool
		ok       bool
		want     []string
		absent   string
	}{
		{"all well", []string{"./good", "./empty"}, false, true,
			[]string{"ran       m/good", "no tests  m/empty", "left out  m/good TestLeft", "no reason to run"}, "quiet"},
		{"left out and required", []string{"./good"}, true, false, []string{"FAILED: ", "1 left out"}, "quiet"},
		{"a failure", []string{"./good", "./bad"}, false, false, []string{"FAILED    m/bad", "loud"}, "quiet"},
		{"no build", []string{"./broken"}, false, false, []string{"FAILED    m/broken", "a word"}, "quiet"},
		{"a panic", []string{"./panics"}, false, false, []string{"FAILED    m/panics", "out of order"}, "quiet"},
		{"no such package", []string{"./nowhere"}, false, false, nil, "quiet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			ok, err := report(c.args, c.required, &out)
			if err != nil || ok != c.ok {
				t.Errorf("ok %v, %v; want %v", ok, err, c.ok)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the output lacks %q", want)
				}
			}
			if strings.Contains(out.String(), c.absent) {
				t.Errorf("the output has %q", c.absent)
			}
			if t.Failed() {
				t.Logf("output:\n%s", &out)
			}
		})
	}
}

func TestTableOfSuites(t *testing.T) {
	var out strings.Builder
	c := newCollector(&out)
	c.packages = []pkg{{name: "p", state: "ran", skipped: []skip{{"TestA", "said by the suite"}, {"TestB", "on its own"}}}}
	left := c.table([]suite.Outcome{
		{Suite: "linux", Ran: true, Test: "TestX"},
		{Suite: "docker", Ran: false, Why: "no engine", Enable: "start it", Test: "TestA"},
	})
	if left != 2 {
		t.Errorf("%d left out, want the suite and TestB", left)
	}
	for _, want := range []string{"ran       suite linux", "left out  suite docker", "no engine; to enable: start it", "on its own"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "said by the suite") {
		t.Errorf("a test left out by a suite is listed twice:\n%s", &out)
	}
}
