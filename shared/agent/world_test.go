package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anycloud/shared/agent/runtime"
	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/bucket/membucket"
	"anycloud/shared/checkpoint"
	"anycloud/shared/checkpoint/wal"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

const testJob = "acab12-test-abcdefghij"

// world is what an agent meets, on simulated time.
type world struct {
	t     *testing.T
	dir   string
	spec  job.Spec
	box   *fakeRuntime
	cp    *fakeControl
	meta  *fakeMeta
	log   *fakeLog // the job's bucket
	store *membucket.Objects
	lines membucket.Hook // faults of the log store
}

// inWorld runs a test in a fresh world, as its attempt 1.
func inWorld(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f(t, newWorld(t, dir, 1, &fakeLog{}, membucket.NewObjects()))
	})
}

func newWorld(t *testing.T, dir string, attempt int, log *fakeLog, store *membucket.Objects) *world {
	w := &world{t: t, dir: dir, log: log, store: store, box: &fakeRuntime{ended: make(chan struct{})}, meta: &fakeMeta{changed: make(chan struct{})}}
	w.spec = job.Spec{
		Image: "train:1", Spot: true, CheckpointInterval: job.Duration(time.Minute), Grace: job.Duration(5 * time.Second),
	}
	w.cp = &fakeControl{w: w, attempt: attempt}
	w.cp.orders = api.Orders{Role: api.Writer, ReportEvery: job.Duration(time.Second)}
	return w
}

// process is one run of the agent's program.
type process struct {
	w      *world
	cancel context.CancelFunc
	done   chan error
}

func (w *world) boot() *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{w, cancel, make(chan error, 1)}
	o := Options{
		Dir: w.dir, VMID: "i-1", Cloud: "test", Metadata: w.meta,
		Connect: func(string) api.AgentService { return w.cp },
		Runtime: func(string, string) (runtime.Runtime, error) { return w.box, nil },
		Open: func(_ context.Context, a bucket.Access) (bucket.Objects, error) {
			return &scoped{w.store.WithHook(func(ctx context.Context, c membucket.Call) error {
				if w.lines != nil {
					return w.lines(ctx, c)
				}
				return nil
			}), a.Expires}, nil
		},
		Engine: func(o checkpoint.Options) (Engine, error) { return &fakeEngine{o, w.log}, nil },
	}
	go func() { p.done <- Run(ctx, o) }()
	synctest.Wait()
	return p
}

// kill ends the program; its container and its disk stay.
func (p *process) kill() {
	p.cancel()
	<-p.done
}

// poweredOff fails the test unless the agent has asked for its VM's end.
func (p *process) poweredOff() {
	p.w.t.Helper()
	synctest.Wait()
	select {
	case err := <-p.done:
		if !errors.Is(err, ErrPowerOff) {
			p.w.t.Fatalf("agent ended with %v, want power off", err)
		}
	default:
		p.w.t.Fatal("agent still runs, want power off")
	}
}

func (p *process) runs() {
	p.w.t.Helper()
	synctest.Wait()
	select {
	case err := <-p.done:
		p.w.t.Fatalf("agent ended: %v", err)
	default:
	}
}

// shipped are the texts in the log store of one attempt, in order.
func (w *world) shipped(attempt int, own bool) []string {
	w.t.Helper()
	page, _, err := w.store.List(context.Background(), fmt.Sprintf("logs/%s/%06d/", testJob, attempt), "", 100000)
	if err != nil {
		w.t.Fatal(err)
	}
	var texts []string
	seq := int64(0)
	for _, o := range page {
		body, err := w.store.Get(context.Background(), o.Key, 0, -1)
		if err != nil {
			w.t.Fatal(err)
		}
		dec := json.NewDecoder(body)
		for {
			var l logLine
			if err := dec.Decode(&l); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				w.t.Fatal(err)
			}
			if seq++; l.Seq != seq {
				w.t.Fatalf("line %d of attempt %d has number %d", seq, attempt, l.Seq)
			}
			if own == (l.Stream == ownStream) {
				texts = append(texts, l.Text)
			}
		}
	}
	return texts
}

// scoped is a bucket whose credentials expire.
type scoped struct {
	bucket.Objects
	expires time.Time
}

func (s *scoped) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if !s.expires.IsZero() && time.Now().After(s.expires) {
		return fmt.Errorf("put: %w", bucket.ErrDenied)
	}
	return s.Objects.PutIfAbsent(ctx, key, data)
}

// fakeMeta is the VM's metadata.
type fakeMeta struct {
	mu      sync.Mutex
	n       *preempt.Notice
	changed chan struct{}
}

func (m *fakeMeta) Endpoint(context.Context) (string, error) { return "http://control.test", nil }
func (m *fakeMeta) Identity(context.Context) (string, error) { return "proof", nil }

