// Report runs the tests and says at the end what ran and what was left out.
//
//	go run ./shared/internal/suite/report [GO TEST FLAGS] PACKAGES
//
// It calls `go test -json -count=1`, prints a line per package as it ends, the
// output of what failed, and a table with a line per suite: each package, and
// each ability of the machine that some test needed, with the command that
// would enable what was left out. Results are never taken from the test cache,
// because they depend on the machine, which the cache does not know.
//
// It exits 1 if a test failed, or if ANYCLOUD_REQUIRE_SUITES=all is set and
// anything at all was left out; 2 if it could not run the tests.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"anycloud/shared/internal/suite"
)

func main() {
	// Ctrl-C reaches go test too; this waits for it and still prints the table.
	// Ignoring the signal instead would be inherited by go test.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	ok, err := report(os.Args[1:], os.Getenv(suite.EnvRequire) == "all", os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// report runs go test with args and reports whether all is well.
func report(args []string, required bool, out io.Writer) (bool, error) {
	dir, err := os.MkdirTemp("", "anycloud-suites")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	outcomes := filepath.Join(dir, "outcomes")

	cmd := exec.Command("go", append([]string{"test", "-json", "-count=1"}, args...)...)
	cmd.Env = append(os.Environ(), suite.EnvReport+"="+outcomes)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	c := newCollector(out)
	readErr := c.read(pipe)
	waitErr := cmd.Wait()
	var exit *exec.ExitError
	if waitErr != nil && !errors.As(waitErr, &exit) {
		return false, waitErr
	}
	if readErr != nil {
		return false, fmt.Errorf("read the tests' events: %w", readErr)
	}

	needs, err := readOutcomes(outcomes)
	if err != nil {
		return false, fmt.Errorf("read the suites' outcomes: %w", err)
	}
	left := c.table(needs)
	if len(c.packages) == 0 && waitErr == nil {
		return false, errors.New("go test named no package")
	}
	ok := waitErr == nil && c.failed == 0
	if required && left > 0 {
		fmt.Fprintf(out, "FAILED: %s=all, and %d left out\n", suite.EnvRequire, left)
		ok = false
	}
	return ok, nil
}

func readOutcomes(path string) ([]suite.Outcome, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no test needed anything
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []suite.Outcome
	for s := bufio.NewScanner(f); s.Scan(); {
		var o suite.Outcome
		if err := json.Unmarshal(s.Bytes(), &o); err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}
