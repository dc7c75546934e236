package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
)

// access holds the agent's credentials and the buckets that they open. A loop
// renews them well before they expire; calls use what is there, so that a
// control plane that does not answer costs nothing while the old ones last.
// They are on the VM's disk too: a restarted agent saves at once.
type access struct {
	a    *agent
	path string
	asap chan struct{} // a bucket refused us

	mu       sync.Mutex
	creds    api.Credentials
	expires  time.Time // zero: never
	renewAt  time.Time // zero: never
	renewed  time.Time
	problem  error // of the last renewal
	bucket   bucket.Objects
	logs     bucket.Objects
	in, out  bucket.Objects // Bucket Sync; nil: not asked for
	ready    chan struct{}  // closed with the first credentials
	hadFirst bool
}

const (
	// renewMost is how long credentials are used before new ones are asked for,
	// however long they would last.
	renewMost = 30 * time.Minute
	// renewLeast is the least between two renewals.
	renewLeast = 10 * time.Second
)

func newAccess(a *agent) *access {
	x := &access{a: a, path: a.dir("state/credentials.json"), asap: make(chan struct{}, 1), ready: make(chan struct{})}
	var c api.Credentials
	if b, err := os.ReadFile(x.path); err == nil && json.Unmarshal(b, &c) == nil {
		if err := x.use(context.Background(), c); err != nil {
			a.Logger.Info("credentials of the agent before not usable", "err", err)
		}
		x.renewAt = a.Now() // how old they are is not known
	}
	return x
}

// use opens the buckets of new credentials.
func (x *access) use(ctx context.Context, c api.Credentials) error {
	logs, err := x.a.Open(ctx, c.Logs)
	if err != nil {
		return fmt.Errorf("open the log store: %w", err)
	}
	expires := c.Logs.Expires
	open := func(what string, b *bucket.Access) bucket.Objects {
		if b == nil || err != nil {
			return nil
		}
		o, oerr := x.a.Open(ctx, *b)
		if oerr != nil {
			err = fmt.Errorf("open %s: %w", what, oerr)
			return nil
		}
		if e := b.Expires; !e.IsZero() && (expires.IsZero() || e.Before(expires)) {
			expires = e
		}
		return o
	}
	objects, in, out := open("the job's bucket", c.Checkpoint), open("the input", c.Input), open("the output", c.Output)
	if err != nil {
		return err
	}
	now := x.a.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.creds, x.bucket, x.logs, x.expires, x.renewed, x.problem = c, objects, logs, expires, now, nil
	x.in, x.out = in, out
	x.renewAt = time.Time{}
	if !expires.IsZero() {
		x.renewAt = now.Add(max(renewLeast, min(renewMost, expires.Sub(now)/2)))
	}
	if !x.hadFirst {
		x.hadFirst = true
		close(x.ready)
	}
	return nil
}

// loop gets the first credentials and renews them, for ever.
func (x *access) loop(ctx context.Context) error {
	wait := retryDelays()
	for {
		if !x.await(ctx) {
			return ctx.Err()
		}
		err := x.renew(ctx)
		if err == nil {
			wait.Reset()
			continue
		}
		x.mu.Lock()
		first := x.problem == nil
		x.problem = err
		x.mu.Unlock()
		if first && ctx.Err() == nil {
			x.a.Logger.Warn("credentials not renewed; the old ones are used while they last", "err", err)
		}
		if !pause(ctx, wait.NextBackOff()) {
			return ctx.Err()
		}
	}
}

// await returns when it is time to renew; false if the agent is to end.
func (x *access) await(ctx context.Context) bool {
	x.mu.Lock()
	due, renewed, had, failed := x.renewAt, x.renewed, x.hadFirst, x.problem != nil
	x.mu.Unlock()
	if !had || failed {
		return ctx.Err() == nil
	}
	var timer <-chan time.Time
	if !due.IsZero() {
		t := time.NewTimer(due.Sub(x.a.Now()))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-timer:
		return true
	case <-x.asap:
		return pause(ctx, renewed.Add(renewLeast).Sub(x.a.Now()))
	}
}

func (x *access) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callFor)
	defer cancel()
	service, err := x.a.connect(ctx)
	if err != nil {
		return err
	}
	c, err := service.Credentials(ctx, x.a.claim.JobID, x.a.claim.Attempt, x.a.secret)
	if err != nil {
		if api.CodeOf(err) == "" {
			x.a.disconnect(service)
		}
		return err
	}
	if err := x.use(ctx, c); err != nil {
		return err
	}
	b, err := json.Marshal(c)
	if err == nil {
		err = writeWhole(x.path, b, 0o600)
	}
	if err != nil {
		x.a.Logger.Warn("credentials not kept on disk", "err", err)
	}
	return nil
}

// prefix of this attempt's log objects; "" without credentials.
func (x *access) prefix() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.creds.LogPrefix
}

// checkpoint is the job's bucket with whatever credentials are newest.
func (x *access) checkpoint() bucket.Objects {
	return renewed{x, func() bucket.Objects { return x.bucket }}
}

// logStore is the log store, likewise.
func (x *access) logStore() bucket.Objects {
	return renewed{x, func() bucket.Objects { return x.logs }}
}

// input and output are the buckets of Bucket Sync, likewise.
func (x *access) input() bucket.Objects {
	return renewed{x, func() bucket.Objects { return x.in }}
}

func (x *access) output() bucket.Objects {
	return renewed{x, func() bucket.Objects { return x.out }}
}

// renewed is a bucket whose credentials change.
type renewed struct {
	x    *access
	pick func() bucket.Objects
}

var _ bucket.Objects = renewed{}

var errNoAccess = errors.New("no credentials yet")

func (r renewed) now() (bucket.Objects, error) {
	r.x.mu.Lock()
	defer r.x.mu.Unlock()
	if o := r.pick(); o != nil {
		return o, nil
	}
	if r.x.problem != nil {
		return nil, fmt.Errorf("%w: %w", errNoAccess, r.x.problem)
	}
	return nil, errNoAccess
}

// told looks at a call's result: a refusal asks for new credentials.
func (r renewed) told(err error) error {
	if !errors.Is(err, bucket.ErrDenied) {
		return err
	}
	select {
	case r.x.asap <- struct{}{}:
	default:
	}
	r.x.mu.Lock()
	defer r.x.mu.Unlock()
	if !r.x.expires.IsZero() && r.x.a.Now().After(r.x.expires) && r.x.problem != nil {
		return fmt.Errorf("credentials expired, and the control plane gives no new ones (%v): %w", r.x.problem, err)
	}
	return err
}

func (r renewed) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	o, err := r.now()
	if err != nil {
		return err
	}
	return r.told(o.PutIfAbsent(ctx, key, data))
}

func (r renewed) Put(ctx context.Context, key string, in io.Reader, size int64) error {
	o, err := r.now()
	if err != nil {
		return err
	}
	return r.told(o.Put(ctx, key, in, size))
}

func (r renewed) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	o, err := r.now()
	if err != nil {
		return nil, err
	}
	body, err := o.Get(ctx, key, offset, length)
	return body, r.told(err)
}

func (r renewed) List(ctx context.Context, prefix, startAfter string, limit int) ([]bucket.Object, bool, error) {
	o, err := r.now()
	if err != nil {
		return nil, false, err
	}
	page, more, err := o.List(ctx, prefix, startAfter, limit)
	return page, more, r.told(err)
}

func (r renewed) Delete(ctx context.Context, key string) error {
	o, err := r.now()
	if err != nil {
		return err
	}
	return r.told(o.Delete(ctx, key))
}
