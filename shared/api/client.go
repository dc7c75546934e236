package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"anycloud/shared/bucket"
)

// Client is the other end of the handler. It implements Service.
type Client struct {
	endpoint string
	token    string
	http     *http.Client
	patience time.Duration
}

var _ Service = (*Client)(nil)

// DefaultPatience is how long reads are repeated while the server does not
// answer: long enough for it to be restarted.
const DefaultPatience = 5 * time.Second

// NewClient speaks to the control plane at endpoint. token may be empty; hc nil
// is a client without overall time-out (calls are bounded by their contexts).
func NewClient(endpoint, token string, hc *http.Client) *Client {
	if hc == nil {
		hc = &http.Client{}
	}
	return &Client{endpoint: strings.TrimRight(endpoint, "/"), token: token, http: hc, patience: DefaultPatience}
}

// Unreachable says that no answer came: what was asked may have happened or not.
type Unreachable struct {
	Endpoint string
	Err      error
}

func (e *Unreachable) Error() string {
	return fmt.Sprintf("the control plane at %s does not answer (%v): is it running?", e.Endpoint, e.Err)
}
func (e *Unreachable) Unwrap() error { return e.Err }

// call is one request. repeat: it may be sent again until it is answered.
type call struct {
	method, path string
	header       map[string]string
	token        string
	body, out    any
	repeat       bool
}

func (c *Client) do(ctx context.Context, k call) error {
	if !k.repeat {
		return c.once(ctx, k)
	}
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 50 * time.Millisecond
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := c.once(ctx, k)
		var gone *Unreachable
		if err != nil && !errors.As(err, &gone) && statusOf(err) < 500 {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(b), backoff.WithMaxElapsedTime(c.patience))
	var permanent *backoff.PermanentError
	if errors.As(err, &permanent) {
		err = permanent.Err
	}
	return err
}

func statusOf(err error) int {
	var p *Problem
	if errors.As(err, &p) {
		return p.Status
	}
	return 0
}