func (m *fakeMeta) Notice(ctx context.Context, wait time.Duration) (*preempt.Notice, error) {
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		m.mu.Lock()
		n, changed := m.n, m.changed
		m.mu.Unlock()
		if n != nil {
			return n, nil
		}
		select {
		case <-changed:
		case <-t.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// warn makes the cloud say that it takes the VM after d.
func (m *fakeMeta) warn(d time.Duration) time.Time {
	at := time.Now().Add(d)
	m.set(preempt.Notice{VMID: "i-1", Kind: preempt.Interruption, Deadline: at, At: time.Now()})
	return at
}

func (m *fakeMeta) set(n preempt.Notice) {
	m.mu.Lock()
	m.n = &n
	close(m.changed)
	m.changed = make(chan struct{})
	m.mu.Unlock()
	synctest.Wait()
}

// fakeControl is the control plane as an agent sees it.
type fakeControl struct {
	w       *world
	attempt int
	expire  time.Duration // of credentials; 0: never

	mu      sync.Mutex
	orders  api.Orders
	silent  bool
	deaf    bool // takes what it is told, and its answers are lost
	refuse  error
	hashes  []string
	reports []api.Report
	handed  int // credentials
}

var errSilent = errors.New("no route to host")

func (c *fakeControl) hear(f func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent {
		return errSilent
	}
	if c.refuse != nil {
		return c.refuse
	}
	f()
	if c.deaf {
		return errSilent
	}
	return nil
}

func (c *fakeControl) Claim(_ context.Context, r api.ClaimRequest) (out api.ClaimReply, err error) {
	err = c.hear(func() {
		c.hashes = append(c.hashes, r.SecretHash)
		out = api.ClaimReply{JobID: testJob, Attempt: c.attempt, VMID: "i-1", Spec: c.w.spec, Orders: c.orders}
	})
	return out, err
}

func (c *fakeControl) Report(_ context.Context, id string, attempt int, _ string, r api.Report) (out api.Orders, err error) {
	err = c.hear(func() {
		if id != testJob || attempt != c.attempt {
			panic("report for somebody else")
		}
		if n := len(c.reports); n > 0 && r.Seq <= c.reports[n-1].Seq {
			panic("numbers of reports must grow")
		}
		c.reports = append(c.reports, r)
		out = c.orders
	})
	return out, err
}

func (c *fakeControl) Credentials(context.Context, string, int, string) (out api.Credentials, err error) {
	err = c.hear(func() {
		c.handed++
		var expires time.Time
		if c.expire > 0 {
			expires = time.Now().Add(c.expire)
		}
		out.Logs = bucket.Access{URL: "mem:logs", Expires: expires}
		out.LogPrefix = fmt.Sprintf("logs/%s/%06d/", testJob, c.attempt)
		if c.w.spec.Spot {
			out.Checkpoint = &bucket.Access{URL: "mem:job", Expires: expires}
		}
	})
	return out, err
}

func (c *fakeControl) Ping(context.Context) error { return nil }

func (c *fakeControl) order(f func(*api.Orders)) {
	c.mu.Lock()
	f(&c.orders)
	c.mu.Unlock()
	time.Sleep(1100 * time.Millisecond) // the next report takes it home
	synctest.Wait()
}

func (c *fakeControl) say(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// last is the newest report heard.
func (c *fakeControl) last() api.Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.reports) == 0 {
		return api.Report{}
	}
	return c.reports[len(c.reports)-1]
}

// fakeLog is the job's bucket, as far as the engine's user can tell.
type fakeLog struct {
	mu      sync.Mutex
	commits []fakeCommit
	fence   int
	fail    error         // of saves
	cost    time.Duration // of a save
	dirty   checkpoint.Estimate
	prunes  int
}

type fakeCommit struct {
	attempt int
	at      time.Time
	checkpoint.SaveRequest
	attachment []byte
}

func (l *fakeLog) newest() fakeCommit {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.commits) == 0 {
		return fakeCommit{}
	}
	return l.commits[len(l.commits)-1]
}

func (l *fakeLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.commits)
}

func (l *fakeLog) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

type fakeEngine struct {
	o checkpoint.Options
	l *fakeLog
}

func (e *fakeEngine) TakeOver(context.Context) error {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	if e.l.fence > e.o.Attempt {
		return wal.ErrFenced
	}
	e.l.fence = e.o.Attempt
	return nil
}

func (e *fakeEngine) Restore(context.Context, checkpoint.RestoreOptions) (checkpoint.Restored, error) {
	c := e.l.newest()
	if c.attempt == 0 {
		return checkpoint.Restored{}, nil
	}
	return checkpoint.Restored{Number: e.l.count(), Attempt: c.attempt, CapturedAt: c.at, Clean: true, Exit: c.Exit, Attachment: c.attachment}, nil
}

