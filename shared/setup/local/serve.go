package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"anycloud/shared/api"
	"anycloud/shared/preempt"
)

// ServeOptions of one run of the server.
type ServeOptions struct {
	// IdleExit ends the server when for so long no job was active and nobody
	// asked for anything; 0: never.
	IdleExit time.Duration
	// Ready is told the endpoint once it answers.
	Ready func(endpoint string)
}

// Serve answers on loopback and runs the loops until ctx ends. VMs live on.
func (s *Stack) Serve(ctx context.Context, o ServeOptions) error {
	listener, err := s.listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	endpoint := "http://" + listener.Addr().String()
	token, err := Token(s.config.Home)
	if err != nil {
		return err
	}
	var seen atomic.Int64
	touch := func() { seen.Store(time.Now().UnixNano()) }
	touch()
	server := &http.Server{
		Handler: api.NewHandler(s.Control, api.HandlerOptions{
			Token: token, Hosts: []string{"127.0.0.1", "localhost", "::1"}, Logger: s.config.Logger, Seen: touch,
		}),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
	}
	// The sweep's probe goes through the front door, as agents do.
	client := api.NewClient(endpoint, "", nil)
	s.probe = func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return client.Ping(ctx)
	}
	g, ctx := errgroup.WithContext(ctx)
	// Handlers' contexts end with ours, so that followed logs do not hold us up.
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	g.Go(func() error { return ended(server.Serve(listener)) })
	g.Go(func() error {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close() //nolint:errcheck // nothing else is left to try
		}
		return nil
	})
	g.Go(func() error { return ended(s.bus.Run(ctx)) })
	g.Go(func() error { return ended(s.cloud.Watch(ctx, s.notice(ctx))) })
	g.Go(func() error { return ended(s.ticks(ctx, o.IdleExit, &seen)) })
	if err := writeFile(endpointFile(s.config.Home), endpoint+"\n"); err != nil {
		return fmt.Errorf("write the endpoint: %w", err)
	}
	if o.Ready != nil {
		o.Ready(endpoint)
	}
	return g.Wait()
}

// errIdle ends an idle server.
var errIdle = errors.New("idle")

// ended drops the errors of an orderly end.
func ended(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// IsIdle says whether Serve ended because nothing was left to do.
func IsIdle(err error) bool { return errors.Is(err, errIdle) }

// listen keeps the port of the last time where it is free: agents find us at
// once after a restart.
func (s *Stack) listen() (net.Listener, error) {
	if last, err := Endpoint(s.config.Home); err == nil && last != "" {
		if u, err := url.Parse(last); err == nil {
			if l, err := net.Listen("tcp", u.Host); err == nil {
				return l, nil
			}
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	return l, nil
}

// notice hands the cloud's hints to preemptwatch; the sweep makes up for those
// that fail.
func (s *Stack) notice(ctx context.Context) func(preempt.Notice) {
	return func(n preempt.Notice) {
		if err := s.Control.Notice(ctx, n); err != nil {
			s.config.Logger.Warn("notice not recorded; the sweep will", "vm", n.VMID, "kind", n.Kind, "err", err)
		}
	}
}

// ticks runs the sweep at every multiple of the interval, as a schedule does.
// A machine that slept gets one tick when it wakes, not many.
func (s *Stack) ticks(ctx context.Context, idle time.Duration, seen *atomic.Int64) error {
	for {
		now := time.Now()
		at := now.Truncate(s.config.Tick).Add(s.config.Tick)
		timer := time.NewTimer(at.Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		if err := s.Control.Tick(ctx, at); err != nil && ctx.Err() == nil {
			s.config.Logger.Warn("sweep incomplete; the next one goes on", "err", err)
		}
		if idle > 0 && time.Since(time.Unix(0, seen.Load())) > idle {
			page, _, skipped, err := s.table.Active(ctx, "", 1)
			if err == nil && len(page) == 0 && skipped == 0 {
				return errIdle
			}
		}
	}
}
