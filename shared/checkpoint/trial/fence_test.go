package trial

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint"
	"anycloud/shared/checkpoint/wal"
)

// TestFencing has one attempt after the other take over from one that saves and
// prunes at full speed. The old one stalls at random before each of its calls
// and is let go after it was fenced. Nothing of it may follow the fence, nothing
// that it acknowledged may be lost, and whoever restores in between gets a whole
// generation.
func TestFencing(t *testing.T) {
	f := &fenceTrial{t: t, rng: rand.New(rand.NewPCG(*seed, 2)), url: newBucket(t), home: t.TempDir(), epoch: time.Now()}
	f.objects = open(t, f.url)
	reading, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	readers.Go(func() { f.restoreAll(reading) })
	old := f.start(1)
	old.await(t, "took")
	for end := time.Now().Add(*fencing); time.Now().Before(end) && !t.Failed(); {
		time.Sleep(time.Duration(100+f.rng.IntN(500)) * time.Millisecond)
		old = f.handOver(old)
	}
	stop()
	readers.Wait()
	old.end()
	f.checkLog()
	t.Logf("fencing: %s, %d hand-overs, %d commits and %d prunes of %d packs; %d restores in between; nothing followed a fence, "+
		"no acknowledged commit and no needed pack was lost; %d refused calls were tried again; seed %d",
		*fencing, f.handOvers, f.commits, f.prunes, f.victims, f.restores, f.odd, *seed)
}

type fenceTrial struct {
	t       *testing.T
	rng     *rand.Rand
	url     string
	home    string
	epoch   time.Time
	objects bucket.Objects

	acked                               []int // newest commit that each attempt was told of
	handOvers, commits, prunes, victims int
	odd                                 int
	restores                            int
}

// contender is a child, and what it said.
type contender struct {
	attempt int
	cmd     *exec.Cmd
	in      io.WriteCloser
	mu      sync.Mutex
	said    []event
	came    chan struct{} // after each line
	ended   chan error
}

func (f *fenceTrial) start(attempt int) *contender {
	t := f.t
	config, err := json.Marshal(contenderConfig{f.url, attempt, filepath.Join(f.home, fmt.Sprint(attempt)), f.epoch, f.rng.Uint64()})
	if err != nil {
		t.Fatal(err)
	}
	c := &contender{attempt: attempt, cmd: exec.Command(os.Args[0]), came: make(chan struct{}, 1), ended: make(chan error, 1)}
	c.cmd.Env = append(os.Environ(), roleEnv+"=contender", contenderEnv+"="+string(config))
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.end)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				c.mu.Lock()
				c.said = append(c.said, e)
				c.mu.Unlock()
			}
			select {
			case c.came <- struct{}{}:
			default:
			}
		}
		c.ended <- c.cmd.Wait()
		close(c.came)
		close(c.ended)
	}()
	return c
}

// end lets the child go: it leaves when its stdin ends.
func (c *contender) end() {
	c.in.Close()
	for range c.came { //nolint:revive // until the child has left
	}
}

// await returns the first event of a kind.
func (c *contender) await(t *testing.T, what string) event {
	t.Helper()
	late := time.After(time.Minute)
	for {
		c.mu.Lock()
		for _, e := range c.said {
			if e.What == what {
				c.mu.Unlock()
				return e
			}
		}
		c.mu.Unlock()
		select {
		case _, open := <-c.came:
			if !open {
				t.Fatalf("attempt %d ended before %q: %+v; seed %d", c.attempt, what, c.said, *seed)
			}
		case <-late:
			t.Fatalf("attempt %d never said %q; seed %d", c.attempt, what, *seed)
		}
	}
}

// handOver brings the next attempt, and returns it once the old one is gone.
func (f *fenceTrial) handOver(old *contender) *contender {
	t := f.t
	fmt.Fprintln(old.in, "stall")
	next := f.start(old.attempt + 1)
	took := next.await(t, "took")
	// The old one is let go while the new one is at work.
	time.Sleep(time.Duration(f.rng.IntN(100)) * time.Millisecond)
	fmt.Fprintln(old.in, "go")
	old.await(t, "fenced")
	if err := <-old.ended; err != nil {
		t.Fatalf("attempt %d: %v; seed %d", old.attempt, err, *seed)
	}
	var acked event
	old.mu.Lock()
	defer old.mu.Unlock()
	for _, e := range old.said {
		switch e.What {
		case "commit":
			acked = e
			f.commits++
		case "pruned":
			f.victims += e.Number
			if e.Number > 0 {
				f.prunes++
			}
		case "odd":
			f.odd++
			t.Logf("attempt %d: %s", old.attempt, e.Why)
		}
	}
	if took.Gen < acked.Gen || took.Number < acked.Number {
		t.Errorf("attempt %d restored commit %d (generation %d), but attempt %d was told that commit %d (generation %d) is durable; seed %d",
			next.attempt, took.Number, took.Gen, old.attempt, acked.Number, acked.Gen, *seed)
	}
	f.acked = append(f.acked, acked.Number)
	f.handOvers++
	return next
}

// restoreAll restores as often as it can, as somebody who only reads.
func (f *fenceTrial) restoreAll(ctx context.Context) {
	into := filepath.Join(ram(f.t), "restored")
	var last uint64
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, time.Minute)
		got, err := checkpoint.Restore(limited, checkpoint.RestoreOptions{Objects: f.objects, Into: map[string]string{"checkpoint": into}})
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			f.t.Errorf("a restore in between: %v; seed %d", err, *seed)
			return
		case got.Number == 0:
			continue
		case len(got.Fallbacks) > 0:
			f.t.Errorf("a restore in between had to go back: %v; seed %d", got.Fallbacks, *seed)
		}
		gen, err := parts{}.read(into)
		if err != nil || gen < last {
			f.t.Errorf("commit %d is generation %d after %d: %v; seed %d", got.Number, gen, last, err, *seed)
			return
		}
		last = gen
		f.restores++
	}
}

// checkLog reads the whole log: attempts only grow, and nothing that was let go
// of is needed.
func (f *fenceTrial) checkLog() {
	t := f.t
	entries, err := wal.Open(f.objects, 0, wal.Options{}).Entries(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	fences := map[int]int{}
	last := 0
	for _, e := range entries {
		if e.Attempt < last {
			t.Errorf("entry %d is of attempt %d, after one of attempt %d; seed %d", e.Number, e.Attempt, last, *seed)
		}
		last = max(last, e.Attempt)
		if e.Kind == wal.KindFence {
			fences[e.Attempt] = e.Number
		}
	}
	for i, n := range f.acked {
		if fence := fences[i+2]; fence <= n {
			t.Errorf("attempt %d was told of commit %d, behind the fence %d; seed %d", i+1, n, fence, *seed)
		}
	}
	verified, err := checkpoint.Verify(t.Context(), f.objects)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verified {
		if v.Problem != "" {
			t.Errorf("commit %d: %s; seed %d", v.Number, v.Problem, *seed)
		}
	}
}
