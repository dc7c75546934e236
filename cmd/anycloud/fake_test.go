package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/job"
)

// fake is a control plane that keeps what it was asked and answers from a map.
type fake struct {
	api.Service // what a test does not expect panics, and is answered 500
	jobs        map[string]api.Job
	submitted   []api.SubmitRequest
	keys        []string
	cancelled   []api.CancelRequest
	resubmitted []api.ResubmitRequest
	seen        []int64
	preempted   []api.PreemptRequest
	fixed       []string
	commits     int64
	lines       []api.LogLine
	err         error
}

func (f *fake) get(id string) (api.Job, error) {
	j, ok := f.jobs[id]
	if !ok {
		return j, api.Errorf(http.StatusNotFound, api.CodeNotFound, "no job %q: anycloud list --all shows the jobs that there are", id)
	}
	return j, f.err
}

func (f *fake) Submit(_ context.Context, r api.SubmitRequest, key string) (api.SubmitReply, error) {
	f.submitted, f.keys = append(f.submitted, r), append(f.keys, key)
	reply := api.SubmitReply{Job: api.Job{ID: "ac-new-1", Image: r.Image, State: job.Pending}, Repeat: key == "used"}
	if r.DryRun {
		reply.Offers = []job.Placement{{Cloud: "local", Zone: "local-a", Type: "local", Spot: true, Price: 0.3, List: 1}}
	}
	return reply, f.err
}
func (f *fake) Get(_ context.Context, id string) (api.Job, error) { return f.get(id) }
func (f *fake) List(_ context.Context, q api.ListQuery) (api.JobPage, error) {
	p := api.JobPage{Jobs: []api.Job{}}
	for _, id := range []string{"ac-a-1", "ac-b-2", "ac-c-3"} { // a page each
		if j, ok := f.jobs[id]; ok && id > q.After && (q.All || !j.State.Terminal()) && (q.State == "" || q.State == j.State) {
			if len(p.Jobs) == 1 {
				p.Next = p.Jobs[0].ID
				break
			}
			p.Jobs = append(p.Jobs, j)
		}
	}
	return p, f.err
}
func (f *fake) Logs(_ context.Context, id string, q api.LogQuery) (api.LogPage, error) {
	_, err := f.get(id)
	return api.LogPage{Lines: f.lines, Next: "9:9", Ended: true}, err
}
func (f *fake) Cancel(_ context.Context, id string, seen int64, r api.CancelRequest) (api.Job, error) {
	f.cancelled, f.seen = append(f.cancelled, r), append(f.seen, seen)
	j, err := f.get(id)
	j.State = job.Stopping
	return j, err
}
func (f *fake) Resubmit(_ context.Context, id string, seen int64, r api.ResubmitRequest) (api.Job, error) {
	f.resubmitted, f.seen = append(f.resubmitted, r), append(f.seen, seen)
	return f.get(id)
}
func (f *fake) Preempt(_ context.Context, id string, r api.PreemptRequest) (api.Job, error) {
	f.preempted = append(f.preempted, r)
	return f.get(id)
}
func (f *fake) Checkpoint(_ context.Context, id string, r api.CheckpointRequest) (api.CheckpointReply, error) {
	f.commits++
	_, err := f.get(id)
	return api.CheckpointReply{Request: 4, Done: f.commits > 1, Commit: 12}, err
}
func (f *fake) CheckpointAccess(_ context.Context, id string) (bucket.Access, error) {
	_, err := f.get(id)
	return bucket.Access{URL: "file:///nowhere"}, err
}
func (f *fake) Doctor(_ context.Context, fix []string) (api.DoctorReport, error) {
	f.fixed = append(f.fixed, fix...)
	return api.DoctorReport{Checks: []api.DoctorCheck{
		{ID: "table", Level: "ok", What: "the table answers"},
		{ID: "vm-i-1", Level: "error", What: "VM i-1 has no record", Do: "anycloud doctor --fix terminates it", Fixable: true},
		{ID: "vm-i-2", Level: "error", What: "VM i-2 has no record", Do: "anycloud doctor --fix terminates it", Fixable: true},
	}}, f.err
}

// cli runs commands against the fake.
type cli struct {
	*testing.T
	f     *fake
	c     *api.Client
	env   map[string]string
	stdin string
}

func newCLI(t *testing.T) *cli {
	f := &fake{jobs: map[string]api.Job{}}
	srv := httptest.NewServer(api.NewHandler(f, api.HandlerOptions{}))
	t.Cleanup(srv.Close)
	return &cli{T: t, f: f, c: api.NewClient(srv.URL, "", nil), env: map[string]string{}}
}

func (c *cli) run(args ...string) (stdout, stderr string, code int) {
	c.Helper()
	var o, e bytes.Buffer
	a := &app{stdin: strings.NewReader(c.stdin), stdout: &o, stderr: &e, getenv: func(k string) string { return c.env[k] }, client: c.c}
	ctx, cancel := context.WithTimeout(c.Context(), 20*time.Second)
	defer cancel()
	code = a.run(ctx, args)
	return o.String(), e.String(), code
}

func (c *cli) ok(args ...string) string {
	c.Helper()
	o, e, code := c.run(args...)
	if code != 0 {
		c.Fatalf("anycloud %s: exit %d: %s", strings.Join(args, " "), code, e)
	}
	return o
}

// fails must end with a code and one line that says what to do.
func (c *cli) fails(code int, words string, args ...string) {
	c.Helper()
	o, e, got := c.run(args...)
	if got != code || o != "" || !strings.HasPrefix(e, "anycloud: ") || strings.Count(e, "\n") != 1 || !strings.Contains(e, words) {
		c.Errorf("anycloud %s: exit %d, stdout %q, stderr %q; want exit %d and one line with %q", strings.Join(args, " "), got, o, e, code, words)
	}
}

// one JSON value, and nothing else, on stdout.
func (c *cli) json(v any, args ...string) {
	c.Helper()
	o, _, _ := c.run(append(args, "--json")...)
	d := json.NewDecoder(strings.NewReader(o))
	if err := d.Decode(v); err != nil || d.More() {
		c.Errorf("anycloud %s --json: %v: %q", strings.Join(args, " "), err, o)
	}
}
