package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/job"
)

// service answers what a test says, and keeps what it was asked.
type service struct {
	asked []any
	job   api.Job
	err   error
	logs  func(api.LogQuery) (api.LogPage, error)
	panic bool
}

func (s *service) note(xs ...any) (api.Job, error) {
	s.asked = xs
	if s.panic {
		panic("a bug")
	}
	return s.job, s.err
}

func (s *service) Submit(_ context.Context, r api.SubmitRequest, key string) (api.SubmitReply, error) {
	j, err := s.note("submit", r, key)
	return api.SubmitReply{Job: j}, err
}
func (s *service) Get(_ context.Context, id string) (api.Job, error) { return s.note("get", id) }
func (s *service) List(_ context.Context, q api.ListQuery) (api.JobPage, error) {
	j, err := s.note("list", q)
	return api.JobPage{Jobs: []api.Job{j}, Next: "n"}, err
}
func (s *service) Logs(_ context.Context, id string, q api.LogQuery) (api.LogPage, error) {
	if s.logs != nil {
		return s.logs(q)
	}
	_, err := s.note("logs", id, q)
	return api.LogPage{Lines: []api.LogLine{{Text: "hi", Cursor: "1:1"}}, Next: "1:1", Ended: true}, err
}
func (s *service) Cancel(_ context.Context, id string, seen int64, r api.CancelRequest) (api.Job, error) {
	return s.note("cancel", id, seen, r)
}
func (s *service) Resubmit(_ context.Context, id string, seen int64, r api.ResubmitRequest) (api.Job, error) {
	return s.note("resubmit", id, seen, r)
}
func (s *service) Preempt(_ context.Context, id string, r api.PreemptRequest) (api.Job, error) {
	return s.note("preempt", id, r)
}
func (s *service) Checkpoint(_ context.Context, id string, r api.CheckpointRequest) (api.CheckpointReply, error) {
	_, err := s.note("checkpoint", id, r)
	return api.CheckpointReply{Request: 7, Done: true, Commit: 3}, err
}
func (s *service) CheckpointAccess(_ context.Context, id string) (bucket.Access, error) {
	_, err := s.note("access", id)
	return bucket.Access{URL: "file:///b"}, err
}
func (s *service) Checkpoints(_ context.Context, id string) (api.CommitPage, error) {
	_, err := s.note("checkpoints", id)
	return api.CommitPage{Commits: []api.Commit{{Number: 3}}}, err
}
func (s *service) Doctor(_ context.Context, fix []string) (api.DoctorReport, error) {
	_, err := s.note("doctor", fix)
	return api.DoctorReport{Checks: []api.DoctorCheck{{ID: "table", Level: "ok"}}}, err
}
func (s *service) Claim(_ context.Context, r api.ClaimRequest) (api.ClaimReply, error) {
	_, err := s.note("claim", r)
	return api.ClaimReply{JobID: "j", Attempt: 2}, err
}
func (s *service) Report(_ context.Context, id string, n int, secret string, r api.Report) (api.Orders, error) {
	_, err := s.note("report", id, n, secret, r)
	return api.Orders{Role: api.Writer}, err
}
func (s *service) Credentials(_ context.Context, id string, n int, secret string) (api.Credentials, error) {
	_, err := s.note("credentials", id, n, secret)
	return api.Credentials{LogPrefix: "logs/"}, err
}
func (s *service) Ping(context.Context) error { _, err := s.note("ping"); return err }

func serve(t *testing.T, s *service) (*httptest.Server, *api.Client) {
	srv := httptest.NewServer(api.NewHandler(s, api.HandlerOptions{Token: "t0ken", Hosts: []string{"127.0.0.1"}}))
	t.Cleanup(srv.Close)
	return srv, api.NewClient(srv.URL, "t0ken", nil)
}

