package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"anycloud/shared/cloud"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
	"anycloud/shared/store"
)

// Tick is the sweep: it compares the table with the clouds and mends what
// differs. at is the scheduled time, which numbers the sweep: a doubled tick
// counts once towards silence and absence.
//
// The rows are read before the listings begin, so that a VM that a row names
// and a listing does not show is really missing. A VM that is not in the rows
// read is judged by its row as read again after the listing.
func (c *ControlPlane) Tick(ctx context.Context, at time.Time) error {
	s := sweep{c: c, number: at.Unix() / max(1, int64(c.SweepEvery/time.Second)), vms: map[string]cloud.VM{}, listed: map[string]bool{}}
	s.hears = c.Probe == nil || c.Probe(ctx) == nil
	var errs []error
	jobs, err := c.activeJobs(ctx)
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	for _, name := range sortedKeys(c.Clouds) {
		if err := s.list(ctx, c.Clouds[name]); err != nil {
			errs = append(errs, fmt.Errorf("list the VMs of %s: %w", name, err))
		}
	}
	for _, j := range jobs {
		if err := s.job(ctx, j); err != nil {
			errs = append(errs, fmt.Errorf("sweep job %s: %w", j.ID, err))
		}
	}
	for _, vm := range s.order {
		if !s.known(vm) {
			if err := s.stranger(ctx, vm); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func (c *ControlPlane) activeJobs(ctx context.Context) (jobs []*job.Job, err error) {
	for after := ""; ; {
		page, next, skipped, err := c.Store.Active(ctx, after, 0)
		if err != nil {
			return nil, fmt.Errorf("read active jobs: %w", err)
		}
		if skipped > 0 {
			c.Logger.Warn("jobs of a newer version are left alone", "count", skipped)
		}
		jobs = append(jobs, page...)
		if next == "" {
			return jobs, nil
		}
		after = next
	}
}

// sweep is one tick's knowledge.
type sweep struct {
	c      *ControlPlane
	number int64
	hears  bool
	vms    map[string]cloud.VM
	order  []cloud.VM
	byJob  map[string][]cloud.VM
	names  map[string]bool // VMs that a row read names
	listed map[string]bool // clouds whose listing is whole
}

func (s *sweep) list(ctx context.Context, cl cloud.Cloud) error {
	if s.byJob == nil {
		s.byJob, s.names = map[string][]cloud.VM{}, map[string]bool{}
	}
	for page := ""; ; {
		vms, next, err := cl.List(ctx, page)
		if err != nil {
			return err // a listing that is not whole proves no absence
		}
		for _, vm := range vms {
			vm.Placement.Cloud = cl.Name()
			s.vms[vm.ID] = vm
			s.order = append(s.order, vm)
			s.byJob[vm.Job] = append(s.byJob[vm.Job], vm)
		}
		if next == "" {
			s.listed[cl.Name()] = true
			return nil
		}
		page = next
	}
}

// job brings one job's row up to what the listings say, and drives it on.
func (s *sweep) job(ctx context.Context, j *job.Job) error {
	c := s.c
	heard, err := s.logHeard(ctx, j)
	if err != nil {
		c.Logger.Debug("log not readable", "job", j.ID, "err", err)
	}
	// Decided on the row as read before the listing: only what it names can be
	// missing from the listing. Next applies it to the row as it is now.
	if es := s.events(j, heard); len(es) > 0 {
		j, err = c.change(ctx, j.ID, always(es...))
		if err != nil && ignoreRefused(err) != nil {
			return err
		}
		if j == nil {
			return nil
		}
	}
	for _, id := range j.VMIDs() {
		s.names[id] = true
	}
	for i := range j.Attempts {
		s.names[j.Attempts[i].VMID] = true
	}
	for _, o := range j.Others {
		s.names[o.VMID] = true
	}
	c.markLost(ctx, j, s.number)
	return s.drive(ctx, j)
}

// drive re-drives what is stuck: events are hints, this is the floor.
func (s *sweep) drive(ctx context.Context, j *job.Job) error {
	c := s.c
	now := c.Now()
	if len(j.Outbox) > 0 && now.Sub(j.UpdatedAt) > time.Second {
		c.publish(ctx, j)
	}
	if j.LimitDue(now) != nil {
		return c.Recover(ctx, j.ID)
	}
	switch j.State {
	case job.Pending, job.Recovering:
		if now.Before(j.WakeAt) && !due(j, now) {
			return nil
		}
		return c.Recover(ctx, j.ID)
	case job.Provisioning:
		if !now.Before(j.Launch.Deadline) || due(j, now) {
			return c.Recover(ctx, j.ID)
		}
	case job.Starting, job.Running:
		if due(j, now) {
			return c.Recover(ctx, j.ID)
		}
	default:
		if j.State == job.Stopping || len(j.Doomed) > 0 || c.keptOut(j) || j.Bucket != nil && j.Bucket.State == job.BucketDisposing {
			return c.Cleanup(ctx, j.ID)
		}
	}
	return nil
}

// due says whether a doomed VM waits to be terminated.
func due(j *job.Job, now time.Time) bool {
	return slices.ContainsFunc(j.Doomed, func(d job.Doomed) bool { return d.VMID != "" && !now.Before(d.TerminateAfter) })
}

// events are what the listings say about a row.
func (s *sweep) events(j *job.Job, heard map[int]time.Time) []job.Event {
	var es []job.Event
	for _, vm := range s.byJob[j.ID] {
		es = append(es, s.vmEvents(j, vm)...)
	}
	missing := func(id, cloud string) {
		if _, shown := s.vms[id]; !shown && s.listed[cloud] {
			es = append(es, job.VMMissed{VMID: id, Sweep: s.number})
		}
	}
	for i := range j.Attempts {
		a := &j.Attempts[i]
		if !a.Gone {
			missing(a.VMID, a.Placement.Cloud)
		}
	}
	for _, d := range j.Doomed {
		switch {
		case d.VMID == "":
			if s.listed[d.Cloud] && !slices.ContainsFunc(s.byJob[j.ID], func(vm cloud.VM) bool { return vm.Attempt == d.Attempt && vm.Launch == d.Launch }) {
				es = append(es, job.LaunchMissed{Attempt: d.Attempt, Number: d.Launch, Sweep: s.number})
			}
		case j.AttemptOf(d.VMID) == nil:
			missing(d.VMID, d.Cloud)
		}
	}
	return append(es, s.silence(j, heard)...)
}

// vmEvents compares one shown VM with the row; nothing where they agree.
func (s *sweep) vmEvents(j *job.Job, vm cloud.VM) []job.Event {
	a, d := j.AttemptOf(vm.ID), j.DoomedVM(vm.ID)
	var es []job.Event
	switch {
	case vm.State == cloud.Terminated:
		if a != nil && !a.Gone || d != nil || a == nil && !slices.ContainsFunc(j.Others, func(o job.OtherVM) bool { return o.VMID == vm.ID && !o.EndedAt.IsZero() }) {
			es = append(es, job.VMGone{VM: facts(vm, vm.Placement.Cloud)})
		}
		return es
	case a == nil && d == nil, a != nil && (!a.Seen || a.AbsentCount > 0), d != nil && (!d.Seen || d.AbsentCount > 0):
		es = append(es, job.VMSeen{VM: facts(vm, vm.Placement.Cloud)})
	}
	if a == nil || a.Doomed {
		return es
	}
	now := s.c.Now()
	if vm.Impaired {
		es = append(es, job.Interrupted{VMID: vm.ID, Kind_: string(preempt.Impaired), At: now})
	}
	if vm.State == cloud.Going {
		es = append(es, job.Interrupted{VMID: vm.ID, Kind_: string(preempt.Going), At: now})
	}
	if vm.Notice != nil {
		es = append(es, noticeEvents(*vm.Notice, j)...)
	}
	return es
}

// silence counts sweeps in which the agents' endpoint answered and the attempt
// said nothing, neither to us nor in its log.
func (s *sweep) silence(j *job.Job, heard map[int]time.Time) []job.Event {
	if !s.hears || j.State == job.Stopping || j.State.Terminal() {
		return nil
	}
	var es []job.Event
	for i := range j.Attempts {
		a := &j.Attempts[i]
		if a.Gone || a.Doomed || a.Kept || a.Number != j.Writer && a.Number != j.Attempt {
			continue
		}
		if s.c.Now().Sub(lastHeard(a, heard)) >= max(s.c.SweepEvery, job.HearEvery+s.c.ReportEvery) {
			es = append(es, job.Silence{Attempt: a.Number, Sweep: s.number, Every: s.c.SweepEvery})
		}
	}
	return es
}

func lastHeard(a *job.Attempt, heard map[int]time.Time) time.Time {
	last := a.LastHeard
	if last.IsZero() {
		last = a.StartedAt
	}
	if t := heard[a.Number]; t.After(last) {
		last = t
	}
	return last
}

// logHeard reads the newest log entry's time of a job whose writer seems
// silent; nothing for others, so that a sweep costs no call per healthy job.
func (s *sweep) logHeard(ctx context.Context, j *job.Job) (map[int]time.Time, error) {
	if s.c.NewestEntry == nil || j.Bucket == nil || j.Bucket.State != job.BucketCreated || len(s.silence(j, nil)) == 0 {
		return nil, nil
	}
	w := j.AttemptNo(j.Writer)
	if w == nil || w.SecretHash == "" {
		return nil, nil
	}
	admin, err := s.c.bucketsOf(j.Bucket.Cloud)
	if err != nil {
		return nil, err
	}
	objects, err := admin.Open(ctx, j.Bucket.Name)
	if err != nil {
		return nil, err
	}
	at, err := s.c.NewestEntry(ctx, objects)
	if err != nil {
		return nil, err
	}
	return map[int]time.Time{w.Number: at}, nil
}

func (s *sweep) known(vm cloud.VM) bool { return s.names[vm.ID] || vm.Job == "" }

// stranger is a VM of our stack that no row read names: its row, read again
// after the listing, decides. Without a row it is doctor's, not ours.
func (s *sweep) stranger(ctx context.Context, vm cloud.VM) error {
	j, err := s.c.change(ctx, vm.Job, func(j *job.Job) ([]job.Event, error) { return s.vmEvents(j, vm), nil })
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil && ignoreRefused(err) != nil:
		return fmt.Errorf("sweep %s: %w", vm.ID, err)
	case j == nil:
		return nil
	}
	return s.c.terminateDue(ctx, j)
}

// markLost remembers the pools of VMs that this sweep found lost.
func (c *ControlPlane) markLost(ctx context.Context, j *job.Job, sweep int64) {
	var bad []job.Placement
	for i := range j.Attempts {
		a := &j.Attempts[i]
		if a.EndReason == job.EndVanished && a.Placement.Spot && a.AbsentSweep == sweep {
			bad = append(bad, a.Placement)
		}
	}
	if len(bad) > 0 {
		c.markPools(ctx, bad)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
