package sim

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/bucket/membucket"
	"anycloud/shared/cloud"
	"anycloud/shared/cloud/fakecloud"
	"anycloud/shared/controlplane"
	"anycloud/shared/job"
	"anycloud/shared/store"
	"anycloud/shared/store/memstore"
)

// settleFor bounds how long the world may take to come to rest once faults
// stopped (I4): the longest way is a VM that is never claimed (15 min), its
// successor's whole work, and a kept bucket's end.
const settleFor = 75 * time.Minute

// Result of one schedule.
type Result struct {
	Seed      uint64
	Steps     int
	Jobs      int
	Losses    int
	Simulated time.Duration
	Hits      map[string]int
	Broken    *Violation
}

// Options of a run.
type Options struct {
	Variant Variant   // "" : the real thing
	Log     io.Writer // the control plane's log, for replays
}

// Run plays the schedule of a seed.
func Run(seed uint64, o Options) Result {
	w := newWorld(seed, o)
	defer w.s.close()
	jobs := leastJobs + w.s.rng.IntN(2)
	for range jobs {
		w.submit(w.s.between(0, 20*time.Second))
	}
	w.s.at(0, w.tick)
	w.s.at(w.s.between(20*time.Second, time.Minute), w.chaos)
	w.s.at(chaosFor, w.calm)
	for w.broken == nil && w.s.step() {
		w.observe()
		if !w.faulty && (w.atRest() || w.s.now.Sub(w.calmAt) > settleFor) {
			w.checkEnd()
			break
		}
	}
	return Result{Seed: seed, Steps: w.s.steps, Jobs: len(w.jobs), Losses: w.losses, Simulated: w.s.now.Sub(epoch), Hits: w.hits, Broken: w.broken}
}

// calm ends all faults.
func (w *world) calm() {
	if (w.losses < leastLosses || len(w.jobs) < leastJobs) && w.s.now.Sub(epoch) < 10*chaosFor {
		// Everything ended too soon, or a job was refused because its deadline had
		// passed before it got through: another one gives the clouds something to take.
		w.submit(0)
		w.s.at(time.Minute, w.calm)
		return
	}
	w.calmAt = w.s.now
	w.faulty = false
	w.cloud.Set(func(k *fakecloud.Knobs) { *k = fakecloud.Knobs{} })
	w.deafUntil = time.Time{}
	for _, a := range w.agents {
		a.cutOff, a.hungUntil = time.Time{}, time.Time{}
	}
}

// atRest says that nothing is left to do: every job has ended with nothing to
// watch but what the user keeps.
func (w *world) atRest() bool {
	for _, id := range w.jobs {
		j := w.rows[id]
		if !j.State.Terminal() || len(j.Doomed) > 0 || len(j.Outbox) > 0 {
			return false
		}
		if j.Bucket != nil && j.Bucket.State == job.BucketDisposing {
			return false
		}
	}
	return len(w.jobs) > 0 && len(w.liveIDs) == 0
}

