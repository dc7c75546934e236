package agent

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/bucket/membucket"
	"anycloud/shared/job"
)

// mirrors makes the job one with an output, which can be made to refuse.
func (w *world) mirrors() (refuse *atomic.Bool) {
	w.spec.Output = "mem://output"
	refuse = &atomic.Bool{}
	w.output.Hook = func(_ context.Context, c membucket.Call) error {
		if refuse.Load() {
			return bucket.ErrDenied
		}
		return nil
	}
	return refuse
}

// writes puts a file where the container's output is.
func (w *world) writes(name, text string) {
	w.t.Helper()
	dir := filepath.Join(w.dir, outputRoot)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mirrored(name string) bool {
	page, _, err := w.output.WithHook(nil).List(context.Background(), name, "", 0)
	return err == nil && len(page) == 1
}

// exitCommitted says whether the log holds the exit.
func (w *world) exitCommitted() bool { return w.log.newest().Exit != nil }

func TestOutputIsMirroredOnScheduleByTheWriter(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.mirrors()
		p := w.boot()
		defer p.kill()
		w.writes("a", "1")
		time.Sleep(61 * time.Second)
		if !w.mirrored("a") {
			t.Fatal("not mirrored after an interval")
		}
		// A newer attempt owns the log: this one mirrors nothing any more.
		w.log.set(func() { w.log.fence = 2 })
		w.writes("late", "2")
		time.Sleep(5 * time.Minute)
		if w.mirrored("late") {
			t.Error("a fenced attempt mirrors")
		}
	})
}

// TestMirrorComesBeforeTheExit: an exit is neither committed nor reported before
// the output is whole.
func TestMirrorComesBeforeTheExit(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		refuse := w.mirrors()
		p := w.boot()
		defer p.kill()
		w.writes("result", "42")
		refuse.Store(true)
		w.box.leave(0)
		time.Sleep(3 * time.Minute)
		if w.exitCommitted() || w.cp.last().Exit != nil {
			t.Fatal("the exit came before the output")
		}
		refuse.Store(false)
		time.Sleep(2 * time.Minute)
		if !w.mirrored("result") || !w.exitCommitted() || w.cp.last().Exit == nil {
			t.Errorf("mirrored %v, committed %v, reported %+v", w.mirrored("result"), w.exitCommitted(), w.cp.last().Exit)
		}
	})
}

// TestOutputThatCannotBeMirrored fails the job, with what it made in a commit.
func TestOutputThatCannotBeMirrored(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.mirrors().Store(true)
		p := w.boot()
		defer p.kill()
		w.writes("result", "42")
		w.box.leave(0)
		time.Sleep(lastMirrorFor + 5*time.Minute)
		r, c := w.cp.last(), w.log.newest()
		if r.Exit != nil || r.Failure == nil || r.Failure.Reason != job.ReasonOutputFailed || !r.Failure.Permanent {
			t.Errorf("report %+v, failure %+v", r.Exit, r.Failure)
		}
		if !c.Sealed || c.Exit != nil {
			t.Errorf("newest commit %+v", c)
		}
	})
}

// TestUnderANoticeTheCommitGoesFirst, and the successor finishes the mirror
// before it reports the exit that it found.
func TestUnderANoticeTheCommitGoesFirst(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		refuse := w.mirrors()
		p := w.boot()
		w.writes("result", "42")
		refuse.Store(true)
		w.meta.warn(time.Minute)
		time.Sleep(10 * time.Second)
		w.box.leave(0)
		time.Sleep(5 * time.Second)
		if !w.exitCommitted() || w.cp.last().Exit != nil {
			t.Fatalf("committed %v, reported %+v", w.exitCommitted(), w.cp.last().Exit)
		}
		p.kill() // the VM is taken

		next := newWorld(t, w.dir+"-2", 2, w.log, w.store)
		next.output, next.spec.Output = w.output, w.spec.Output
		next.writes("result", "42") // as the restore brings it
		q := next.boot()
		defer q.kill()
		time.Sleep(time.Minute)
		if next.cp.last().Exit != nil {
			t.Fatal("the exit was reported before the output was whole")
		}
		refuse.Store(false)
		time.Sleep(time.Minute)
		if r := next.cp.last(); !next.mirrored("result") || r.Exit == nil || r.Exit.Attempt != 1 || next.box.startCount() != 0 {
			t.Errorf("mirrored %v, reported %+v, %d starts", next.mirrored("result"), r.Exit, next.box.startCount())
		}
	})
}

// TestSealMirrorsNothing: who takes over mirrors from the commit.
func TestSealMirrorsNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.mirrors()
		p := w.boot()
		defer p.kill()
		w.writes("half", "4")
		w.meta.warn(20 * time.Second)
		time.Sleep(19 * time.Second)
		if !w.cp.last().Sealed || w.mirrored("half") {
			t.Errorf("sealed %v, mirrored %v", w.cp.last().Sealed, w.mirrored("half"))
		}
	})
}

// TestCancelledJobsOutputIsMirrored: nobody comes after it.
func TestCancelledJobsOutputIsMirrored(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.mirrors()
		p := w.boot()
		defer p.kill()
		w.writes("half", "4")
		w.cp.order(func(o *api.Orders) {
			o.Finish = &api.Finish{Why: job.EndCancelled, Deadline: time.Now().Add(10 * time.Minute)}
		})
		time.Sleep(20 * time.Second)
		if c := w.log.newest(); !w.cp.last().Sealed || !w.mirrored("half") || c.SaveRequest.Exit != nil || !c.Sealed {
			t.Errorf("sealed %v, mirrored %v, commit %+v", w.cp.last().Sealed, w.mirrored("half"), c)
		}
	})
}

func TestSecretSources(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	if err := os.WriteFile(path, []byte("value\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(name string) (string, bool) { return "from env", name == "THERE" }
	for source, want := range map[string]string{"file:" + path: "value", "env:THERE": "from env"} {
		if got, err := resolve(source, env); err != nil || got != want {
			t.Errorf("%s: %q, %v", source, got, err)
		}
	}
	big, zero := filepath.Join(dir, "big"), filepath.Join(dir, "zero")
	os.WriteFile(big, make([]byte, secretMost+1), 0o600) //nolint:errcheck // resolve tells
	os.WriteFile(zero, []byte("a\x00b"), 0o600)          //nolint:errcheck // likewise
	for _, source := range []string{"file:/no/such/file", "file:" + big, "file:" + zero, "env:NOT_THERE", "vault:x", "plain"} {
		if got, err := resolve(source, env); err == nil {
			t.Errorf("%s is read as %q", source, got)
		}
	}
}

func TestRegistryCredentials(t *testing.T) {
	config := `{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnB3"},"ghcr.io":{"username":"u","password":"p"},"ecr.example":{"identitytoken":"tok"}}}`
	for _, k := range []struct{ text, image, user, password, token string }{
		{"u:p:q", "ghcr.io/a/b", "u", "p:q", ""}, {config, "ghcr.io/a/b:1", "u", "p", ""}, {config, "busybox", "hub", "pw", ""}, {config, "ecr.example/x", "", "", "tok"},
	} {
		got, err := parseAuth(k.text, k.image)
		if err != nil || got.Username != k.user || got.Password != k.password || got.IdentityToken != k.token {
			t.Errorf("%s: %+v, %v", k.image, got, err)
		}
	}
	for _, text := range []string{"", "alone", ":p", "u:", "{", `{"auths":{"ghcr.io":{"auth":"!"}}}`, `{"auths":{}}`} {
		if got, err := parseAuth(text, "ghcr.io/a/b"); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}