// TestBothEnds: what the client is told to send arrives, and the answer too.
func TestBothEnds(t *testing.T) {
	s := &service{job: api.Job{ID: "ac-x-1", Revision: 9}}
	_, c := serve(t, s)
	ctx := t.Context()
	notice := job.Duration(5 * time.Second)
	for _, k := range []struct {
		call func() error
		want string
	}{
		{func() error {
			r, err := c.Submit(ctx, api.SubmitRequest{Spec: job.Spec{Image: "img", Env: map[string]string{"A": "b"}}, DryRun: true}, "key-1")
			if r.Job.ID != "ac-x-1" {
				return fmt.Errorf("got %+v", r)
			}
			return err
		}, `["submit",{"image":"img","env":{"A":"b"},"dry_run":true},"key-1"]`},
		{func() error { _, err := c.Get(ctx, "a/b c"); return err }, `["get","a/b c"]`},
		{func() error {
			p, err := c.List(ctx, api.ListQuery{State: job.Running, All: true, After: "x&y", Limit: 5})
			if p.Next != "n" {
				return fmt.Errorf("got %+v", p)
			}
			return err
		}, `["list",{"State":"running","All":true,"After":"x\u0026y","Limit":5}]`},
		{func() error {
			_, err := c.Logs(ctx, "j", api.LogQuery{Attempt: 2, After: "1:5", Tail: 3, Limit: 4})
			return err
		}, `["logs","j",{"Attempt":2,"After":"1:5","Tail":3,"Limit":4}]`},
		{func() error { _, err := c.Cancel(ctx, "j", 7, api.CancelRequest{Now: true}); return err }, `["cancel","j",7,{"now":true}]`},
		{func() error {
			_, err := c.Resubmit(ctx, "j", 0, api.ResubmitRequest{Fresh: true, Set: []string{"gpu"}})
			return err
		},
			`["resubmit","j",0,{"fresh":true,"set":["gpu"]}]`},
		{func() error { _, err := c.Preempt(ctx, "j", api.PreemptRequest{Notice: &notice}); return err }, `["preempt","j",{"notice":"5s"}]`},
		{func() error { _, err := c.Checkpoint(ctx, "j", api.CheckpointRequest{Request: 7}); return err }, `["checkpoint","j",{"request":7}]`},
		{func() error { _, err := c.CheckpointAccess(ctx, "j"); return err }, `["access","j"]`},
		{func() error { _, err := c.Checkpoints(ctx, "j"); return err }, `["checkpoints","j"]`},
		{func() error { _, err := c.Doctor(ctx, []string{"vm-1"}); return err }, `["doctor",["vm-1"]]`},
		{func() error { _, err := c.Credentials(ctx, "j", 3, "s3cret"); return err }, `["credentials","j",3,"s3cret"]`},
		{func() error { return c.Ping(ctx) }, `["ping"]`},
	} {
		if err := k.call(); err != nil {
			t.Errorf("%s: %v", k.want, err)
		}
		if got, _ := json.Marshal(s.asked); string(got) != k.want {
			t.Errorf("asked %s\nwant  %s", got, k.want)
		}
	}
	if _, err := c.Claim(ctx, api.ClaimRequest{Proof: "p", Cloud: "local", SecretHash: "h"}); err != nil || s.asked[1].(api.ClaimRequest).Proof != "p" {
		t.Errorf("%v, %v", s.asked, err)
	}
	if o, err := c.Report(ctx, "j", 3, "s3cret", api.Report{Sealed: true}); err != nil || o.Role != api.Writer || s.asked[3] != "s3cret" || !s.asked[4].(api.Report).Sealed {
		t.Errorf("%v, %v", s.asked, err)
	}
}