func (c *Client) request(ctx context.Context, k call) (*http.Response, error) {
	var body io.Reader
	if k.body != nil {
		b, err := json.Marshal(k.body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, k.method, c.endpoint+k.path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	token := c.token
	if k.token != "" {
		token = k.token
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for name, v := range k.header {
		r.Header.Set(name, v)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &Unreachable{c.endpoint, errors.Unwrap(err)}
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, problemOf(resp)
	}
	return resp, nil
}

func (c *Client) once(ctx context.Context, k call) error {
	resp, err := c.request(ctx, k)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if k.out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(k.out); err != nil {
		return &Unreachable{c.endpoint, fmt.Errorf("answer cut short: %w", err)}
	}
	return nil
}

// problemOf reads a problem document, or makes one of whatever answered.
func problemOf(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, MaxBody))
	p := &Problem{}
	if json.Unmarshal(b, p) != nil || p.Detail == "" {
		return Errorf(resp.StatusCode, "", "the control plane answered %s", resp.Status)
	}
	p.Status = resp.StatusCode
	return p
}

func jobPath(id, verb string) string { return "/v1/jobs/" + url.PathEscape(id) + verb }

func match(revision int64) map[string]string {
	if revision == 0 {
		return nil
	}
	return map[string]string{"If-Match": etag(revision)}
}

// Submit sends the job; with a key it is repeated until answered.
func (c *Client) Submit(ctx context.Context, r SubmitRequest, key string) (out SubmitReply, err error) {
	k := call{method: http.MethodPost, path: "/v1/jobs", body: r, out: &out, repeat: key != "" || r.DryRun}
	if key != "" {
		k.header = map[string]string{"Idempotency-Key": key}
	}
	return out, c.do(ctx, k)
}

// Get implements Service.
func (c *Client) Get(ctx context.Context, id string) (out Job, err error) {
	return out, c.do(ctx, call{method: http.MethodGet, path: jobPath(id, ""), out: &out, repeat: true})
}

// List implements Service.
func (c *Client) List(ctx context.Context, q ListQuery) (out JobPage, err error) {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("state", string(q.State))
	set("after", q.After)
	if q.All {
		v.Set("all", "true")
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return out, c.do(ctx, call{method: http.MethodGet, path: "/v1/jobs?" + v.Encode(), out: &out, repeat: true})
}

func logValues(q LogQuery) url.Values {
	v := url.Values{}
	for name, n := range map[string]int{"attempt": q.Attempt, "tail": q.Tail, "limit": q.Limit} {
		if n > 0 {
			v.Set(name, strconv.Itoa(n))
		}
	}
	if q.After != "" {
		v.Set("after", q.After)
	}
	return v
}

// Logs implements Service.
func (c *Client) Logs(ctx context.Context, id string, q LogQuery) (out LogPage, err error) {
	return out, c.do(ctx, call{method: http.MethodGet, path: jobPath(id, "/logs?"+logValues(q).Encode()), out: &out, repeat: true})
}

// FollowLogs gives every line to take until the job's log has ended. A stream
// that breaks off is taken up again behind the last line.
func (c *Client) FollowLogs(ctx context.Context, id string, q LogQuery, take func(LogLine) error) error {
	began := time.Now()
	for {
		ended, err := c.followOnce(ctx, id, &q, take)
		var gone *Unreachable
		if errors.As(err, &gone) || statusOf(err) >= 500 {
			// Once it answered, it is being restarted, however long that takes.
			if q.After == "" && time.Since(began) > c.patience {
				return err
			}
			err = nil
		}
		if ended || err != nil {
			return err
		}
		if !sleep(ctx, followEvery) {
			return ctx.Err()
		}
	}
}

func (c *Client) followOnce(ctx context.Context, id string, q *LogQuery, take func(LogLine) error) (ended bool, err error) {
	v := logValues(*q)
	v.Set("follow", "true")
	resp, err := c.request(ctx, call{method: http.MethodGet, path: jobPath(id, "/logs?"+v.Encode())})
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	in := bufio.NewReaderSize(resp.Body, 1<<16)
	for {
		raw, err := in.ReadBytes('\n')
		if err != nil {
			return errors.Is(err, io.EOF) && len(raw) == 0, ctx.Err()
		}
		var l LogLine
		if err := json.Unmarshal(raw, &l); err != nil {
			return false, nil
		}
		q.After, q.Tail = l.Cursor, 0
		if err := take(l); err != nil {
			return true, err
		}
	}
}

// Cancel is safe to repeat: a cancelled job stays cancelled.
func (c *Client) Cancel(ctx context.Context, id string, seen int64, r CancelRequest) (out Job, err error) {
	return out, c.do(ctx, call{method: http.MethodPost, path: jobPath(id, "/cancel"), header: match(seen), body: r, out: &out})
}

// Resubmit implements Service.
func (c *Client) Resubmit(ctx context.Context, id string, seen int64, r ResubmitRequest) (out Job, err error) {
	return out, c.do(ctx, call{method: http.MethodPost, path: jobPath(id, "/resubmit"), header: match(seen), body: r, out: &out})
}

// Preempt implements Service.
func (c *Client) Preempt(ctx context.Context, id string, r PreemptRequest) (out Job, err error) {
	return out, c.do(ctx, call{method: http.MethodPost, path: jobPath(id, "/preempt"), body: r, out: &out})
}

// Checkpoint implements Service.
func (c *Client) Checkpoint(ctx context.Context, id string, r CheckpointRequest) (out CheckpointReply, err error) {
	return out, c.do(ctx, call{method: http.MethodPost, path: jobPath(id, "/checkpoint"), body: r, out: &out, repeat: r.Request > 0})
}

// CheckpointAccess implements Service.
func (c *Client) CheckpointAccess(ctx context.Context, id string) (out bucket.Access, err error) {
	return out, c.do(ctx, call{method: http.MethodGet, path: jobPath(id, "/checkpoint/access"), out: &out, repeat: true})
}

// Checkpoints implements Service.
func (c *Client) Checkpoints(ctx context.Context, id string) (out CommitPage, err error) {
	return out, c.do(ctx, call{method: http.MethodGet, path: jobPath(id, "/checkpoints"), out: &out, repeat: true})
}

// Doctor implements Service.
func (c *Client) Doctor(ctx context.Context, fix []string) (out DoctorReport, err error) {
	return out, c.do(ctx, call{method: http.MethodPost, path: "/v1/doctor", body: DoctorRequest{fix}, out: &out, repeat: len(fix) == 0})
}

// Claim implements AgentService. Agents repeat by themselves, with backoff.
func (c *Client) Claim(ctx context.Context, r ClaimRequest) (out ClaimReply, err error) {
	return out, c.do(ctx, call{method: http.MethodPost, path: "/v1/agent/claim", body: r, out: &out})
}

func agentPath(id string, attempt int, verb string) string {
	return fmt.Sprintf("/v1/agent/jobs/%s/%d/%s", url.PathEscape(id), attempt, verb)
}

// Report implements AgentService.
func (c *Client) Report(ctx context.Context, id string, attempt int, secret string, r Report) (out Orders, err error) {
	return out, c.do(ctx, call{method: http.MethodPost, path: agentPath(id, attempt, "report"), token: secret, body: r, out: &out})
}

// Credentials implements AgentService.
func (c *Client) Credentials(ctx context.Context, id string, attempt int, secret string) (out Credentials, err error) {
	return out, c.do(ctx, call{method: http.MethodPost, path: agentPath(id, attempt, "credentials"), token: secret, out: &out})
}

// Ping implements AgentService.
func (c *Client) Ping(ctx context.Context) error {
	return c.do(ctx, call{method: http.MethodGet, path: "/v1/agent/ping"})
}
