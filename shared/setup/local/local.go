// Package local composes the control plane of one machine, and of `anycloud
// serve`: everything lies in one home directory.
//
//	local.go  the parts: table, bus, buckets, VMs, control plane
//	home.go   what else is in a home: token, endpoint, lock
//	serve.go  the server and its loops
package local

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/bucket/filebucket"
	"anycloud/shared/bus"
	"anycloud/shared/bus/localbus"
	"anycloud/shared/checkpoint/wal"
	"anycloud/shared/cloud"
	"anycloud/shared/cloud/localcloud"
	"anycloud/shared/controlplane"
	"anycloud/shared/store"
	"anycloud/shared/store/boltstore"
)

// Config of a stack on this machine.
type Config struct {
	Home      string
	AgentPath string // the anycloud-agent binary
	Tick      time.Duration
	BootDelay time.Duration
	GPUs      string   // pretended: "a100:8"
	Prices    string   // pretended, spot and on-demand USD per hour: "0.30,1.00"
	Environ   []string // what VMs inherit is picked from it
	Logger    *slog.Logger
}

// Stack is the control plane of one home, opened.
type Stack struct {
	ID      string
	Control *controlplane.ControlPlane
	config  Config
	table   *boltstore.Store
	bus     *localbus.Bus
	cloud   *localcloud.Cloud
	probe   func(context.Context) error
}

// Open opens the home's table and composes what stands on it.
func Open(ctx context.Context, c Config) (_ *Stack, err error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Tick <= 0 {
		c.Tick = controlplane.DefaultSweepEvery
	}
	if err := MakeHome(c.Home); err != nil {
		return nil, err
	}
	table, err := boltstore.Open(filepath.Join(c.Home, "table.db"))
	if err != nil {
		return nil, fmt.Errorf("open the table of %s: %w", c.Home, err)
	}
	s := &Stack{config: c, table: table}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.ID, err = stackID(ctx, table); err != nil {
		return nil, err
	}
	if s.bus, err = localbus.New(table.File(), localbus.Options{Log: c.Logger}); err != nil {
		return nil, fmt.Errorf("open the bus: %w", err)
	}
	buckets, err := filebucket.NewAdmin(filepath.Join(c.Home, "buckets"), s.ID)
	if err != nil {
		return nil, fmt.Errorf("open the buckets: %w", err)
	}
	logDir := filepath.Join(c.Home, "logs")
	logs, err := filebucket.Init(logDir)
	if err != nil {
		return nil, fmt.Errorf("open the log store: %w", err)
	}
	if s.cloud, err = openCloud(c, s.ID); err != nil {
		return nil, err
	}
	s.probe = func(context.Context) error { return nil }
	s.Control = controlplane.New(controlplane.Options{
		Store: table, Bus: s.bus, Logs: logs, Logger: c.Logger, NewID: func() string { return letters(10) },
		Clouds:      map[string]cloud.Cloud{localcloud.Name: s.cloud},
		Buckets:     map[string]bucket.Admin{localcloud.Name: buckets},
		Probe:       func(ctx context.Context) error { return s.probe(ctx) },
		NewestEntry: newestEntry,
		LogAccess: func(context.Context, string) (bucket.Access, error) {
			return bucket.Access{URL: (&url.URL{Scheme: "file", Path: logDir}).String()}, nil
		},
		SyncAccess:  syncAccess,
		Commits:     commits,
		DeadLetters: s.deadLetters,
		Config: controlplane.Config{
			Stack: s.ID, Prefix: prefixOf(s.ID), DefaultCloud: localcloud.Name, SweepEvery: c.Tick,
			SyncSchemes: []string{"file"}, SecretSources: []string{"file", "env"},
		},
	})
	s.bus.Subscribe("recover", []string{bus.JobSubmitted, bus.JobPreempted, bus.JobRetry}, func(ctx context.Context, e bus.Event) error {
		return gone(s.Control.Recover(ctx, e.JobID))
	})
	s.bus.Subscribe("cleanup", []string{bus.JobExited, bus.JobCancelled}, func(ctx context.Context, e bus.Event) error {
		return gone(s.Control.Cleanup(ctx, e.JobID))
	})
	return s, nil
}

