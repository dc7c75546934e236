package runtimetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"anycloud/shared/agent/runtime"
)

// ends runs a command that cannot run, twice, and returns how that was told.
func ends(t *testing.T, h Harness, command ...string) (reason string, exit runtime.Exit) {
	f := SetUp(t, h)
	for _, r := range []runtime.Runtime{f.R, f.Agent()} {
		s := h.Spec(f.Dir, "")
		s.Command = command
		err := r.Start(f.Ctx, s)
		switch {
		case errors.Is(err, runtime.ErrCommandNotFound):
			reason = runtime.ReasonCommandNotFound
		case errors.Is(err, runtime.ErrNotExecutable):
			reason = runtime.ReasonNotExecutable
		case err != nil:
			t.Fatal(err)
		}
		exit, err = r.Wait(f.Ctx)
		f.Must(err)
		if reason != "" && reason != exit.Reason {
			t.Errorf("start says %s, exit %+v", reason, exit)
		}
	}
	return exit.Reason, exit
}

func testCommandNotFound(t *testing.T, h Harness) {
	for _, command := range []string{"no-such-command", "/no/such/command", "./no-such-command"} {
		if reason, exit := ends(t, h, command, "arg"); reason != runtime.ReasonCommandNotFound || exit.Code != 127 {
			t.Errorf("%s: %+v", command, exit)
		}
	}
}

func testNotExecutable(t *testing.T, h Harness) {
	if reason, exit := ends(t, h, "/etc/passwd"); reason != runtime.ReasonNotExecutable || exit.Code != 126 {
		t.Errorf("exit: %+v", exit)
	}
}

// A shell's 127 is the job's own exit code.
func testShellNotFound(t *testing.T, h Harness) {
	if reason, exit := ends(t, h, "sh", "-c", "no-such-command"); reason != "" || exit.Code != 127 || !exit.ByItself {
		t.Errorf("exit: %+v", exit)
	}
}

func testLongLine(t *testing.T, h Harness) {
	f := SetUp(t, h)
	f.Start(`echo before; head -c 1000000 /dev/zero | tr '\0' x; echo; echo after`)
	f.Wait()
	if out := f.Printed(runtime.Stdout); out != "before\n"+strings.Repeat("x", 1_000_000)+"\nafter\n" {
		t.Errorf("%d bytes", len(out))
	}
	lines, _ := f.Logs(f.R, 0)
	for _, l := range lines {
		if len(l.Text) > runtime.MaxText {
			t.Errorf("a piece of %d bytes", len(l.Text))
		}
	}
}

// Agents come and go while the container prints.
func testManyLines(t *testing.T, h Harness) {
	const n = 20_000
	f := SetUp(t, h)
	f.Start(fmt.Sprintf("seq 1 %d", n))
	var offset int64
	next := 1
	for next <= n {
		r := f.Agent()
		lines, to, err := r.ReadLogs(f.Ctx, offset, 777)
		f.Must(err)
		for _, l := range lines {
			if string(l.Text) != fmt.Sprint(next) {
				t.Fatalf("line %d is %q", next, l.Text)
			}
			next++
		}
		f.Must(r.Discard(f.Ctx, to))
		offset = to
		f.Must(f.Ctx.Err())
	}
	f.Wait()
	if lines, _ := f.Logs(f.R, offset); len(lines) != 0 {
		t.Errorf("%d lines more than were printed", len(lines))
	}
}

func testNoNewline(t *testing.T, h Harness) {
	f := SetUp(t, h)
	f.Start("printf one; printf two >&2")
	f.Wait()
	// To an engine it may look like a piece of a line that nothing continues.
	out, err := strings.TrimSuffix(f.Printed(runtime.Stdout), "\n"), strings.TrimSuffix(f.Printed(runtime.Stderr), "\n")
	if out != "one" || err != "two" {
		t.Errorf("printed %q and %q", out, err)
	}
}