func newWorld(seed uint64, o Options) *world {
	w := &world{
		s: newScheduler(seed), faulty: true, broke: o.Variant,
		rows: map[string]*job.Job{}, dirty: map[string]bool{}, live: map[string]*fakecloud.VM{}, agents: map[string]*agent{},
		truth: map[string]*truth{}, running: map[string]*container{}, acked: map[string]commit{}, fences: map[string]int{},
		succeeded: map[runKey]int{}, exits0: map[runKey]int{}, givenUp: map[launchKey]bool{}, hits: map[string]int{},
	}
	w.p = w.s.drawProfile()
	w.spotShare = 0.85
	w.logger = slog.New(slog.DiscardHandler)
	if o.Log != nil {
		w.logger = slog.New(slog.NewTextHandler(o.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	now := func() time.Time { return w.s.now }
	w.store = memstore.New()
	w.store.Now = now
	w.store.Hook = w.storeHook
	w.cloud = fakecloud.New(fakecloud.Options{Now: now, Stack: stackID, Hook: w.cloudHook, Shown: 24 * time.Hour, Knobs: fakecloud.Knobs{OnLaunch: w.launchFate}})
	w.buckets = membucket.New(stackID)
	w.buckets.Now = now
	w.buckets.Hook = w.bucketHook
	w.logs = membucket.NewObjects()
	w.cp = w.controlPlane()
	return w
}

func (w *world) storeHook(_ context.Context, c memstore.Call) error {
	after := c.When == memstore.After
	if after && c.Err == nil && (c.Op == memstore.OpPut || c.Op == memstore.OpCreate) && w.s.current != nil {
		w.dirty[c.Key] = true
	}
	if after && errors.Is(c.Err, store.ErrConflict) {
		w.count(faultConflict)
	}
	return w.call("store."+string(c.Op), after, c.Err)
}

func (w *world) cloudHook(_ context.Context, c fakecloud.Call) error {
	after := c.When == fakecloud.After
	if after && c.Op == fakecloud.OpLaunch && c.Err != nil {
		w.sawLaunchError(c.Err)
	}
	if !after && c.Op == fakecloud.OpTerminate && w.s.current != nil {
		// The call's evidence is judged when it is made.
		if err := w.call("cloud.terminate", false, nil); err != nil {
			return err
		}
		w.checkTerminate(c.Key)
		return nil
	}
	return w.call("cloud."+string(c.Op), after, c.Err)
}

// bucketHook serves functions and agents: an agent is not crashed, but stalls
// and misses answers.
func (w *world) bucketHook(_ context.Context, c membucket.Call) error {
	t := w.s.current
	after := c.When == membucket.After
	if t == nil || t.crashable {
		if after && c.Err == nil && c.Op == membucket.OpDispose {
			w.checkDisposal(c.Bucket)
		}
		return w.call("bucket."+string(c.Op), after, c.Err)
	}
	return w.agentCall(c, after)
}

// agentCall is what happens around an agent's bucket calls: it may stall for
// long before any of them and go on after it was replaced.
func (w *world) agentCall(c membucket.Call, after bool) error {
	if after && c.Err == nil && c.Op == membucket.OpPutIfAbsent && strings.HasPrefix(c.Key, "log/") {
		w.checkEntry(c.Bucket, c.Key)
	}
	if !after && c.Op == membucket.OpDelete {
		w.checkDelete(c.Bucket, c.Key)
	}
	if w.faulty && !after && w.s.chance(w.p.agentStall) {
		w.count(faultWriterStall)
		w.s.pause(w.s.between(10*time.Second, 8*time.Minute))
	}
	if w.faulty && after && c.Err == nil && w.s.chance(w.p.bucketLost) {
		w.count(faultBucketLost)
		return errUnanswered
	}
	w.s.pause(w.s.between(time.Millisecond, 50*time.Millisecond))
	return nil
}

func isClass(err, class error) bool { return errors.Is(err, class) }

func (w *world) controlPlane() *controlplane.ControlPlane {
	st, cl := w.parts()
	return controlplane.New(controlplane.Options{
		Store: st, Clouds: map[string]cloud.Cloud{"fake": cl}, Buckets: map[string]bucket.Admin{"fake": w.buckets},
		Logs: w.logs, Bus: simBus{w}, Now: w.now, NewID: w.newID, Probe: w.probe, NewestEntry: w.newestEntry, Logger: w.logger,
		Config: controlplane.Config{Stack: stackID, Prefix: "sim", DefaultCloud: "fake", SweepEvery: sweepEvery, LaunchFor: functionTimeout + 10*time.Second, ReportEvery: reportEvery},
	})
}

// probe is the sweep's look at its own front door.
func (w *world) probe(context.Context) error {
	if w.s.now.Before(w.deafUntil) {
		return errUnanswered
	}
	return nil
}

func (w *world) newID() string {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	b := make([]byte, 10)
	for i := range b {
		b[i] = letters[w.s.rng.IntN(len(letters))]
	}
	return string(b)
}