func TestRefusalsAreProblems(t *testing.T) {
	s := &service{}
	srv, _ := serve(t, s)
	const good = "Bearer t0ken"
	for _, k := range []struct {
		method, path, body, auth string
		status                   int
		words                    string
	}{
		{"GET", "/v1/jobs", "", "", 401, "ANYCLOUD_TOKEN"},
		{"GET", "/v1/jobs", "", "Bearer wrong", 401, "ANYCLOUD_TOKEN"},
		{"GET", "/v1/jobs/x/logs", "", "", 401, "ANYCLOUD_TOKEN"},
		{"POST", "/v1/doctor", "", "t0ken", 401, "ANYCLOUD_TOKEN"},
		{"GET", "/", "", good, 404, "/v1/jobs"},
		{"GET", "/v1/nothing", "", good, 404, "/v1/jobs"},
		{"DELETE", "/v1/jobs/x", "", good, 405, "use GET"},
		{"GET", "/v1/jobs/x/cancel", "", good, 405, "use POST"},
		{"POST", "/v1/jobs", "{", good, 400, "not JSON"},
		{"POST", "/v1/jobs", `{"image":`, good, 400, "not JSON"},
		{"POST", "/v1/jobs", `{"image":"a"}{}`, good, 400, "more than one"},
		{"POST", "/v1/jobs", `{"imgae":"a"}`, good, 400, `did you mean "image"`},
		{"POST", "/v1/jobs", `{"qqqqqqqqqqqqqqqqqqqq":1}`, good, 400, "no field"},
		{"POST", "/v1/jobs", `{"image":7}`, good, 400, `"image" must be string`},
		{"POST", "/v1/jobs", `{"grace":"soon"}`, good, 400, "duration"},
		{"POST", "/v1/jobs", `{"memory":"many"}`, good, 400, "16GiB"},
		{"POST", "/v1/jobs", `{"image":"` + strings.Repeat("x", api.MaxBody) + `"}`, good, 413, "put data into a bucket"},
		{"GET", "/v1/jobs?state=sleeping", "", good, 400, "no state"},
		{"GET", "/v1/jobs?limit=-1", "", good, 400, "limit must be a number"},
		{"GET", "/v1/jobs/x/logs?tail=many", "", good, 400, "tail must be a number"},
		{"POST", "/v1/agent/jobs/x/0/report", "{}", good, 400, "numbered from 1"},
		{"POST", "/v1/agent/jobs/x/one/credentials", "", good, 400, "must be a number"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), k.method, srv.URL+k.path, strings.NewReader(k.body))
		if err != nil {
			t.Fatal(err)
		}
		if k.auth != "" {
			r.Header.Set("Authorization", k.auth)
		}
		s.asked = nil
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		var p api.Problem
		if json.Unmarshal(b, &p) != nil || resp.StatusCode != k.status || p.Status != k.status || p.Type == "" || p.Title == "" || !strings.Contains(p.Detail, k.words) {
			t.Errorf("%s %s %.40s: %d %s; want %d with %q", k.method, k.path, k.body, resp.StatusCode, b, k.status, k.words)
		}
		if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%s %s: content type %q", k.method, k.path, got)
		}
		if s.asked != nil {
			t.Errorf("%s %s reached the service: %v", k.method, k.path, s.asked)
		}
	}
}

