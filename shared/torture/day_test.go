package torture

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/job"
)

var dayJobs = flag.Int("jobs", 30, "jobs of the day in fast motion")

// kind is one sort of job, and how it must end.
type kind struct {
	name   string
	flags  []string
	script string // $1 is a directory of the job's own, outside of any VM
	state  job.State
	reason job.Reason
	act    func(h *home, id string) // while it runs; nil: nothing
	check  func(h *home, id, dir string) error
}

// counting works through 20 steps, and goes on where it was saved.
const counting = `n=$(cat "$ANYCLOUD_CHECKPOINT_DIR/n" 2>/dev/null || echo 0)
while test $n -lt 20; do n=$((n+1)); echo $n >> "$ANYCLOUD_OUTPUT_DIR/steps"; echo $n > "$ANYCLOUD_CHECKPOINT_DIR/n"; sleep 0.1; done
`

var kinds = []kind{
	{name: "counts", flags: []string{"--spot"}, script: counting + `echo $n > "$1/done"`, state: job.Succeeded,
		check: func(_ *home, _, dir string) error { return holds(filepath.Join(dir, "done"), "20\n") }},
	{name: "mirrors", flags: []string{"--spot", "--output", "file://DIR/out"}, script: counting, state: job.Succeeded,
		check: func(_ *home, _, dir string) error {
			var want strings.Builder
			for n := 1; n <= 20; n++ {
				fmt.Fprintln(&want, n)
			}
			return holds(filepath.Join(dir, "out", "steps"), want.String())
		}},
	{name: "retried", flags: []string{"--spot", "--retries", "2"}, state: job.Succeeded,
		script: `f="$ANYCLOUD_CHECKPOINT_DIR/tries"; echo x >> "$f"; sleep 1; test $(wc -l < "$f") -ge 3`},
	{name: "fails", flags: []string{"--spot"}, script: `sleep 1; exit 7`, state: job.Failed, reason: job.ReasonExitCode},
	{name: "on demand", flags: []string{"--restart-on-loss"}, script: `sleep 2; echo 1 > "$1/done"`, state: job.Succeeded,
		check: func(_ *home, _, dir string) error { return holds(filepath.Join(dir, "done"), "1\n") }},
	{name: "limited", flags: []string{"--spot", "--max-runtime", "1s"}, script: `sleep 600`, state: job.Failed, reason: job.ReasonMaxRuntime},
	{name: "cancelled", flags: []string{"--spot"}, script: `sleep 600`, state: job.Cancelled, reason: job.ReasonCancelled,
		act: func(h *home, id string) { h.must("cancel", id) }},
	{name: "resubmitted", flags: []string{"--spot", "--persist-bucket"}, script: `echo x >> "$ANYCLOUD_CHECKPOINT_DIR/runs"; sleep 1; cp "$ANYCLOUD_CHECKPOINT_DIR/runs" "$1/runs"`,
		state: job.Succeeded,
		act: func(h *home, id string) {
			h.must("wait", id, "--timeout", "120s")
			h.must("resubmit", id)
		},
		check: func(h *home, id, dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, "runs"))
			if n := strings.Count(string(b), "x"); err == nil && n < 2 {
				err = fmt.Errorf("the second run found %d entries", n)
			}
			return errors.Join(err, os.RemoveAll(filepath.Join(h.dir, "buckets", id))) // the user's own clean-up
		}},
}

func holds(path, want string) error {
	b, err := os.ReadFile(path)
	if err == nil && string(b) != want {
		err = fmt.Errorf("%s holds %q, want %q", filepath.Base(path), b, want)
	}
	return err
}

// Spot and on-demand USD per hour, pretended.
const spotPrice, listPrice = 1.25, 4.0

// atOnce is how many jobs of the day run side by side: what two cores carry.
const atOnce = 6

