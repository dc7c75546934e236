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

	output *membucket.Objects // Bucket Sync's
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
	w.output = membucket.NewObjects()
	w.spec = job.Spec{
		Image: "train:1", Spot: true, CheckpointInterval: job.Duration(time.Minute), Grace: new(job.Duration(5 * time.Second)),
	}
	w.cp = &fakeControl{w: w, attempt: attempt}
	w.cp.orders = api.Orders{Role: api.Writer, ReportEvery: job.Duration(time.Second)}
	return w
}

// process is one run of the agent's program.
type process struct {
	w      *world
	cancel context.CancelFunc
	done   chan struct{} // closed with err set
	err    error
}

func (w *world) boot() *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{w: w, cancel: cancel, done: make(chan struct{})}
	o := Options{
		Dir: w.dir, VMID: "i-1", Cloud: "test", Metadata: w.meta,
		Connect: func(string) api.AgentService { return w.cp },
		Runtime: func(string, string) (runtime.Runtime, error) { return w.box, nil },
		Open: func(_ context.Context, a bucket.Access) (bucket.Objects, error) {
			if a.URL == "mem:output" {
				return w.output, nil
			}
			return &scoped{w.store.WithHook(func(ctx context.Context, c membucket.Call) error {
				if w.lines != nil {
					return w.lines(ctx, c)
				}
				return nil
			}), a.Expires}, nil
		},
		Engine: func(o checkpoint.Options) (Engine, error) { return &fakeEngine{o, w.log}, nil },
	}
	go func() {
		defer close(p.done)
		p.err = Run(ctx, o)
	}()
	synctest.Wait()
	return p
}

// kill ends the program; its container and its disk stay. The VM takes a moment
// to start it again.
func (p *process) kill() {
	p.cancel()
	<-p.done
	time.Sleep(100 * time.Millisecond)
}

// poweredOff fails the test unless the agent has asked for its VM's end.
func (p *process) poweredOff() {
	p.w.t.Helper()
	synctest.Wait()
	select {
	case <-p.done:
		if !errors.Is(p.err, ErrPowerOff) {
			p.w.t.Fatalf("agent ended with %v, want power off", p.err)
		}
	default:
		p.w.t.Fatal("agent still runs, want power off")
	}
}

func (p *process) runs() {
	p.w.t.Helper()
	synctest.Wait()
	select {
	case <-p.done:
		p.w.t.Fatalf("agent ended: %v", p.err)
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
		if c.w.spec.Output != "" {
			out.Output = &bucket.Access{URL: "mem:output"}
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

// counts of what was heard: reports, claims, requests for credentials.
func (c *fakeControl) counts() (reports, claims, credentials int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.reports), len(c.hashes), c.handed
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

// has says whether one of texts contains part.
func has(texts []string, part string) bool {
	return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, part) })
}
