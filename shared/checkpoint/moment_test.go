package checkpoint_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anycloud/shared/bucket/membucket"
	"anycloud/shared/checkpoint"
)

// writer is a job that never rests: it counts in two files, the first always
// first, so that at every moment the first is equal to the second or one ahead.
type writer struct {
	mu   sync.Mutex // held: frozen
	stop chan struct{}
	done sync.WaitGroup
}

func startWriter(t *testing.T, dir string) *writer {
	w := &writer{stop: make(chan struct{})}
	var fs []*os.File
	for _, name := range []string{"first", "second"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		fs = append(fs, f)
	}
	w.done.Go(func() {
		var b [8]byte
		for n := uint64(1); ; n++ {
			select {
			case <-w.stop:
				return
			default:
			}
			binary.BigEndian.PutUint64(b[:], n)
			for _, f := range fs {
				w.mu.Lock()
				f.WriteAt(b[:], 0) //nolint:errcheck // the check reads it
				w.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		w.end()
		for _, f := range fs {
			f.Close()
		}
	})
	return w
}

func (w *writer) end() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	w.done.Wait()
}

// Freeze and Thaw make the writer a job that can be frozen.
func (w *writer) Freeze(context.Context) error { w.mu.Lock(); return nil }
func (w *writer) Thaw(context.Context) error   { w.mu.Unlock(); return nil }

func counters(t *testing.T, dir string) (first, second uint64) {
	var v [2]uint64
	for i, name := range []string{"first", "second"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 8 {
			v[i] = binary.BigEndian.Uint64(b)
		}
	}
	return v[0], v[1]
}

func TestBusyJobIsSavedAtOneMoment(t *testing.T) {
	dir := t.TempDir()
	w := startWriter(t, dir)
	objects := membucket.NewObjects()
	s := newSaver(t, objects, 1, dir, func(o *checkpoint.Options) { o.Freezer, o.MaxPause = w, time.Second })
	// On a busy machine the writer may not get to write during a save: such a tree
	// rested, and needs no pause. Those saves do not count.
	paused := 0
	for deadline := time.Now().Add(30 * time.Second); paused < 10; {
		if time.Now().After(deadline) {
			t.Fatalf("only %d saves met a busy tree", paused)
		}
		r, err := s.Save(t.Context(), checkpoint.SaveRequest{})
		if err != nil || !r.Clean || r.Pause > time.Second {
			t.Fatalf("%+v, %v", r, err)
		}
		if r.Pause > 0 {
			paused++
		}
		if !r.Committed {
			continue
		}
		into, _ := restore(t, objects, r.Number)
		if a, b := counters(t, into); a != b && a != b+1 {
			t.Errorf("commit %d holds %d and %d: that never was", r.Number, a, b)
		}
	}
}

// earlyThaw is a freezer whose freeze ended by itself.
type earlyThaw struct{}

func (earlyThaw) Freeze(context.Context) error { return nil }
func (earlyThaw) Thaw(context.Context) error   { return errors.New("it was thawed before") }

func TestBusyJobWithoutAFreezeIsMixed(t *testing.T) {
	for name, change := range map[string]func(*checkpoint.Options){
		"no freezer":          func(*checkpoint.Options) {},
		"a freeze that ended": func(o *checkpoint.Options) { o.Freezer, o.MaxPause = earlyThaw{}, time.Second },
		"no time for it":      func(o *checkpoint.Options) { o.Freezer, o.MaxPause = earlyThaw{}, time.Nanosecond },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w := startWriter(t, dir)
			objects := membucket.NewObjects()
			s := newSaver(t, objects, 1, dir, change)
			r, err := s.Save(t.Context(), checkpoint.SaveRequest{})
			for deadline := time.Now().Add(30 * time.Second); err == nil && r.Clean && time.Now().Before(deadline); {
				r, err = s.Save(t.Context(), checkpoint.SaveRequest{}) // the writer did not get to write
			}
			if err != nil || r.Clean || !r.Committed {
				t.Fatalf("%+v, %v", r, err)
			}
			w.end()
			// At rest, the very same tree is committed again, clean.
			if r, err = s.Save(t.Context(), checkpoint.SaveRequest{}); err != nil || !r.Clean || !r.Committed {
				t.Fatalf("%+v, %v", r, err)
			}
			if _, got := restore(t, objects, 0); got.Number != r.Number {
				t.Errorf("commit %d is restored", got.Number)
			}
		})
	}
}