// syncAccess opens a directory of this machine. One to write to is made.
func syncAccess(_ context.Context, raw string, write bool) (bucket.Access, error) {
	u, err := url.Parse(raw)
	if err == nil && write {
		err = os.MkdirAll(u.Path, 0o755)
	}
	return bucket.Access{URL: raw}, err
}

// gone drops the errors of events about jobs that are not there (any more):
// another delivery would not find them either.
func gone(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func openCloud(c Config, stack string) (*localcloud.Cloud, error) {
	inventory, err := localcloud.Detect()
	if err != nil {
		return nil, fmt.Errorf("look at this machine: %w", err)
	}
	if c.GPUs != "" {
		if inventory.GPUs, err = localcloud.ParseGPUs(c.GPUs); err != nil {
			return nil, fmt.Errorf("pretended GPUs: %w", err)
		}
	}
	var prices localcloud.Prices
	if c.Prices != "" {
		if prices, err = localcloud.ParsePrices(c.Prices); err != nil {
			return nil, fmt.Errorf("pretended prices: %w", err)
		}
	}
	cl, err := localcloud.New(localcloud.Options{
		Root: filepath.Join(c.Home, "vms"), Stack: stack, AgentPath: c.AgentPath, EndpointFile: endpointFile(c.Home),
		Env: localcloud.VMEnv(c.Environ), Inventory: &inventory, BootDelay: c.BootDelay, Prices: prices, PretendGPUs: c.GPUs != "", Log: c.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("open the VMs: %w", err)
	}
	return cl, nil
}

// Close gives the table free. VMs live on.
func (s *Stack) Close() {
	if s.cloud != nil {
		s.cloud.Close()
	}
	if err := s.table.Close(); err != nil {
		s.config.Logger.Error("table not closed", "err", err)
	}
}

// stackID reads the id that was made with the table, or makes it.
func stackID(ctx context.Context, st store.Store) (string, error) {
	const doc = "stack"
	for {
		data, version, err := st.GetDoc(ctx, doc)
		if err == nil {
			var id string
			if err := json.Unmarshal(data, &id); err != nil {
				return "", fmt.Errorf("read the stack's id: %w", err)
			}
			return id, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return "", fmt.Errorf("read the stack's id: %w", err)
		}
		data, err = json.Marshal(letters(10))
		if err != nil {
			return "", err
		}
		if err := st.PutDoc(ctx, doc, data, version, time.Time{}); err != nil && !errors.Is(err, store.ErrConflict) {
			return "", fmt.Errorf("write the stack's id: %w", err)
		}
	}
}

// prefixOf begins the ids of the stack's jobs, and so the names of its buckets:
// policies can name <prefix>-*. It begins with a letter, as DNS labels must.
func prefixOf(stack string) string { return "ac" + stack[:4] }

// letters gives n random base32 characters.
func letters(n int) string {
	b := make([]byte, n)
	rand.Read(b) //nolint:errcheck // never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(b))[:n]
}

// newestEntry is when the job's log was last written.
func newestEntry(ctx context.Context, objects bucket.Objects) (time.Time, error) {
	l := wal.Open(objects, 0, wal.Options{})
	n, err := l.Head(ctx)
	if err != nil || n == 0 {
		return time.Time{}, err
	}
	e, err := l.Read(ctx, n)
	return e.Time, err
}

func (s *Stack) deadLetters(ctx context.Context) ([]string, error) {
	letters, err := s.bus.DeadLetters(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(letters))
	for i, l := range letters {
		out[i] = fmt.Sprintf("%s of job %s: %s", l.Event.Type, l.Event.JobID, l.Error)
	}
	return out, nil
}
