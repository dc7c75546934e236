// Package bustest is the suite that every bus driver passes.
package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"anycloud/shared/bus"
)

// Bus is one process's end of the bus under test.
type Bus interface {
	bus.Publisher
	// Subscribe comes before Start.
	Subscribe(name string, types []string, h bus.Handler)
	// Start begins to deliver, Stop ends it and returns when the last handler
	// has. What was published and not handled is kept.
	Start()
	Stop()
	// DeadLetters lists the ids of events that a subscriber failed on for good.
	DeadLetters() ([]string, error)
}

// Harness builds what a driver is tested on.
type Harness struct {
	// Fresh makes a bus with nothing on it and returns how to open it: again
	// after a Stop for a restarted process. Tries should be few and delays short.
	Fresh func(t *testing.T) (open func() Bus)
	// Patience is how long a delivery may take; 0: 10 s.
	Patience time.Duration
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	if h.Patience == 0 {
		h.Patience = 10 * time.Second
	}
	for name, test := range map[string]func(*testing.T, Harness){
		"every subscriber gets its types":  testTypes,
		"a failure is delivered again":     testRedelivery,
		"a panic is a failure":             testPanic,
		"what always fails dies":           testDead,
		"one subscriber holds up no other": testSlow,
		"a restart keeps what is waiting":  testRestart,
		"many publishers lose nothing":     testMany,
		"an ended context sends nothing":   testEnded,
	} {
		t.Run(name, func(t *testing.T) { test(t, h) })
	}
}

func event(id, kind string) bus.Event {
	return bus.Event{Version: 1, ID: id, Type: kind, JobID: "acme-job", Attempt: 2, State: "running", Reason: "why", Time: time.Unix(1e9, 5).UTC()}
}

