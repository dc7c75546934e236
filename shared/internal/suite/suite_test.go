package suite

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// fakeT records what a test was told, and ends its goroutine as testing does.
type fakeT struct {
	testing.TB
	skipped, failed string
}

func (f *fakeT) Helper()      {}
func (f *fakeT) Name() string { return "TestX" }
func (f *fakeT) Skipf(format string, a ...any) {
	f.skipped = fmt.Sprintf(format, a...)
	runtime.Goexit()
}
func (f *fakeT) Fatalf(format string, a ...any) {
	f.failed = fmt.Sprintf(format, a...)
	runtime.Goexit()
}
func (f *fakeT) Errorf(format string, a ...any) { f.failed = fmt.Sprintf(format, a...) }

// told runs fn as testing would run a test.
func told(fn func(t testing.TB)) *fakeT {
	f := &fakeT{}
	var wg sync.WaitGroup
	wg.Go(func() { fn(f) })
	wg.Wait()
	return f
}

func absent() *probe {
	return &probe{enable: "make it so", look: func() error { return errors.New("not here") }}
}

func TestNeed(t *testing.T) {
	there := &probe{look: func() error { return nil }}
	if f := told(func(t testing.TB) { need(t, "x", there, true, "") }); f.skipped+f.failed != "" {
		t.Errorf("an ability that is there: skipped %q, failed %q", f.skipped, f.failed)
	}
	f := told(func(t testing.TB) { need(t, "x", absent(), false, "") })
	if !strings.Contains(f.skipped, "not here") || !strings.Contains(f.skipped, "make it so") || f.failed != "" {
		t.Errorf("absent: skipped %q, failed %q", f.skipped, f.failed)
	}
	f = told(func(t testing.TB) { need(t, "x", absent(), true, "") })
	if !strings.Contains(f.failed, "make it so") || f.skipped != "" {
		t.Errorf("absent and required: skipped %q, failed %q", f.skipped, f.failed)
	}
	f = told(func(t testing.TB) { Need(t, "no-such-suite") })
	if !strings.Contains(f.failed, "docker") {
		t.Errorf("an unknown suite should fail and list the known ones, got %q", f.failed)
	}
}

func TestOutcomesAreAppended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { told(func(t testing.TB) { need(t, "x", absent(), false, path) }) })
	}
	wg.Wait()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 20 {
		t.Fatalf("%d lines, want 20", len(lines))
	}
	for _, line := range lines {
		var o Outcome
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatal(err)
		}
		if want := (Outcome{Suite: "x", Why: "not here", Enable: "make it so", Test: "TestX"}); o != want {
			t.Fatalf("got %+v, want %+v", o, want)
		}
	}
}

func TestUnwritableReportIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no", "such", "dir")
	there := &probe{look: func() error { return nil }}
	if f := told(func(t testing.TB) { need(t, "x", there, false, path) }); f.failed == "" {
		t.Error("an outcome that cannot be recorded should fail the test")
	}
}

func TestEveryProbe(t *testing.T) {
	for _, name := range Names() {
		p := probes[name]
		if p.enable == "" {
			t.Errorf("%s: no command that would enable it", name)
		}
		if a, b := Probe(name), p.result(); (a == nil) != (b == nil) {
			t.Errorf("%s: Probe says %v, the probe %v", name, a, b)
		}
	}
	if err := Probe("no-such-suite"); err == nil || !strings.Contains(err.Error(), "docker") {
		t.Errorf("an unknown suite: %v", err)
	}
}

func TestPingDocker(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	host := "unix://" + l.Addr().String()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/_ping" {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprint(w, "OK")
		}
	})}
	go srv.Serve(l)
	if err := pingDocker(host); err != nil {
		t.Errorf("an engine that answers: %v", err)
	}
	srv.Close()
	if err := pingDocker(host); err == nil {
		t.Error("a socket without an engine passed for one")
	}
	if err := pingDocker("ssh://host"); err == nil {
		t.Error("an unprobed scheme passed for an engine")
	}
}
