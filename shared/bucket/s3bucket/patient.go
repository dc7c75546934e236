package s3bucket

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// stalledAfter is how long a call may stand still, in neither direction a byte:
// long against every pause of a loaded network, short against a checkpoint
// interval of some minutes.
const stalledAfter = 30 * time.Second

// patient waits for a server as long as bytes go to and fro. A call that stands
// still is ended with a time-out, which the SDK tries again.
type patient struct {
	next  aws.HTTPClient
	limit time.Duration
}

type stalledError struct{ limit time.Duration }

func (e stalledError) Error() string {
	return "the server has been silent for " + e.limit.String()
}
func (stalledError) Timeout() bool   { return true }
func (stalledError) Temporary() bool { return true }

// Do implements aws.HTTPClient.
func (p *patient) Do(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &watch{cancel: cancel, limit: p.limit}
	w.timer = time.AfterFunc(p.limit, func() { cancel(stalledError{p.limit}) })
	r = r.Clone(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &watchedBody{ReadCloser: r.Body, w: w, ctx: ctx}
	}
	resp, err := p.next.Do(r)
	if err != nil {
		w.end()
		return nil, stalled(ctx, err)
	}
	w.seen()
	resp.Body = &watchedBody{ReadCloser: resp.Body, w: w, ctx: ctx, last: true}
	return resp, nil
}

func stalled(ctx context.Context, err error) error {
	if s, ok := context.Cause(ctx).(stalledError); ok {
		return s
	}
	return err
}

// watch cancels its call when nothing was seen for the limit.
type watch struct {
	timer  *time.Timer
	cancel context.CancelCauseFunc
	limit  time.Duration
}

func (w *watch) seen() { w.timer.Reset(w.limit) }

func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

type watchedBody struct {
	io.ReadCloser
	w    *watch
	ctx  context.Context
	last bool // its end is the call's
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.w.seen()
	}
	if err != nil && err != io.EOF {
		err = stalled(b.ctx, err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	if b.last {
		b.w.end()
	}
	return err
}
