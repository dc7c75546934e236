package sim

import (
	"context"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

// chaosFor is how long faults are injected, or longer until two VMs were lost;
// then the world must come to rest.
const chaosFor = 4 * time.Minute

// A schedule has at least so many jobs, and losses of VMs.
const (
	leastJobs   = 2
	leastLosses = 2
)

// chaos lets clouds and users act, again and again, until faults stop.
func (w *world) chaos() {
	if !w.faulty {
		return
	}
	switch {
	case w.s.chance(w.p.lossShare):
		w.loss()
	case w.s.chance(w.p.users):
		w.user()
	default:
		w.weather()
	}
	w.s.at(w.s.between(w.p.chaosEvery/2, 2*w.p.chaosEvery), w.chaos)
}

// pickVM picks a live VM at random, or "".
func (w *world) pickVM() string {
	if len(w.liveIDs) == 0 {
		return ""
	}
	return w.liveIDs[w.s.rng.IntN(len(w.liveIDs))]
}

// loss takes a VM, with or without a word.
func (w *world) loss() {
	id := w.pickVM()
	if id == "" {
		return
	}
	vm := w.live[id]
	if j := w.rows[vm.Job]; j != nil && j.KeptVM(id) != nil {
		return
	}
	w.losses++
	if j := w.rows[vm.Job]; j != nil {
		if a := j.AttemptOf(id); a != nil && a.Number > j.Writer && j.Writer > 0 {
			w.count(faultStandbyLost)
		}
	}
	if !w.truth[id].claimed {
		w.count(faultBootFails)
	}
	notice := w.s.between(15*time.Second, time.Minute)
	switch w.s.rng.IntN(5) {
	case 0, 1:
		w.count(faultWarned)
		w.interrupt(id, notice, true)
	case 2:
		w.count(faultUnwarned)
		w.interrupt(id, notice, false)
	case 3:
		w.count(faultVanished)
		w.truth[id].noticed = true
		if !w.cloud.Vanish(id) {
			return // it ended by itself since the last look
		}
		w.notify(preempt.Notice{VMID: id, Kind: preempt.Gone, At: w.s.now, Source: "sim"})
	case 4:
		w.count(faultImpaired)
		w.truth[id].noticed = true
		w.cloud.Impair(id)
	}
}

// interrupt is a spot interruption: the VM ends at the deadline by itself. With
// warn, the metadata tells the agent and the event tells preemptwatch.
func (w *world) interrupt(id string, notice time.Duration, warn bool) {
	w.truth[id].noticed = true
	w.cloud.Interrupt(id, notice, warn)
	if !warn {
		return
	}
	n := preempt.Notice{VMID: id, Kind: preempt.Interruption, At: w.s.now, Deadline: w.s.now.Add(notice), Source: "sim"}
	if a := w.agents[id]; a != nil {
		w.s.at(w.s.between(0, 5*time.Second), func() {
			if !a.noticed {
				a.noticed, a.deadline = true, n.Deadline
				a.report.Notice = &n
			}
		})
	}
	w.notify(n)
}

// notify brings a cloud's event to preemptwatch: lost, doubled or late, as all
// events are.
func (w *world) notify(n preempt.Notice) {
	for range w.copies() {
		w.invoke("preemptwatch", w.eventDelay(), func(ctx context.Context) error { return w.cp.Notice(ctx, n) }, nil)
	}
}

// weather is what befalls the world without taking a VM.
func (w *world) weather() {
	d := w.s.between(20*time.Second, 3*time.Minute)
	switch w.s.rng.IntN(7) {
	case 0:
		w.count(faultDeaf)
		w.deafUntil = w.s.now.Add(d)
	case 1:
		if a := w.agents[w.pickVM()]; a != nil {
			w.count(faultPartition)
			a.cutOff = w.s.now.Add(d)
		}
	case 2:
		if a := w.agents[w.pickVM()]; a != nil {
			w.count(faultHang)
			a.hungUntil = w.s.now.Add(d)
		}
	case 3:
		w.drought(d)
	case 4:
		w.quota(d)
	case 5:
		w.throttle(d)
	case 6:
		id := w.pickVM()
		if a := w.agents[id]; a != nil {
			w.count(faultRebalance)
			w.notify(preempt.Notice{VMID: id, Kind: preempt.Rebalance, At: w.s.now, Source: "sim"})
		}
	}
}

// user does what users do, through the front door.
func (w *world) user() {
	if len(w.jobs) == 0 {
		return
	}
	id := w.jobs[w.s.rng.IntN(len(w.jobs))]
	j := w.rows[id]
	if j == nil {
		return
	}
	// A caller may act on what it saw a while ago: its revision guards it.
	seen := j.Revision
	if w.s.chance(0.3) {
		seen = 0
	}
	after := w.s.between(0, 10*time.Second)
	do := func(f func(context.Context) error) { w.invoke("user", after, f, nil) }
	switch {
	case j.State.Terminal():
		w.count(faultResubmit)
		r := api.ResubmitRequest{Fresh: w.s.chance(0.2)}
		do(func(ctx context.Context) error { _, err := w.cp.Resubmit(ctx, id, seen, r); return err })
	case w.s.chance(0.4):
		w.count(faultSaveAsked)
		do(func(ctx context.Context) error {
			_, err := w.cp.Checkpoint(ctx, id, api.CheckpointRequest{})
			return err
		})
	default:
		now := w.s.chance(0.3)
		w.count(faultCancel)
		if now {
			w.count(faultCancelNow)
		}
		do(func(ctx context.Context) error {
			_, err := w.cp.Cancel(ctx, id, seen, api.CancelRequest{Now: now})
			return err
		})
	}
}

// tick invokes the sweep every 30 s; ticks may be lost or doubled.
func (w *world) tick() {
	at := w.s.now
	n := 1
	if w.faulty && w.s.chance(w.p.tickLost) {
		w.count(faultTickLost)
		n = 0
	} else if w.faulty && w.s.chance(w.p.tickDouble) {
		w.count(faultTickDoubled)
		n = 2
	}
	if w.broke == StaleOrphans || w.broke == SilenceByClock {
		w.invoke("careless sweep", w.s.between(0, 500*time.Millisecond), w.brokenSweep, nil)
	}
	for range n {
		w.invoke("tick", w.s.between(0, 500*time.Millisecond), func(ctx context.Context) error { return w.cp.Tick(ctx, at) }, nil)
	}
	w.hearing()
	w.s.at(sweepEvery, w.tick)
}

const sweepEvery = 30 * time.Second

// hearing counts, for I5, the time in which the control plane could have heard
// an agent and did not.
func (w *world) hearing() {
	for _, id := range w.liveIDs {
		tr := w.truth[id]
		if tr.lastHeard.Before(w.s.now.Add(-sweepEvery)) && !w.s.now.Before(w.deafUntil) {
			tr.heardFor += sweepEvery
		}
	}
}

// specOf draws what a simulated user wants.
func (w *world) specOf() job.Spec {
	s := job.Spec{
		Image: "acme/train", Spot: w.s.chance(w.spotShare), Retries: w.s.rng.IntN(3), UnresponsiveAfter: job.Duration(unresponsiveAfter),
		Grace: new(job.Duration(20 * time.Second)), KeepCheckpoint: new(job.Duration(10 * time.Minute)),
		PersistBucket: w.s.chance(0.2), RestartOnLoss: w.s.chance(0.7),
	}
	if w.s.chance(0.5) {
		s.UnresponsiveAfter = job.Duration(2 * time.Minute) // impatient users
	}
	if w.s.chance(0.1) {
		n := w.s.rng.IntN(3)
		s.MaxPreemptions = &n
	}
	if w.s.chance(0.1) {
		s.MaxRuntime = job.Duration(time.Duration(1+w.s.rng.IntN(10)) * time.Minute)
	}
	if w.s.chance(0.05) {
		s.Deadline = w.s.now.Add(time.Duration(1+w.s.rng.IntN(20)) * time.Minute)
	}
	if s.Spot && w.s.chance(0.3) {
		s.Fallback = "on-demand=1m"
	}
	return s
}
