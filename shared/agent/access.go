package agent

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
)

// access holds the agent's credentials and the buckets that they open. They are
// renewed well before they expire; a control plane that does not answer costs
// nothing while the old ones last.
type access struct {
	mu      sync.Mutex
	creds   api.Credentials
	renewAt time.Time
	bucket  bucket.Objects
	logs    bucket.Objects
}

// renewBefore is how long before their expiry credentials are renewed.
const renewBefore = 20 * time.Minute

// ready gets the first credentials, however long it takes.
func (x *access) ready(ctx context.Context, a *agent) error {
	wait := retryDelays()
	for {
		err := x.renew(ctx, a)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if unwanted(err) {
			return ErrPowerOff
		}
		a.Logger.Warn("no credentials yet; again", "err", err)
		if !pause(ctx, wait.NextBackOff()) {
			return ctx.Err()
		}
	}
}

// renew gets credentials if it is time to.
func (x *access) renew(ctx context.Context, a *agent) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.logs != nil && (x.renewAt.IsZero() || a.Now().Before(x.renewAt)) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callFor)
	defer cancel()
	service, err := a.connect(ctx)
	if err != nil {
		return err
	}
	c, err := service.Credentials(ctx, a.claim.JobID, a.claim.Attempt, a.secret)
	if err != nil {
		if !unwanted(err) {
			a.disconnect()
		}
		return err
	}
	logs, err := a.Open(ctx, c.Logs)
	if err != nil {
		return err
	}
	var objects bucket.Objects
	expires := c.Logs.Expires
	if c.Checkpoint != nil {
		if objects, err = a.Open(ctx, *c.Checkpoint); err != nil {
			return err
		}
		if e := c.Checkpoint.Expires; !e.IsZero() && (expires.IsZero() || e.Before(expires)) {
			expires = e
		}
	}
	x.creds, x.bucket, x.logs, x.renewAt = c, objects, logs, time.Time{}
	if !expires.IsZero() {
		x.renewAt = expires.Add(-renewBefore)
	}
	return nil
}

// checkpoint is the job's bucket with whatever credentials are newest.
func (x *access) checkpoint(a *agent) bucket.Objects {
	return renewed{a, func() bucket.Objects { return x.bucket }}
}

// logStore is the log store, likewise.
func (x *access) logStore(a *agent) bucket.Objects {
	return renewed{a, func() bucket.Objects { return x.logs }}
}

// renewed is a bucket whose credentials are looked after at each call.
type renewed struct {
	a    *agent
	pick func() bucket.Objects
}

var _ bucket.Objects = renewed{}

var errNoAccess = errors.New("no credentials yet")

func (r renewed) now(ctx context.Context) (bucket.Objects, error) {
	if err := r.a.access.renew(ctx, r.a); err != nil {
		r.a.Logger.Warn("credentials not renewed; the old ones are used while they last", "err", err)
	}
	r.a.access.mu.Lock()
	defer r.a.access.mu.Unlock()
	if o := r.pick(); o != nil {
		return o, nil
	}
	return nil, errNoAccess
}

func (r renewed) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	o, err := r.now(ctx)
	if err != nil {
		return err
	}
	return o.PutIfAbsent(ctx, key, data)
}

func (r renewed) Put(ctx context.Context, key string, in io.Reader, size int64) error {
	o, err := r.now(ctx)
	if err != nil {
		return err
	}
	return o.Put(ctx, key, in, size)
}

func (r renewed) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	o, err := r.now(ctx)
	if err != nil {
		return nil, err
	}
	return o.Get(ctx, key, offset, length)
}

func (r renewed) List(ctx context.Context, prefix, startAfter string, limit int) ([]bucket.Object, bool, error) {
	o, err := r.now(ctx)
	if err != nil {
		return nil, false, err
	}
	return o.List(ctx, prefix, startAfter, limit)
}

func (r renewed) Delete(ctx context.Context, key string) error {
	o, err := r.now(ctx)
	if err != nil {
		return err
	}
	return o.Delete(ctx, key)
}