func (e *fakeEngine) Save(ctx context.Context, r checkpoint.SaveRequest) (checkpoint.Result, error) {
	captured := time.Now()
	e.l.mu.Lock()
	cost, fail := e.l.cost, e.l.fail
	e.l.mu.Unlock()
	select {
	case <-time.After(cost):
	case <-ctx.Done():
		return checkpoint.Result{}, ctx.Err()
	}
	if fail != nil {
		return checkpoint.Result{}, fail
	}
	// Whatever else, a save needs credentials that hold.
	if err := e.o.Objects.PutIfAbsent(ctx, fmt.Sprintf("x/%d", captured.UnixNano()), nil); err != nil && !errors.Is(err, bucket.ErrExists) {
		return checkpoint.Result{}, fmt.Errorf("send a pack: %w", err)
	}
	attachment, err := e.o.BeforeAppend(ctx)
	if err != nil {
		return checkpoint.Result{}, err
	}
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	if e.l.fence > e.o.Attempt {
		return checkpoint.Result{}, fmt.Errorf("append: %w", wal.ErrFenced)
	}
	e.l.commits = append(e.l.commits, fakeCommit{e.o.Attempt, captured, r, attachment})
	return checkpoint.Result{Number: len(e.l.commits), Committed: true, Clean: true, CapturedAt: captured, Pause: time.Millisecond}, nil
}

func (e *fakeEngine) Estimate() checkpoint.Estimate {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	return e.l.dirty
}

func (e *fakeEngine) Prune(context.Context) (int, error) {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	e.l.prunes++
	return 0, nil
}

// fakeRuntime is a container that outlives the agent.
type fakeRuntime struct {
	mu        sync.Mutex
	starts    int
	removed   bool
	stopNoted bool
	ignore    bool          // SIGTERM
	last      time.Duration // between SIGTERM and exit
	startErr  error
	pullErr   error
	startedAt time.Time
	exit      *runtime.Exit
	ended     chan struct{}
	lines     []runtime.Line
	discarded int64
}

func (r *fakeRuntime) print(texts ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range texts {
		r.lines = append(r.lines, runtime.Line{Time: time.Now(), Stream: runtime.Stdout, Text: []byte(s)})
	}
}

// die ends the container.
func (r *fakeRuntime) die(x runtime.Exit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.exit != nil || r.startedAt.IsZero() {
		return
	}
	x.StartedAt, x.FinishedAt = r.startedAt, time.Now()
	r.exit = &x
	close(r.ended)
}

// leave is the program's own exit.
func (r *fakeRuntime) leave(code int) {
	r.mu.Lock()
	own := !r.stopNoted
	r.mu.Unlock()
	r.die(runtime.Exit{Code: code, ByItself: own})
}

func (r *fakeRuntime) state() (running bool, exit *runtime.Exit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.startedAt.IsZero() && r.exit == nil, r.exit
}

func (r *fakeRuntime) Pull(context.Context, runtime.Spec, func(int64, int64, string)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pullErr
}

func (r *fakeRuntime) Start(context.Context, runtime.Spec) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.startErr != nil {
		return r.startErr
	}
	if r.startedAt.IsZero() {
		r.startedAt = time.Now()
		r.starts++
	}
	return nil
}

func (r *fakeRuntime) Status(context.Context) (runtime.Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.startedAt.IsZero():
		return runtime.Status{State: runtime.StateNone}, nil
	case r.exit == nil:
		return runtime.Status{State: runtime.StateRunning, StartedAt: r.startedAt}, nil
	}
	return runtime.Status{State: runtime.StateExited, StartedAt: r.startedAt, Exit: r.exit}, nil
}

func (r *fakeRuntime) Wait(ctx context.Context) (runtime.Exit, error) {
	select {
	case <-r.ended:
		return *r.exit, nil
	case <-ctx.Done():
		return runtime.Exit{}, ctx.Err()
	}
}

func (r *fakeRuntime) Stop(ctx context.Context, grace time.Duration) error {
	if running, _ := r.state(); !running {
		return nil
	}
	r.mu.Lock()
	r.stopNoted = true
	ignore, last := r.ignore, r.last
	r.mu.Unlock()
	if !ignore {
		time.AfterFunc(min(last, grace), func() { r.die(runtime.Exit{Code: 143}) })
	}
	time.AfterFunc(grace, func() { r.die(runtime.Exit{Code: 137}) })
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *fakeRuntime) Kill(ctx context.Context) error { return r.Stop(ctx, 0) }

func (r *fakeRuntime) Freeze(context.Context) error { return nil }
func (r *fakeRuntime) Thaw(context.Context) error   { return nil }

func (r *fakeRuntime) ReadLogs(_ context.Context, offset int64, most int) ([]runtime.Line, int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if offset < r.discarded {
		panic("reading what was discarded")
	}
	end := min(int64(len(r.lines)), offset+int64(most))
	return slices.Clone(r.lines[offset:end]), end, nil
}

func (r *fakeRuntime) Discard(_ context.Context, upto int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.discarded = max(r.discarded, upto)
	return nil
}

func (r *fakeRuntime) Remove(ctx context.Context) error {
	r.mu.Lock()
	r.removed = true
	r.mu.Unlock()
	return r.Kill(ctx)
}

func (r *fakeRuntime) Close() error { return nil }

// has says whether one of texts contains part.
func has(texts []string, part string) bool {
	return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, part) })
}
