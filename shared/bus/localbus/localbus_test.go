package localbus

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"anycloud/shared/bus"
	"anycloud/shared/bus/bustest"
	"anycloud/shared/internal/boltfile"
)

// running is a bus as one process has it.
type running struct {
	*Bus
	file *boltfile.File
	stop func()
}

func (r *running) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	r.stop = func() { cancel(); <-done }
}

func (r *running) Stop() {
	if r.stop != nil {
		r.stop()
	}
	r.file.Close()
}

func (r *running) DeadLetters() (ids []string, err error) {
	letters, err := r.Bus.DeadLetters(context.Background())
	for _, l := range letters {
		ids = append(ids, l.Event.ID)
	}
	return ids, err
}

func TestSuite(t *testing.T) {
	bustest.Run(t, bustest.Harness{Fresh: func(t *testing.T) func() bustest.Bus {
		path := filepath.Join(t.TempDir(), "table.db")
		return func() bustest.Bus {
			f, b := open(t, path, Options{MinDelay: time.Millisecond, MaxDelay: 4 * time.Millisecond, Tries: 4})
			return &running{Bus: b, file: f}
		}
	}})
}

func open(t testing.TB, path string, o Options) (*boltfile.File, *Bus) {
	t.Helper()
	f, err := boltfile.Open(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(f, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, b
}

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time       { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) pass(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.t = c.t.Add(d) }
func newClock() *clock                { return &clock{t: time.Unix(1e9, 0)} }
func path(t testing.TB) string        { return filepath.Join(t.TempDir(), "table.db") }
func sample(id string) bus.Event      { return bus.Event{ID: id, Type: bus.JobRetry} }
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
func step(t testing.TB, b *Bus) (did bool) {
	t.Helper()
	did, err := b.Step(t.Context())
	must(t, err)
	return did
}

func TestDelaysGrowToTheCapAndThenTheEventDies(t *testing.T) {
	c := newClock()
	_, b := open(t, path(t), Options{Now: c.now})
	tries := 0
	b.Subscribe("s", nil, func(context.Context, bus.Event) error { tries++; return fmt.Errorf("failure %d", tries) })
	must(t, b.Publish(t.Context(), sample("e")))
	if !step(t, b) {
		t.Fatal("nothing was due")
	}
	for i, d := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30, 30} {
		d *= time.Second
		c.pass(d - time.Millisecond)
		if step(t, b) {
			t.Fatalf("try %d came before %v", i+2, d)
		}
		c.pass(time.Millisecond)
		if !step(t, b) {
			t.Fatalf("try %d did not come after %v", i+2, d)
		}
	}
	c.pass(time.Hour)
	if step(t, b) || tries != DefaultTries {
		t.Fatalf("%d tries", tries)
	}
	letters, err := b.DeadLetters(t.Context())
	must(t, err)
	if len(letters) != 1 || letters[0].ID != "s/1" || letters[0].Tries != 10 || letters[0].Error != "failure 10" || letters[0].Event.ID != "e" {
		t.Fatalf("%+v", letters)
	}
}

func TestRedrive(t *testing.T) {
	p := path(t)
	c := newClock()
	f, b := open(t, p, Options{Now: c.now, Tries: 1})
	b.Subscribe("s", nil, func(context.Context, bus.Event) error { return errors.New("broken") })
	must(t, b.Publish(t.Context(), sample("a"), sample("b"), sample("c")))
	step(t, b)
	must(t, f.Close())

	_, b = open(t, p, Options{Now: c.now, Workers: 1})
	var got []string
	b.Subscribe("s", nil, func(_ context.Context, e bus.Event) error { got = append(got, e.ID); return nil })
	letters, err := b.DeadLetters(t.Context())
	must(t, err)
	if len(letters) != 3 || step(t, b) {
		t.Fatalf("%+v, delivered %q", letters, got)
	}
	if n, err := b.Redrive(t.Context(), letters[1].ID, "s/99"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	step(t, b)
	one := letters[1].Event.ID
	if len(got) != 1 || got[0] != one {
		t.Fatalf("delivered %q, want %q", got, one)
	}
	if n, err := b.Redrive(t.Context()); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	step(t, b)
	slices.Sort(got)
	if letters, err = b.DeadLetters(t.Context()); len(letters) > 0 || err != nil || !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Fatalf("%+v, %v, delivered %q", letters, err, got)
	}
}

func TestHandlersRunAtOnceUpToTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b := open(t, path(t), Options{Workers: 3})
		var mu sync.Mutex
		now, most, done := 0, 0, 0
		b.Subscribe("s", nil, func(context.Context, bus.Event) error {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Minute)
			mu.Lock()
			now--
			done++
			mu.Unlock()
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		go b.Run(ctx)
		for i := range 10 {
			must(t, b.Publish(t.Context(), sample(fmt.Sprint(i))))
		}
		start := time.Now()
		time.Sleep(4*time.Minute + time.Second)
		mu.Lock()
		if most != 3 || done != 10 {
			t.Errorf("at most %d at once, %d done after %v", most, done, time.Since(start))
		}
		mu.Unlock()
		cancel()
		synctest.Wait()
	})
}

func TestRunKeepsTheDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b := open(t, path(t), Options{})
		var at []time.Duration
		start := time.Now()
		b.Subscribe("s", nil, func(context.Context, bus.Event) error {
			at = append(at, time.Since(start).Round(100*time.Millisecond))
			if len(at) < 4 {
				return errors.New("not yet")
			}
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		go b.Run(ctx)
		must(t, b.Publish(t.Context(), sample("e")))
		time.Sleep(time.Minute)
		cancel()
		synctest.Wait()
		if want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("tries at %v, want %v", at, want)
		}
	})
}

func TestShutdownUsesUpNoTry(t *testing.T) {
	_, b := open(t, path(t), Options{Tries: 1})
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	b.Subscribe("s", nil, func(ctx context.Context, _ bus.Event) error {
		calls++
		cancel()
		return ctx.Err()
	})
	must(t, b.Publish(t.Context(), sample("e")))
	b.Run(ctx)
	if letters, err := b.DeadLetters(t.Context()); len(letters) > 0 || err != nil {
		t.Fatalf("%+v, %v", letters, err)
	}
	if !step(t, b) || calls != 2 {
		t.Fatalf("%d calls", calls)
	}
}

func TestClockSetBackDelaysNothingForLong(t *testing.T) {
	c := newClock()
	_, b := open(t, path(t), Options{Now: c.now})
	b.Subscribe("s", nil, func(context.Context, bus.Event) error { return nil })
	must(t, b.Publish(t.Context(), sample("e")))
	c.pass(-time.Hour)
	if !step(t, b) {
		t.Fatal("the event waits for an hour")
	}
}

func TestUnreadableEventsAreLeftAndTheRestGoesOn(t *testing.T) {
	f, b := open(t, path(t), Options{})
	var got []string
	b.Subscribe("s", nil, func(_ context.Context, e bus.Event) error { got = append(got, e.ID); return nil })
	must(t, f.Update(func(tx *bolt.Tx) error {
		q, err := subtable(tx, queuesTable, "s")
		if err != nil {
			return err
		}
		if err := q.Put([]byte("0000000000000000"), []byte("garbage")); err != nil {
			return err
		}
		return q.Put(make([]byte, 16), boltfile.Seal([]byte(`{"format":2}`)))
	}))
	must(t, b.Publish(t.Context(), sample("e")))
	if !step(t, b) || step(t, b) || !slices.Equal(got, []string{"e"}) {
		t.Fatalf("delivered %q", got)
	}
}

func TestSubscribingLateIsAMistake(t *testing.T) {
	_, b := open(t, path(t), Options{})
	step(t, b)
	defer func() {
		if recover() == nil {
			t.Error("it was taken")
		}
	}()
	b.Subscribe("late", nil, nil)
}

// BenchmarkPublishToHandler is the bus's part of a notice's way.
func BenchmarkPublishToHandler(b *testing.B) {
	_, bs := open(b, path(b), Options{})
	got := make(chan struct{})
	bs.Subscribe("s", nil, func(context.Context, bus.Event) error { got <- struct{}{}; return nil })
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	go bs.Run(ctx)
	for b.Loop() {
		must(b, bs.Publish(ctx, sample("e")))
		<-got
	}
}
