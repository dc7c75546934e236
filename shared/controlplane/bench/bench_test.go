package bench

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/bucket/membucket"
	"anycloud/shared/bus"
	"anycloud/shared/bus/localbus"
	"anycloud/shared/cloud"
	"anycloud/shared/cloud/fakecloud"
	"anycloud/shared/controlplane"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
	"anycloud/shared/store/boltstore"
)

var (
	notices = flag.Int("notices", 200, "notices to measure")
	many    = flag.Int("jobs", 2000, "jobs in the sweep")
)

// noticeLimit is what users are promised of a notice's way to the launch call.
const noticeLimit = 250 * time.Millisecond

type rig struct {
	cp       *controlplane.ControlPlane
	table    *boltstore.Store
	cloud    *fakecloud.Cloud
	bus      *localbus.Bus
	launched chan time.Time
}

func newRig(t *testing.T) *rig {
	t.Helper()
	table, err := boltstore.Open(filepath.Join(t.TempDir(), "table.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Close() })
	b, err := localbus.New(table.File(), localbus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{table: table, bus: b, launched: make(chan time.Time, 16)}
	hook := func(_ context.Context, c fakecloud.Call) error {
		if c.Op == fakecloud.OpLaunch && c.When == fakecloud.Before {
			select {
			case r.launched <- time.Now():
			default:
			}
		}
		return nil
	}
	r.cloud = fakecloud.New(fakecloud.Options{Now: time.Now, Stack: "bench", Hook: hook, BootDelay: -1, TerminationDelay: -1, PageSize: 1000})
	ids := 0
	r.cp = controlplane.New(controlplane.Options{
		Store: table, Clouds: map[string]cloud.Cloud{"fake": r.cloud}, Buckets: map[string]bucket.Admin{"fake": membucket.New("bench")},
		Logs: membucket.NewObjects(), Bus: b, NewID: func() string { ids++; return fmt.Sprintf("%010d", ids) },
		Config: controlplane.Config{Stack: "bench", Prefix: "ac", DefaultCloud: "fake"},
	})
	b.Subscribe("recover", []string{bus.JobSubmitted, bus.JobPreempted, bus.JobRetry}, func(ctx context.Context, e bus.Event) error {
		return r.cp.Recover(ctx, e.JobID)
	})
	return r
}

// submit makes a job whose VM is launched.
func (r *rig) submit(t *testing.T) *job.Job {
	t.Helper()
	ctx := t.Context()
	reply, err := r.cp.Submit(ctx, api.SubmitRequest{Spec: job.Spec{Image: "bench", Spot: true}}, "")
	if err != nil {
		t.Fatal(err)
	}
	<-r.launched
	for {
		j, err := r.table.Get(ctx, reply.Job.ID)
		if err != nil {
			t.Fatal(err)
		}
		if j.State == job.Starting {
			return j
		}
		time.Sleep(time.Millisecond)
	}
}

// TestBench measures and holds to the limits.
func TestBench(t *testing.T) {
	t.Run("notice to launch call", benchNotice)
	t.Run("sweep of many jobs", benchSweep)
}

func benchNotice(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go r.bus.Run(ctx) //nolint:errcheck // ends with ctx
	var took []time.Duration
	for range *notices {
		j := r.submit(t)
		for len(r.launched) > 0 {
			<-r.launched
		}
		at := time.Now()
		if err := r.cp.Notice(ctx, preempt.Notice{VMID: j.AttemptNo(1).VMID, Kind: preempt.Interruption, At: at, Deadline: at.Add(2 * time.Minute), Drill: true}); err != nil {
			t.Fatal(err)
		}
		took = append(took, (<-r.launched).Sub(at))
	}
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	t.Logf("%d notices, embedded table and bus: p50 %.1f ms, p99 %.1f ms; limit %v, p99/limit %.2f", len(took), ms(p50), ms(p99), noticeLimit, float64(p99)/float64(noticeLimit))
	if p99 > noticeLimit {
		t.Errorf("p99 %v is over the limit of %v", p99, noticeLimit)
	}
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

// benchSweep counts the cloud's calls of one tick: pages, not jobs.
func benchSweep(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	ids := make([]string, *many)
	for i := range ids {
		j := job.New(fmt.Sprintf("ac-many-%010d", i), "bench", job.Spec{Image: "x", UnresponsiveAfter: job.Never}, nil, time.Now())
		j.Outbox = nil
		vm, err := r.cloud.Launch(ctx, cloud.LaunchRequest{Token: j.ID, Job: j.ID, Attempt: 1, Launch: 1, Candidates: offers(t, r)})
		if err != nil {
			t.Fatal(err)
		}
		place := vm.Placement
		place.Cloud = "fake"
		j.State, j.Attempt, j.Writer, j.Launches = job.Running, 1, 1, 1
		j.Attempts = []job.Attempt{{Number: 1, VMID: vm.ID, Launch: 1, Placement: place, StartedAt: time.Now(), SecretHash: "x", LastHeard: time.Now(), Watch: job.Watch{Seen: true}}}
		if err := r.table.Create(ctx, j); err != nil {
			t.Fatal(err)
		}
	}
	ops := []fakecloud.Op{fakecloud.OpList, fakecloud.OpDescribe, fakecloud.OpTerminate, fakecloud.OpLaunch, fakecloud.OpOffers}
	before := map[fakecloud.Op]int{}
	for _, op := range ops {
		before[op] = r.cloud.Calls(op)
	}
	at := time.Now()
	if err := r.cp.Tick(ctx, at); err != nil {
		t.Fatal(err)
	}
	took := time.Since(at)
	calls := 0
	for _, op := range ops {
		calls += r.cloud.Calls(op) - before[op]
	}
	pages := (*many + 999) / 1000
	t.Logf("sweep of %d running jobs: %d cloud calls (%d pages of 1,000 VMs), %.0f ms", *many, calls, pages, ms(took))
	if calls > pages+1 {
		t.Errorf("%d cloud calls for %d pages: a sweep must cost pages, not jobs", calls, pages)
	}
}

func offers(t *testing.T, r *rig) []job.Placement {
	t.Helper()
	ps, err := r.cloud.Offers(t.Context(), cloud.Needs{})
	if err != nil {
		t.Fatal(err)
	}
	return ps[:1]
}