// TestDay is a day in fast motion: jobs of all kinds, VMs that take a while to
// boot, and a preemption every few seconds. All end as they should, what they
// cost adds up, nothing is left, and the control plane does not grow.
func TestDay(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 2))
	h := newHome(t, build(t))
	h.flags = []string{"--tick", "1s", "--boot-delay", "300ms", "--pretend-prices", fmt.Sprintf("%g,%g", spotPrice, listPrice)}
	h.serve()
	day := &day{home: h, dirs: t.TempDir(), running: map[string]bool{}}
	stop := make(chan struct{})
	var struck sync.WaitGroup
	struck.Go(func() { day.preempt(rng, stop) })

	begun := time.Now()
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	memory := map[int]float64{} // MiB after so many jobs
	for n := range *dayJobs {
		slots <- struct{}{}
		if n == *dayJobs/3 || n == *dayJobs-1 {
			memory[n] = h.serveMemory()
		}
		wg.Go(func() {
			defer func() { <-slots }()
			day.live(n, kinds[n%len(kinds)])
		})
	}
	wg.Wait()
	close(stop)
	struck.Wait()
	took := time.Since(begun)
	for _, f := range day.failures {
		t.Error(f)
	}
	vm, cost := 0.0, 0.0
	var ids []string
	for id := range day.running {
		ids = append(ids, id)
		j := h.status(id)
		h.checkSeconds(id)
		vm, cost = vm+j.VMSeconds, cost+j.CostUSD
		want := 0.0
		for _, a := range j.Attempts {
			price := listPrice
			if a.Placement.Spot {
				price = spotPrice
			}
			want += a.EndedAt.Sub(a.StartedAt).Hours() * price
		}
		if diff := j.CostUSD - want; diff < -1e-6 || diff > 1e-6 {
			t.Errorf("%s cost %.6f USD, its attempts %.6f", id, j.CostUSD, want)
		}
	}
	h.ids = ids
	// The buckets of failed jobs have their time, and a sweep.
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if left, _ := filepath.Glob(filepath.Join(h.dir, "buckets", "ac*")); len(left) == 0 {
			break
		}
	}
	h.checkNothingLeft(ids)
	early, late := memory[*dayJobs/3], memory[*dayJobs-1]
	t.Logf("%d jobs in %s: %d preemptions, %.0f VM-seconds, %.4f USD; control plane %.1f MiB after a third, %.1f MiB at the end",
		*dayJobs, took.Round(time.Second), day.preemptions, vm, cost, early, late)
	if late > 1.5*early+16 {
		t.Errorf("the control plane grew from %.1f to %.1f MiB", early, late)
	}
}

// day is what its jobs share.
type day struct {
	*home
	dirs string

	mu          sync.Mutex
	running     map[string]bool // by id; false: ended
	preemptions int
	failures    []string
}

// live takes one job through its life.
func (d *day) live(n int, k kind) {
	fail := func(format string, args ...any) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.failures = append(d.failures, fmt.Sprintf("job %d, %s: ", n, k.name)+fmt.Sprintf(format, args...))
	}
	dir := filepath.Join(d.dirs, fmt.Sprint(n))
	if err := os.Mkdir(dir, 0o755); err != nil {
		fail("%v", err)
		return
	}
	args := []string{"submit", "--name", k.name, "--checkpoint-interval", "1s", "--grace", "1s", "--keep-checkpoint", "1s"}
	for _, f := range k.flags {
		args = append(args, strings.ReplaceAll(f, "DIR", dir))
	}
	out, code := d.run(append(args, "exec:", "--", "sh", "-c", k.script, "sh", dir)...)
	id := strings.TrimSpace(out)
	if code != 0 {
		fail("submit: %s", out)
		return
	}
	d.set(id, true)
	defer d.set(id, false)
	if k.act != nil {
		d.sleepWhileRunning(time.Second, []string{id})
		k.act(d.home, id)
	}
	if out, code := d.run("wait", id, "--timeout", "180s"); code > 1 {
		fail("wait: exit %d %s\n%s", code, out, d.must("status", id))
		return
	}
	var j api.Job
	if j = d.status(id); j.State != k.state || j.Reason != k.reason {
		fail("%s (%s %s), want %s (%s)\n%s", j.State, j.Reason, j.Message, k.state, k.reason, d.must("status", id))
		return
	}
	if k.check != nil {
		if err := k.check(d.home, id, dir); err != nil {
			fail("%v\n%s", err, d.must("status", id))
		}
	}
}

func (d *day) set(id string, running bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running[id] = running
}

// preempt takes a VM every few seconds, half of them with a warning.
func (d *day) preempt(rng *rand.Rand, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(1000+rng.IntN(3000)) * time.Millisecond):
		}
		d.mu.Lock()
		var ids []string
		for id, running := range d.running {
			if running {
				ids = append(ids, id)
			}
		}
		d.mu.Unlock()
		slices.Sort(ids)
		rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		notice := []string{"0s", "2s"}[rng.IntN(2)]
		for _, id := range ids { // some have no VM at this moment
			if _, code := d.run("preempt", id, "--notice", notice); code == 0 {
				d.mu.Lock()
				d.preemptions++
				d.mu.Unlock()
				break
			}
		}
	}
}
