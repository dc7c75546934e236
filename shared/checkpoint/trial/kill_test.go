package trial

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"anycloud/shared/checkpoint"
)

// killsPerBucket bounds what lies in one bucket: nothing young is pruned.
const killsPerBucket = 20

// TestKills kills the saving process at random moments. After each kill the
// bucket must restore exactly one whole generation: the one that was being
// saved, or the one that was saved before. Saves that go on after a kill send
// nothing that the bucket had acknowledged.
func TestKills(t *testing.T) {
	k := &killTrial{
		t: t, rng: rand.New(rand.NewPCG(*seed, 1)), tree: stampedTree{t.TempDir(), 16, 1024}, into: ram(t),
	}
	began := time.Now()
	for k.landed < *kills {
		k.bucket(min(killsPerBucket, *kills-k.landed))
	}
	t.Logf("kills: %d landed within a save (%d came too late), %d with the commit already made, %d generations saved: "+
		"0 torn, 0 unrestorable; sent again after a kill: %.1f MiB in the mean, at most %.1f (bound %d); %s; seed %d",
		k.landed, k.late, k.made, k.gen, float64(k.again)/float64(k.landed)/(1<<20), float64(k.againMost)/(1<<20),
		againBound>>20, time.Since(began).Round(time.Second), *seed)
}

// againBound is what one kill may cost: every uploader had a pack that was sent
// and not noted yet.
const againBound = checkpoint.DefaultParallel * checkpoint.PackSize

type killTrial struct {
	t    *testing.T
	rng  *rand.Rand
	tree stampedTree
	into string // where restores go

	gen                int
	landed, late, made int
	again, againMost   int64
	took               time.Duration // of a save that nobody killed
}

// bucket kills n saves into a bucket of their own.
func (k *killTrial) bucket(n int) {
	t := k.t
	url, state := newBucket(t), t.TempDir()
	objects := open(t, url)
	committed := k.gen + 1
	k.next()
	k.save(url, state)
	for end := k.landed + n; k.landed < end; {
		k.next()
		before := packBytes(t, objects)
		killed := 0
		// The same generation until it is saved: by a save that came through, or
		// by one killed after its commit.
		for done := false; !done; {
			if k.landed < end && k.rng.IntN(4) > 0 {
				if k.kill(url, state) {
					k.landed++
					killed++
				} else {
					k.late++
					done = true
				}
			} else {
				k.save(url, state)
				done = true
			}
			got := k.restore(url)
			switch {
			case got == k.gen:
				if !done {
					k.made++
				}
				done = true
			case got != committed || done:
				t.Fatalf("generation %d was restored; %d is committed, %d was being saved (done: %t); seed %d", got, committed, k.gen, done, *seed)
			}
		}
		committed = k.gen
		if killed > 0 {
			k.count(packBytes(t, objects)-before, killed)
		}
	}
	k.everyCommit(url)
}

func (k *killTrial) next() {
	k.gen++
	k.tree.write(k.t, uint64(k.gen))
}

// save lets a save come through.
func (k *killTrial) save(url, state string) {
	began := time.Now()
	if err := run(k.t, &saved{}, "save", k.tree.dir, url, "--state", state); err != nil {
		k.t.Fatalf("save: %v; seed %d", err, *seed)
	}
	k.took = time.Since(began)
}

// kill starts a save and kills it at a random moment; false: it had ended.
func (k *killTrial) kill(url, state string) bool {
	began := time.Now()
	cmd := program(k.t.Context(), k.t, "save", k.tree.dir, url, "--state", state)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			k.t.Fatalf("save: %v: %s", err, out.Bytes())
		}
		k.took = time.Since(began)
		return false
	case <-time.After(time.Duration(k.rng.Int64N(int64(k.took)))):
	}
	cmd.Process.Kill() //nolint:errcheck // Wait tells
	return <-ended != nil
}

// restore returns the generation that the newest commit holds.
func (k *killTrial) restore(url string, more ...string) int {
	k.t.Helper()
	into := filepath.Join(k.into, "restored")
	defer os.RemoveAll(into)
	var r restored
	if err := run(k.t, &r, append([]string{"restore", url, into}, more...)...); err != nil {
		k.t.Fatalf("unrestorable: %v; seed %d", err, *seed)
	}
	if len(r.Fallbacks) > 0 {
		k.t.Fatalf("a commit was damaged: %v; seed %d", r.Fallbacks, *seed)
	}
	gen, err := k.tree.read(into)
	if err != nil {
		k.t.Fatalf("commit %d: %v; seed %d", r.Commit, err, *seed)
	}
	return int(gen)
}

// count holds what a generation cost against what it had to.
func (k *killTrial) count(put int64, killed int) {
	// Trees, indexes and tables are small, and made anew by every try.
	again := max(0, put-k.tree.bytes()-int64(killed+1)*(1<<20)/4)
	k.again += again
	k.againMost = max(k.againMost, again/int64(killed))
	if again > int64(killed)*againBound {
		k.t.Fatalf("%d kills: %d bytes were sent for a generation of %d: more than %d a kill were sent again; seed %d",
			killed, put, k.tree.bytes(), int64(againBound), *seed)
	}
}

// everyCommit restores what the log lists, and has the program verify it.
func (k *killTrial) everyCommit(url string) {
	t := k.t
	var all []checkpoint.CommitInfo
	if err := run(t, &all, "ls", url); err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, c := range all {
		gen := k.restore(url, "--at", fmt.Sprint(c.Number))
		if gen < last {
			t.Fatalf("commit %d is generation %d, after one of %d", c.Number, gen, last)
		}
		last = gen
	}
	var verified json.RawMessage
	if err := run(t, &verified, "verify", url); err != nil {
		t.Fatal(err)
	}
}