func publish(t *testing.T, b bus.Publisher, events ...bus.Event) {
	t.Helper()
	if err := b.Publish(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
}

// inbox collects what a subscriber got.
type inbox struct {
	mu    sync.Mutex
	count map[string]int
	last  bus.Event
	news  chan struct{}
}

func newInbox() *inbox { return &inbox{count: map[string]int{}, news: make(chan struct{}, 1)} }

func (in *inbox) handle(_ context.Context, e bus.Event) error {
	in.add(e)
	return nil
}

func (in *inbox) add(e bus.Event) int {
	in.mu.Lock()
	in.count[e.ID]++
	in.last = e
	n := in.count[e.ID]
	in.mu.Unlock()
	select {
	case in.news <- struct{}{}:
	default:
	}
	return n
}

func (in *inbox) ids() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	var ids []string
	for id := range in.count {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// want waits until exactly these came, each at least once.
func (in *inbox) want(t *testing.T, h Harness, ids ...string) {
	t.Helper()
	slices.Sort(ids)
	end := time.After(h.Patience)
	for !slices.Equal(in.ids(), ids) {
		select {
		case <-in.news:
		case <-end:
			t.Fatalf("got %q, want %q", in.ids(), ids)
		}
	}
}

func testTypes(t *testing.T, h Harness) {
	b := h.Fresh(t)()
	all, some, none := newInbox(), newInbox(), newInbox()
	b.Subscribe("all", nil, all.handle)
	b.Subscribe("some", []string{bus.JobPreempted, bus.JobExited}, some.handle)
	b.Subscribe("none", []string{bus.JobWaiting}, none.handle)
	b.Start()
	defer b.Stop()
	publish(t, b, event("1", bus.JobSubmitted), event("2", bus.JobPreempted))
	publish(t, b, event("3", bus.JobExited))
	publish(t, b)
	all.want(t, h, "1", "2", "3")
	some.want(t, h, "2", "3")
	none.want(t, h)
	publish(t, b, event("4", bus.JobWaiting))
	none.want(t, h, "4")
	if got := none.last; !got.Time.Equal(event("", "").Time) || got.JobID != "acme-job" || got.Attempt != 2 || got.State != "running" || got.Reason != "why" || got.Version != 1 {
		t.Errorf("arrived as %+v", got)
	}
}

func testRedelivery(t *testing.T, h Harness) {
	b := h.Fresh(t)()
	in, ok := newInbox(), newInbox()
	b.Subscribe("failing", nil, func(_ context.Context, e bus.Event) error {
		if in.add(e) < 3 {
			return errors.New("not yet")
		}
		return ok.handle(t.Context(), e)
	})
	b.Start()
	defer b.Stop()
	publish(t, b, event("1", bus.JobRetry))
	ok.want(t, h, "1")
	if dead, err := b.DeadLetters(); len(dead) > 0 || err != nil {
		t.Errorf("dead letters %q, %v", dead, err)
	}
}

func testPanic(t *testing.T, h Harness) {
	b := h.Fresh(t)()
	in, ok := newInbox(), newInbox()
	b.Subscribe("panicking", nil, func(ctx context.Context, e bus.Event) error {
		if in.add(e) < 2 {
			panic("first time")
		}
		return ok.handle(ctx, e)
	})
	b.Start()
	defer b.Stop()
	publish(t, b, event("1", bus.JobRetry))
	ok.want(t, h, "1")
}

func testDead(t *testing.T, h Harness) {
	b := h.Fresh(t)()
	good := newInbox()
	b.Subscribe("bad", nil, func(context.Context, bus.Event) error { return errors.New("never") })
	b.Subscribe("good", nil, good.handle)
	b.Start()
	defer b.Stop()
	publish(t, b, event("1", bus.JobRetry))
	good.want(t, h, "1")
	var dead []string
	for end := time.Now().Add(h.Patience); len(dead) == 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var err error
		if dead, err = b.DeadLetters(); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(dead, []string{"1"}) {
		t.Fatalf("dead letters %q", dead)
	}
}

func testSlow(t *testing.T, h Harness) {
	b := h.Fresh(t)()
	free := make(chan struct{})
	quick := newInbox()
	b.Subscribe("slow", nil, func(context.Context, bus.Event) error { <-free; return nil })
	b.Subscribe("quick", nil, quick.handle)
	b.Start()
	defer b.Stop()
	defer close(free)
	publish(t, b, event("1", bus.JobRetry))
	quick.want(t, h, "1")
	publish(t, b, event("2", bus.JobRetry))
	quick.want(t, h, "1", "2")
}

func testRestart(t *testing.T, h Harness) {
	open := h.Fresh(t)
	b := open()
	done := newInbox()
	started := make(chan struct{}, 8)
	b.Subscribe("worker", nil, func(ctx context.Context, e bus.Event) error {
		if e.ID == "done" {
			return done.handle(ctx, e)
		}
		started <- struct{}{}
		<-ctx.Done() // cut off in the middle
		return ctx.Err()
	})
	b.Start()
	publish(t, b, event("done", bus.JobRetry))
	done.want(t, h, "done")
	publish(t, b, event("1", bus.JobRetry))
	<-started
	b.Stop()

	b = open() // published to a process that does not deliver
	again := newInbox()
	b.Subscribe("worker", nil, again.handle)
	publish(t, b, event("2", bus.JobRetry))
	b.Stop()

	b = open()
	b.Subscribe("worker", nil, again.handle)
	b.Start()
	defer b.Stop()
	end := time.After(h.Patience)
	for ids := again.ids(); !slices.Contains(ids, "1") || !slices.Contains(ids, "2"); ids = again.ids() {
		select {
		case <-again.news:
		case <-end:
			t.Fatalf("after the restart: %q", ids)
		}
	}
}

func testMany(t *testing.T, h Harness) {
	b := h.Fresh(t)()
	in := newInbox()
	b.Subscribe("all", nil, in.handle)
	b.Start()
	defer b.Stop()
	const publishers, each = 8, 10
	var wg sync.WaitGroup
	var want []string
	for p := range publishers {
		for n := range each {
			want = append(want, fmt.Sprintf("%d/%d", p, n))
		}
		wg.Go(func() {
			for n := range each {
				if err := b.Publish(context.Background(), event(fmt.Sprintf("%d/%d", p, n), bus.JobRetry)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	in.want(t, h, want...)
}

func testEnded(t *testing.T, h Harness) {
	b := h.Fresh(t)()
	in := newInbox()
	b.Subscribe("all", nil, in.handle)
	b.Start()
	defer b.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if b.Publish(ctx, event("1", bus.JobRetry)) == nil {
		t.Error("published with an ended context")
	}
	publish(t, b, event("2", bus.JobRetry))
	in.want(t, h, "2")
}
