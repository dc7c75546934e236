package trial

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anycloud/shared/internal/suite"
)

// TestBusyFiles saves a job that never rests, on each kind of file system: in
// place, appended, renamed, truncated, deleted, stored to through a mapping. A
// clean commit must be the job's directory as it was at one moment, of all its
// processes; in a mixed one every file must be as it was at some moment.
func TestBusyFiles(t *testing.T) {
	places := []struct {
		name string
		make func(t *testing.T) string
	}{
		{"disk", func(t *testing.T) string { return t.TempDir() }},
		{"overlay", overlay},
		{"memory", func(t *testing.T) string { return ram(t) }},
	}
	for i, p := range places {
		share := *saves / len(places)
		if i == 0 {
			share += *saves % len(places)
		}
		t.Run(p.name, func(t *testing.T) { busy(t, p.make(t), share) })
	}
}

// overlay mounts a file system of the kind that containers write to.
func overlay(t *testing.T) string {
	suite.Need(t, "mount")
	base := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	at := filepath.Join(base, "merged")
	options := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", base, base, base)
	if err := unix.Mount("overlay", at, "overlay", 0, options); err != nil {
		t.Fatalf("mount an overlay: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) }) //nolint:errcheck // the test is over
	return at
}

func busy(t *testing.T, dir string, n int) {
	b := &busyTrial{t: t, dir: dir, into: filepath.Join(ram(t), "restored"), model: newModel(*seed)}
	stop := b.start()
	defer stop()
	url, state := newBucket(t), t.TempDir()
	clean, mixed := 0, 0
	var pauses []float64
	var sent int64
	for i := range n {
		if i%10 == 9 {
			url, state = newBucket(t), t.TempDir() // young commits are never pruned
		}
		before := atomic.LoadUint64(b.clock.at(0, 1))
		var s saved
		if err := run(t, &s, "save", dir, url, "--state", state, "--freeze", fmt.Sprint(b.pid)); err != nil {
			t.Fatalf("starved: %v; seed %d", err, *seed)
		}
		after := atomic.LoadUint64(b.clock.at(0, 0))
		if !s.Committed {
			t.Fatalf("nothing was committed of a tree that changed; seed %d", *seed)
		}
		if s.Pause > 0 {
			pauses = append(pauses, s.Pause)
		}
		sent += s.SentBytes
		args := []string{"restore", url, b.into, "--at", fmt.Sprint(s.Commit)}
		var r restored
		if err := run(t, &r, args...); err != nil {
			t.Fatalf("%v; seed %d", err, *seed)
		}
		var err error
		if s.Clean {
			clean++
			err = b.checkClean(before, after)
		} else {
			mixed++
			err = b.checkMixed(after)
		}
		if err != nil {
			t.Fatalf("save %d, commit %d (clean: %t, pause %.0f ms): %v; seed %d", i+1, s.Commit, s.Clean, 1000*s.Pause, err, *seed)
		}
		if !b.running() {
			t.Fatalf("the job ended; seed %d", *seed)
		}
	}
	slices.Sort(pauses)
	at := func(q float64) float64 {
		if len(pauses) == 0 {
			return 0
		}
		return 1000 * pauses[min(len(pauses)-1, int(q*float64(len(pauses))))]
	}
	t.Logf("busy files, %s: %d saves, %d clean (%d of them without a pause) and each as at one moment, %d mixed and each file as at one; 0 starved; "+
		"%.1f MiB sent a save; pauses: p50 %.0f ms, p99 %.0f ms, longest %.0f ms; %d operations; seed %d", filepath.Base(t.Name()),
		n, clean, n-len(pauses), mixed, float64(sent)/float64(n)/(1<<20), at(.5), at(.99), at(1), b.model.n, *seed)
}

type busyTrial struct {
	t         *testing.T
	dir, into string
	pid       int
	clock     words
	model     *model // up to the last commit
	ended     chan error
}

// start brings the job up.
func (b *busyTrial) start() (stop func()) {
	t := b.t
	config, err := json.Marshal(writerConfig{b.dir, *seed})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"=writer", writerEnv+"="+string(config))
	cmd.Stderr = os.Stderr
	in, out, err := os.Pipe() // of its own: its child has it as well
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = in
	if b.clock, err = mapWords(clockPath(b.dir), 1); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	b.pid = cmd.Process.Pid
	b.ended = make(chan error, 1)
	go func() { b.ended <- cmd.Wait() }()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		_, err := os.Stat(filepath.Join(b.dir, "named", "names"))
		if err == nil && atomic.LoadUint64(b.clock.at(0, 1)) > 2*busyFiles {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the job does not begin")
		}
	}
	return func() {
		out.Close()
		<-b.ended
		unix.Munmap(b.clock.m) //nolint:errcheck // the test is over
	}
}

func (b *busyTrial) running() bool { return len(b.ended) == 0 }

// tree is a restored directory.
type tree struct {
	begun, done uint64 // operations
	files       [][]uint64
	hot         [hotPages][hotWords]uint64
}

// read reads what was restored; every page must be one that was written.
func (b *busyTrial) read() (t tree, err error) {
	t.files = make([][]uint64, busyFiles)
	page, want := make([]byte, pageSize), make([]byte, pageSize)
	for i := range t.files {
		f, err := os.Open(busyPath(b.into, i))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return t, err
		}
		t.files[i], err = readPages(f, page, want)
		f.Close()
		if err != nil {
			return t, fmt.Errorf("file %d: %w", i, err)
		}
	}
	clock, err := readWords(clockPath(b.into), 1, 2)
	if err != nil {
		return t, err
	}
	t.begun, t.done = clock[0][0], clock[0][1]
	hot, err := readWords(hotPath(b.into), hotPages, hotWords)
	if err != nil {
		return t, err
	}
	for p := range hot {
		copy(t.hot[p][:], hot[p])
	}
	return t, nil
}

func readPages(f io.Reader, page, want []byte) ([]uint64, error) {
	stamps := []uint64{}
	for {
		_, err := io.ReadFull(f, page)
		if err == io.EOF {
			return stamps, nil
		}
		if err != nil {
			return nil, err
		}
		s := stampIn(page)
		if stampPage(want, s, 0, 0); string(page) != string(want) {
			return nil, fmt.Errorf("page %d is none that was ever written", len(stamps))
		}
		stamps = append(stamps, s)
	}
}

func readWords(path string, pages, n int) ([][]uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) != pages*pageSize {
		return nil, fmt.Errorf("%s has %d bytes", path, len(b))
	}
	out := make([][]uint64, pages)
	for p := range out {
		for w := range n {
			out[p] = append(out[p], stampIn(b[p*pageSize+w*512:]))
		}
	}
	return out, nil
}
