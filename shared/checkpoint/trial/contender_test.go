package trial

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint"
	"anycloud/shared/checkpoint/wal"
	"anycloud/shared/setup/agent"
)

// contenderEnv tells a contender, in JSON, who it is.
const contenderEnv = "ANYCLOUD_TRIAL_CONTENDER"

type contenderConfig struct {
	URL     string
	Attempt int
	Dir     string // its work and its saver's state are below it
	Epoch   time.Time
	Seed    uint64
}

// haste is how much faster than the wall the contenders' clock goes, so that
// commits are soon old enough to be pruned.
const haste = 3000

// event is a line that a contender prints.
type event struct {
	What   string // took (over), commit, pruned, fenced, odd
	Number int    `json:",omitempty"` // of the log's entry
	Gen    uint64 `json:",omitempty"` // committed, or found by the take-over
	Why    string `json:",omitempty"`
}

// contend is one attempt: it fences those before it, restores, and then changes,
// saves and prunes at full speed until it is fenced itself. It stalls before its
// calls from the line "stall" on stdin to the line "go".
func contend() error {
	var c contenderConfig
	if err := json.Unmarshal([]byte(os.Getenv(contenderEnv)), &c); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	inner, err := agent.Make(ctx, c.URL)
	if err != nil {
		return err
	}
	s := &staller{Objects: inner, rng: rand.New(rand.NewPCG(c.Seed, 7)), on: make(chan struct{})}
	go s.listen(os.Stdin)
	e := json.NewEncoder(os.Stdout)
	say := func(ev event) {
		if e.Encode(ev) != nil {
			os.Exit(1) // the trial is over
		}
	}
	now := func() time.Time { return c.Epoch.Add(time.Since(c.Epoch) * haste) }
	work := parts{filepath.Join(c.Dir, "work")}
	if err := os.MkdirAll(work.dir, 0o755); err != nil {
		return err
	}
	saver, err := checkpoint.NewSaver(checkpoint.Options{
		Objects: s, Attempt: c.Attempt, Roots: map[string]string{"checkpoint": work.dir}, StateDir: filepath.Join(c.Dir, "state"), Now: now,
	})
	if err != nil {
		return err
	}
	// until tries a step again until it is done, or this attempt is fenced.
	until := func(step func() error) bool {
		for {
			err := step()
			switch {
			case err == nil:
				return true
			case errors.Is(err, wal.ErrFenced):
				say(event{What: "fenced"})
				return false
			case ctx.Err() != nil:
				say(event{What: "odd", Why: "never ended: " + err.Error()})
				return false
			}
			say(event{What: "odd", Why: err.Error()})
		}
	}
	if !until(func() error { return saver.TakeOver(ctx) }) {
		return nil
	}
	var got checkpoint.Restored
	if !until(func() (err error) {
		got, err = checkpoint.Restore(ctx, checkpoint.RestoreOptions{Objects: s, Attempt: c.Attempt, Into: map[string]string{"checkpoint": work.dir}})
		return err
	}) {
		return nil
	}
	var gen uint64
	if got.Number > 0 {
		if gen, err = work.read(work.dir); err != nil {
			return fmt.Errorf("commit %d: %w", got.Number, err)
		}
	}
	say(event{What: "took", Number: got.Number, Gen: gen})
	rng := rand.New(rand.NewPCG(c.Seed, 8))
	for {
		gen++
		if err := work.change(rng, gen); err != nil {
			return err
		}
		var r checkpoint.Result
		if !until(func() (err error) { r, err = saver.Save(ctx, checkpoint.SaveRequest{}); return err }) {
			return nil
		}
		say(event{What: "commit", Number: r.Number, Gen: gen})
		if rng.IntN(3) == 0 {
			n := 0
			if !until(func() (err error) { n, err = saver.Prune(ctx); return err }) {
				return nil
			}
			say(event{What: "pruned", Number: n})
		}
	}
}

// staller holds calls back before they are made.
type staller struct {
	bucket.Objects
	stalling atomic.Bool
	on       chan struct{} // closed: go

	mu  sync.Mutex
	rng *rand.Rand
}

func (s *staller) listen(in io.Reader) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		switch lines.Text() {
		case "stall":
			s.stalling.Store(true)
		case "go":
			s.stalling.Store(false)
			close(s.on)
		}
	}
	os.Exit(0) // the trial is over
}

// stallShare of the calls stall, one of so many: every call may be the one.
const stallShare = 4

func (s *staller) before() {
	if !s.stalling.Load() {
		return
	}
	s.mu.Lock()
	stall := s.rng.IntN(stallShare) == 0
	s.mu.Unlock()
	if stall {
		<-s.on
	}
}

func (s *staller) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	s.before()
	return s.Objects.PutIfAbsent(ctx, key, data)
}

func (s *staller) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	s.before()
	return s.Objects.Get(ctx, key, offset, length)
}

func (s *staller) List(ctx context.Context, prefix, after string, limit int) ([]bucket.Object, bool, error) {
	s.before()
	return s.Objects.List(ctx, prefix, after, limit)
}

func (s *staller) Delete(ctx context.Context, key string) error {
	s.before()
	return s.Objects.Delete(ctx, key)
}

// parts are files of different generations, and one that says of each which it
// is: a commit needs packs of many commits before it.
type parts struct{ dir string }

const (
	partCount = 24
	partPages = 16
)

func (p parts) path(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("part-%02d", i)) }

// change makes the directory generation gen: some parts are written anew.
func (p parts) change(rng *rand.Rand, gen uint64) error {
	gens, err := p.gens(p.dir)
	if errors.Is(err, os.ErrNotExist) {
		gens, err = make([]uint64, partCount), nil
	}
	if err != nil {
		return err
	}
	for i := range gens {
		if gens[i] == 0 || rng.IntN(8) == 0 {
			gens[i] = gen
			if err := stampFile(p.path(p.dir, i), gen, uint64(i), partPages); err != nil {
				return err
			}
		}
	}
	gens[0] = gen
	if err := stampFile(p.path(p.dir, 0), gen, 0, partPages); err != nil {
		return err
	}
	b, err := json.Marshal(gens)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.dir, "gens"), b, 0o644)
}

func (p parts) gens(dir string) (gens []uint64, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "gens"))
	if err == nil {
		err = json.Unmarshal(b, &gens)
	}
	return gens, err
}

// read returns the generation of a restored directory; every part must be what
// that generation was made of.
func (p parts) read(dir string) (uint64, error) {
	gens, err := p.gens(dir)
	if err != nil {
		return 0, err
	}
	for i, want := range gens {
		if got, err := readStamps(p.path(dir, i), uint64(i), partPages); err != nil {
			return 0, err
		} else if got != want {
			return 0, fmt.Errorf("part %d is of generation %d, and not %d: torn", i, got, want)
		}
	}
	return gens[0], nil
}
