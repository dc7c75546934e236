package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestParse(t *testing.T) {
	env := func(kv ...string) func(string) string {
		return func(k string) string {
			for i := 0; i < len(kv); i += 2 {
				if kv[i] == k {
					return kv[i+1]
				}
			}
			return ""
		}
	}
	o, err := parse(nil, env(), io.Discard)
	if want := (options{epochs: 60, seed: 1, checkpointDir: "/mnt/checkpoint"}); err != nil || o != want {
		t.Errorf("no flags, no environment: %+v, %v; want %+v", o, err, want)
	}
	o, err = parse([]string{"-epochs=3", "-epoch-time=1s", "-seed=9"},
		env("ANYCLOUD_CHECKPOINT_DIR", "/c", "ANYCLOUD_OUTPUT_DIR", "/o"), io.Discard)
	if want := (options{3, time.Second, 9, "/c", "/o"}); err != nil || o != want {
		t.Errorf("got %+v, %v; want %+v", o, err, want)
	}
	for _, bad := range []string{"-epochs=0", "-epochs=x", "-epoch-time=-1s", "-seed=-1", "-nope", "more"} {
		if _, err := parse([]string{bad}, env(), io.Discard); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestWholeRunReachesItsAccuracy(t *testing.T) {
	o := options{epochs: 60, seed: 1, checkpointDir: t.TempDir(), outputDir: t.TempDir()}
	out := train(t, o)
	for _, want := range []string{`(?m)^epoch 1/60 loss \d\.\d{4} accuracy \d\d\.\d%$`, `(?m)^epoch 60/60 `,
		`(?m)^done: 60 epochs, test accuracy 9\d\.\d% \(\d+ of 359\)$`, `(?m)^weights sha256 [0-9a-f]{64}$`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the output lacks %s:\n%s", want, out)
		}
	}
	b, err := os.ReadFile(filepath.Join(o.outputDir, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if r.Accuracy <= 0.95 || r.Of != 359 || r.Epochs != 60 || !strings.Contains(out, r.SHA256) {
		t.Errorf("result.json: %+v", r)
	}
}

// TestInterruptedRunEqualsUndisturbed stops a run at several epochs by SIGTERM
// and once by losing what was not saved, and compares the bits.
func TestInterruptedRunEqualsUndisturbed(t *testing.T) {
	whole := options{epochs: 6, seed: 7, checkpointDir: t.TempDir()}
	want := train(t, whole)

	parts := options{epochs: 6, seed: 7, checkpointDir: t.TempDir()}
	var got strings.Builder
	for _, stopAfter := range []string{"epoch 1/", "epoch 4/"} {
		ctx, cancel := context.WithCancel(t.Context())
		err := run(ctx, parts, &watcher{&got, stopAfter, cancel})
		if !errors.Is(err, errStopped) {
			t.Fatalf("stopped run returned %v", err)
		}
	}
	// A crash in the middle of an epoch leaves the state before it, and maybe
	// half of a temporary file.
	if err := os.WriteFile(statePath(parts.checkpointDir)+".tmp", []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	got.WriteString(train(t, parts))

	if g, w := epochs(got.String()), epochs(want); g != w {
		t.Errorf("interrupted:\n%s\nundisturbed:\n%s", g, w)
	}
	a, b := readState(t, whole), readState(t, parts)
	if !bytes.Equal(a, b) {
		t.Error("the final states differ")
	}
	// Nothing is left to do: the same end again, no epoch repeated.
	if again := train(t, parts); strings.Contains(again, "epoch 6/6") || !strings.Contains(again, "done: 6 epochs") {
		t.Errorf("a finished run started again printed:\n%s", again)
	}
}

func TestStopDuringTheWaitSavesTheEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options{epochs: 3, epochTime: time.Minute, seed: 1, checkpointDir: t.TempDir()}
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		begin := time.Now()
		var out bytes.Buffer
		if err := run(ctx, o, &out); !errors.Is(err, errStopped) {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(begin); took != 90*time.Second {
			t.Errorf("took %v: one whole minute and the second cut at 30 s should be 90 s", took)
		}
		s, err := open(o.checkpointDir, 1)
		if err != nil || s.Epoch != 2 || !strings.Contains(out.String(), "epoch 2/3") {
			t.Errorf("state %+v, %v; output:\n%s", s, err, &out)
		}
	})
}

func TestLineComesBeforeState(t *testing.T) {
	o := options{epochs: 2, seed: 1, checkpointDir: t.TempDir()}
	broken := errors.New("no room")
	var lines int
	err := run(t.Context(), o, writerFunc(func(p []byte) (int, error) {
		if strings.HasPrefix(string(p), "epoch 1/") {
			if _, err := os.Stat(statePath(o.checkpointDir)); err == nil {
				t.Error("the state was saved before its line was printed")
			}
			lines++
		}
		return len(p), broken
	}))
	if err != nil || lines != 1 {
		t.Errorf("got %v after %d lines", err, lines)
	}
}

func TestStateBeyondTheLastEpoch(t *testing.T) {
	o := options{epochs: 2, seed: 1, checkpointDir: t.TempDir()}
	train(t, o)
	o.epochs = 1
	if err := run(t.Context(), o, io.Discard); err == nil || !strings.Contains(err.Error(), "beyond") {
		t.Errorf("got %v", err)
	}
}

func train(t *testing.T, o options) string {
	t.Helper()
	var out strings.Builder
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func readState(t *testing.T, o options) []byte {
	t.Helper()
	b, err := os.ReadFile(statePath(o.checkpointDir))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// epochs keeps the epochs' lines and the result's.
func epochs(out string) string {
	return strings.Join(regexp.MustCompile(`(?m)^(epoch|done|weights).*$`).FindAllString(out, -1), "\n")
}

// watcher cancels once a line with the prefix was written.
type watcher struct {
	w      io.Writer
	prefix string
	cancel func()
}

func (w *watcher) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), w.prefix) {
		w.cancel()
	}
	return w.w.Write(p)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
