// Package localbus is the bus port on the home's bbolt file: durable, at least
// once, with delays between tries and dead letters. Every subscriber has a
// queue of its own, so one that fails holds nobody else up.
//
//	localbus.go   Bus: subscribe, publish
//	queue.go      what lies in the file: queues by due time, dead letters
//	deliver.go    Run and Step
//	dead.go       DeadLetters, Redrive
//
// One process delivers, the one that holds the file; so what is being handled
// right now is known in memory, and after a crash it is simply delivered again.
package localbus

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"anycloud/shared/bus"
	"anycloud/shared/internal/boltfile"
)

const (
	// DefaultWorkers is how many events one subscriber handles at once: enough
	// for a wave of preemptions, few enough for a laptop.
	DefaultWorkers = 8
	// DefaultMinDelay is the wait after the first failure; it doubles with each.
	DefaultMinDelay = time.Second
	// DefaultMaxDelay bounds the wait: no longer than the sweep that would find
	// the work anyway.
	DefaultMaxDelay = 30 * time.Second
	// DefaultTries is how often a handler may fail before the event becomes a
	// dead letter: a bit over two minutes with the default delays.
	DefaultTries = 10
)

// Options of a Bus; zero values mean the defaults.
type Options struct {
	Workers            int // handlers of one subscriber at once
	MinDelay, MaxDelay time.Duration
	Tries              int
	Now                func() time.Time
	Log                *slog.Logger
}

// Bus is a bus in a file. Make it with New.
type Bus struct {
	o    Options
	file *boltfile.File

	mu      sync.Mutex
	queues  []*queue
	started bool
}

var _ bus.Publisher = (*Bus)(nil)

// queue is one subscriber.
type queue struct {
	name    string
	types   []string
	handler bus.Handler
	wake    chan struct{}

	mu         sync.Mutex
	inFlight   map[string]bool // keys being handled
	unreadable map[string]bool // keys left alone until the next start
}

// New makes the bus in an open file.
func New(f *boltfile.File, o Options) (*Bus, error) {
	set(&o.Workers, DefaultWorkers)
	set(&o.MinDelay, DefaultMinDelay)
	set(&o.MaxDelay, DefaultMaxDelay)
	set(&o.Tries, DefaultTries)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	err := f.Update(func(tx *bolt.Tx) error {
		top, err := tx.CreateBucketIfNotExists(busTable)
		if err == nil {
			_, err = top.CreateBucketIfNotExists(queuesTable)
		}
		if err == nil {
			_, err = top.CreateBucketIfNotExists(deadTable)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open bus: %w", err)
	}
	return &Bus{o: o, file: f}, nil
}

func set[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Subscribe has h called for every event of the types (none: of any) that is
// published from now on, or waits from an earlier run of the same name. Names
// are fixed by the program: subscribing one twice, or after Run or Step began,
// is a mistake in it and panics.
func (b *Bus) Subscribe(name string, types []string, h bus.Handler) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.started || name == "" || slices.ContainsFunc(b.queues, func(q *queue) bool { return q.name == name }) {
		panic("localbus: subscriber " + name + " has no name, came twice, or came after the start")
	}
	b.queues = append(b.queues, &queue{
		name: name, types: slices.Clone(types), handler: h, wake: make(chan struct{}, 1),
		inFlight: map[string]bool{}, unreadable: map[string]bool{},
	})
}

// subscribers starts the bus.
func (b *Bus) subscribers() []*queue {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.started = true
	return b.queues
}

// Publish implements bus.Publisher: the events are on disk when it returns, all
// or none.
func (b *Bus) Publish(ctx context.Context, events ...bus.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	queues := slices.Clone(b.queues)
	b.mu.Unlock()
	now := b.o.Now()
	err := b.file.Update(func(tx *bolt.Tx) error {
		for _, q := range queues {
			for _, e := range events {
				if len(q.types) > 0 && !slices.Contains(q.types, e.Type) {
					continue
				}
				if err := enqueue(tx, q.name, now, record{Format: recordFormat, Event: e}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	for _, q := range queues {
		q.awake()
	}
	return nil
}

func (q *queue) awake() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