// TestQuickEditsAreSeen: a change of the same size within one tick of the clock
// that stamps files does not hide behind the stamp of the last save.
func TestQuickEditsAreSeen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	objects := membucket.NewObjects()
	s := newSaver(t, objects, 1, dir)
	for i := range 40 {
		write(t, path, fmt.Appendf(nil, "%08d", i))
		r := save(t, s)
		into, _ := restore(t, objects, r.Number)
		if b, err := os.ReadFile(filepath.Join(into, "a")); err != nil || string(b) != fmt.Sprintf("%08d", i) {
			t.Fatalf("commit %d holds %q, %v", r.Number, b, err)
		}
	}
}

// TestStoresThroughAMappingAreSeen, although they leave no trace before their
// page is written back.
func TestStoresThroughAMappingAreSeen(t *testing.T) {
	for _, place := range []string{t.TempDir(), tmpfs(t)} {
		path := filepath.Join(place, "mapped")
		write(t, path, make([]byte, 1<<20))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		m, err := unix.Mmap(int(f.Fd()), 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(m) //nolint:errcheck // the process ends soon
		objects := membucket.NewObjects()
		s := newSaver(t, objects, 1, place)
		for i := range 10 {
			m[500_000] = byte(i + 1)
			r, err := s.Save(t.Context(), checkpoint.SaveRequest{})
			if err != nil {
				t.Fatal(err)
			}
			into, _ := restore(t, objects, r.Number)
			if b, err := os.ReadFile(filepath.Join(into, "mapped")); err != nil || b[500_000] != byte(i+1) {
				t.Fatalf("%s: commit %d holds %d, not %d; %v", place, r.Number, b[500_000], i+1, err)
			}
			time.Sleep(30 * time.Millisecond) // old enough for the look to be trusted
		}
	}
}

// tmpfs is a directory whose pages are never written back.
func tmpfs(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "anycloud-test-")
	if err != nil {
		return t.TempDir() // a machine without it has one place less to get wrong
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestEstimateKnowsWhatIsDirty(t *testing.T) {
	dir := t.TempDir()
	s := newSaver(t, membucket.NewObjects(), 1, dir)
	write(t, filepath.Join(dir, "a"), noise("a", 3<<20))
	if e := s.Estimate(); e.DirtyBytes != 3<<20 || e.BytesPerSecond != 0 {
		t.Errorf("before the first save: %+v", e)
	}
	save(t, s)
	time.Sleep(260 * time.Millisecond) // an estimate holds for a while
	if e := s.Estimate(); e.DirtyBytes != 0 || e.BytesPerSecond <= 0 || e.Walk <= 0 {
		t.Errorf("after it: %+v", e)
	}
}

// TestFileThatGrowsUnderTheSave is saved whole up to some moment, and named.
func TestFileThatGrowsUnderTheSave(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				fmt.Fprintf(f, "%015d\n", i)
			}
		}
	})
	objects := membucket.NewObjects()
	r, err := newSaver(t, objects, 1, dir).Save(t.Context(), checkpoint.SaveRequest{})
	close(stop)
	done.Wait()
	if err != nil || r.Clean || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "log") {
		t.Fatalf("%+v, %v", r, err)
	}
	into, _ := restore(t, objects, 0)
	b, err := os.ReadFile(filepath.Join(into, "log"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(b) / 16 {
		if want := fmt.Sprintf("%015d\n", i); string(b[i*16:(i+1)*16]) != want {
			t.Fatalf("line %d is %q", i, b[i*16:(i+1)*16])
		}
	}
}