func TestForeignHostIsRefused(t *testing.T) {
	srv, _ := serve(t, &service{})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/v1/jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.example:80"
	r.Header.Set("Authorization", "Bearer t0ken")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestServiceErrors(t *testing.T) {
	s := &service{}
	_, c := serve(t, s)
	// A problem keeps its text and code on the way.
	s.err = fmt.Errorf("wrapped: %w", api.Errorf(http.StatusConflict, api.CodeConflict, "it is running: cancel it first"))
	_, err := c.Cancel(t.Context(), "j", 0, api.CancelRequest{})
	if api.CodeOf(err) != api.CodeConflict || err.Error() != "it is running: cancel it first" {
		t.Errorf("got %v", err)
	}
	// Other errors and bugs are internal, and the server lives on.
	s.err = errors.New("the table is gone")
	_, err = c.Cancel(t.Context(), "j", 0, api.CancelRequest{})
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != http.StatusInternalServerError {
		t.Errorf("got %v", err)
	}
	s.err, s.panic = nil, true
	_, err = c.Cancel(t.Context(), "j", 0, api.CancelRequest{})
	if !errors.As(err, &p) || p.Status != http.StatusInternalServerError || strings.Contains(p.Detail, "a bug") {
		t.Errorf("got %v", err)
	}
	s.panic = false
	if _, err := c.Cancel(t.Context(), "j", 0, api.CancelRequest{}); err != nil {
		t.Error(err)
	}
}

func TestRevisions(t *testing.T) {
	s := &service{job: api.Job{ID: "j", Revision: 12}}
	srv, _ := serve(t, s)
	do := func(ifMatch string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/v1/jobs/j/cancel", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer t0ken")
		r.Header.Set("If-Match", ifMatch)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	for _, in := range []string{`"11"`, `W/"11"`, `11`} {
		if resp := do(in); resp.StatusCode != 200 || s.asked[2] != int64(11) || resp.Header.Get("ETag") != `"12"` {
			t.Errorf("%s: %d, %v, ETag %s", in, resp.StatusCode, s.asked, resp.Header.Get("ETag"))
		}
	}
	if resp := do("*"); resp.StatusCode != 200 || s.asked[2] != int64(0) {
		t.Errorf("*: %d, %v", resp.StatusCode, s.asked)
	}
	if resp := do(`"abc"`); resp.StatusCode != 400 {
		t.Errorf("abc: %d", resp.StatusCode)
	}
}

// flaky answers 503, or nothing, before it lets requests through.
func flaky(t *testing.T, s *service, failures int32, hang bool) (*api.Client, *atomic.Int32) {
	h := api.NewHandler(s, api.HandlerOptions{})
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > failures {
			h.ServeHTTP(w, r)
			return
		}
		if hang {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(srv.Close)
	return api.NewClient(srv.URL, "", nil), &n
}

// TestRepeats: what may be repeated is, what must not be is not.
func TestRepeats(t *testing.T) {
	for _, hang := range []bool{false, true} {
		s := &service{job: api.Job{ID: "j"}}
		c, n := flaky(t, s, 2, hang)
		if _, err := c.Get(t.Context(), "j"); err != nil || n.Load() != 3 {
			t.Errorf("get: %d requests, %v", n.Load(), err)
		}
		c, n = flaky(t, s, 2, hang)
		if _, err := c.Submit(t.Context(), api.SubmitRequest{}, "key"); err != nil || n.Load() != 3 {
			t.Errorf("submit with a key: %d requests, %v", n.Load(), err)
		}
		for name, call := range map[string]func(*api.Client) error{
			"submit without a key": func(c *api.Client) error { _, err := c.Submit(t.Context(), api.SubmitRequest{}, ""); return err },
			"resubmit": func(c *api.Client) error {
				_, err := c.Resubmit(t.Context(), "j", 1, api.ResubmitRequest{})
				return err
			},
			"preempt": func(c *api.Client) error { _, err := c.Preempt(t.Context(), "j", api.PreemptRequest{}); return err },
		} {
			c, n := flaky(t, s, 2, hang)
			err := call(c)
			var gone *api.Unreachable
			if err == nil || n.Load() > 2 || hang && !errors.As(err, &gone) { // the transport itself may repeat what was not begun
				t.Errorf("%s: %d requests, %v", name, n.Load(), err)
			}
		}
	}
	// A refusal is final.
	s := &service{err: api.Errorf(http.StatusNotFound, api.CodeNotFound, "no job")}
	c, n := flaky(t, s, 0, false)
	if _, err := c.Get(t.Context(), "j"); api.CodeOf(err) != api.CodeNotFound || n.Load() != 1 {
		t.Errorf("%d requests, %v", n.Load(), err)
	}
	gone := api.NewClient("http://127.0.0.1:1", "", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := gone.Ping(ctx); err == nil || !strings.Contains(err.Error(), "is it running?") {
		t.Errorf("got %v", err)
	}
}

// TestFollow: lines come as they appear, and a stream that breaks is taken up
// behind the last line.
func TestFollow(t *testing.T) {
	s := &service{}
	const last = 9
	s.logs = func(q api.LogQuery) (api.LogPage, error) {
		var from int
		fmt.Sscan(q.After, &from) //nolint:errcheck // empty is the beginning
		p := api.LogPage{Lines: []api.LogLine{}}
		for n := from + 1; n <= min(from+2, last); n++ {
			p.Lines = append(p.Lines, api.LogLine{Text: fmt.Sprint(n), Cursor: fmt.Sprint(n)})
		}
		p.Next, p.Ended = fmt.Sprint(min(from+2, last)), from+2 >= last
		return p, nil
	}
	h := api.NewHandler(s, api.HandlerOptions{})
	var conns atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conns.Add(1) < 3 { // cut off in the middle
			h.ServeHTTP(&cutting{ResponseWriter: w, left: 60}, r)
			return
		}
		h.ServeHTTP(w, r)
	}))
	defer srv.Close()
	var got bytes.Buffer
	err := api.NewClient(srv.URL, "", nil).FollowLogs(t.Context(), "j", api.LogQuery{}, func(l api.LogLine) error {
		got.WriteString(l.Text)
		return nil
	})
	if err != nil || got.String() != "123456789" || conns.Load() < 3 {
		t.Errorf("%q over %d connections, %v", got.String(), conns.Load(), err)
	}
}

// cutting breaks the connection off after some bytes.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Unwrap() http.ResponseWriter { return c.ResponseWriter }
func (c *cutting) Flush()                      { c.ResponseWriter.(http.Flusher).Flush() }
func (c *cutting) Write(b []byte) (int, error) {
	if c.left -= len(b); c.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(b)
}
