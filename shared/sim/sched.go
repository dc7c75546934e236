package sim

import (
	"container/heap"
	"iter"
	"math/rand/v2"
	"time"
)

// epoch is when every schedule begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// scheduler runs tasks one step at a time in virtual time. Nothing runs in
// parallel: a task is a coroutine that yields at every outside call, and is
// resumed when its wake-up comes. Equal seeds give equal schedules.
type scheduler struct {
	now     time.Time
	rng     *rand.Rand
	queue   wakeups
	seq     int64
	current *task
	steps   int
	tasks   map[*task]bool // not ended yet: each holds a coroutine
}

func newScheduler(seed uint64) *scheduler {
	return &scheduler{tasks: map[*task]bool{}, now: epoch, rng: rand.New(rand.NewPCG(seed, 0x5eed))}
}

// task is one coroutine: a function's invocation, an agent, a user.
type task struct {
	name  string
	next  func() (time.Duration, bool)
	stop  func()
	yield func(time.Duration) bool
	done  bool
	// crashable: the simulation may end it at any outside call, as a function
	// service does.
	crashable bool
	// skew is what the task's clock is off by.
	skew time.Duration
	// after is called once when the task ends: nil error, or errCrashed.
	after func(crashed bool)
}

// parked, as a pause, lasts until somebody wakes the task.
const parked = time.Duration(-1)

// crash unwinds a task from inside a call.
type crash struct{}

// wakeup is a point in virtual time at which something happens.
type wakeup struct {
	at   time.Time
	seq  int64
	task *task
	do   func()
}

type wakeups []wakeup

func (w wakeups) Len() int { return len(w) }
func (w wakeups) Less(i, j int) bool {
	if w[i].at.Equal(w[j].at) {
		return w[i].seq < w[j].seq
	}
	return w[i].at.Before(w[j].at)
}
func (w wakeups) Swap(i, j int) { w[i], w[j] = w[j], w[i] }
func (w *wakeups) Push(x any)   { *w = append(*w, x.(wakeup)) }
func (w *wakeups) Pop() any {
	old := *w
	x := old[len(old)-1]
	old[len(old)-1] = wakeup{}
	*w = old[:len(old)-1]
	return x
}

// at runs do after a while.
func (s *scheduler) at(after time.Duration, do func()) {
	s.seq++
	heap.Push(&s.queue, wakeup{at: s.now.Add(after), seq: s.seq, do: do})
}

// spawn starts f as a task after a while.
func (s *scheduler) spawn(name string, after time.Duration, t *task, f func()) *task {
	t.name = name
	s.tasks[t] = true
	t.next, t.stop = iter.Pull(func(yield func(time.Duration) bool) {
		t.yield = yield
		crashed := true
		defer func() {
			t.done = true
			delete(s.tasks, t)
			if crashed {
				if r := recover(); r != nil {
					if _, ok := r.(crash); !ok {
						panic(r)
					}
				}
			}
			if t.after != nil {
				t.after(crashed)
			}
		}()
		f()
		crashed = false
	})
	s.wake(t, after)
	return t
}

func (s *scheduler) wake(t *task, after time.Duration) {
	s.seq++
	heap.Push(&s.queue, wakeup{at: s.now.Add(after), seq: s.seq, task: t})
}

// pause lets the current task wait and others go on. It does nothing outside
// of tasks.
func (s *scheduler) pause(d time.Duration) {
	t := s.current
	if t == nil {
		return
	}
	if !t.yield(d) {
		panic(crash{})
	}
}

// kill ends a task wherever it waits: its VM is gone, or its function crashed.
func (s *scheduler) kill(t *task) {
	if t.done {
		return
	}
	if t == s.current {
		panic(crash{})
	}
	t.done = true
	delete(s.tasks, t)
	t.stop()
}

// step runs what comes next; false when nothing does.
func (s *scheduler) step() bool {
	for len(s.queue) > 0 {
		w := heap.Pop(&s.queue).(wakeup)
		if w.task != nil && w.task.done {
			continue
		}
		if w.at.After(s.now) {
			s.now = w.at
		}
		s.steps++
		if w.task == nil {
			w.do()
			return true
		}
		s.current = w.task
		d, more := w.task.next()
		s.current = nil
		if more && d != parked {
			s.wake(w.task, d)
		}
		return true
	}
	return false
}

// close ends every task, so that no coroutine outlives the schedule.
func (s *scheduler) close() {
	for t := range s.tasks {
		t.after = nil
		s.kill(t)
	}
	s.queue = nil
}

// chance is true with probability p.
func (s *scheduler) chance(p float64) bool { return p > 0 && s.rng.Float64() < p }

// between gives a random duration.
func (s *scheduler) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(s.rng.Int64N(int64(hi-lo)))
}
