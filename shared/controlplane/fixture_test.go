package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/bucket/membucket"
	"anycloud/shared/bus"
	"anycloud/shared/cloud"
	"anycloud/shared/cloud/fakecloud"
	"anycloud/shared/job"
	"anycloud/shared/store/memstore"
)

// stack is a control plane on fakes, at a time of its own.
type stack struct {
	*ControlPlane
	t       testing.TB
	now     time.Time
	store   *memstore.Store
	cloud   *fakecloud.Cloud
	buckets *membucket.Buckets
	sent    []bus.Event
	deaf    bool
	fail    error // of the bus
	ids     int
}

// Publish implements bus.Publisher.
func (s *stack) Publish(_ context.Context, es ...bus.Event) error {
	if s.fail != nil {
		return s.fail
	}
	s.sent = append(s.sent, es...)
	return nil
}

func newStack(t testing.TB) *stack {
	s := &stack{t: t, now: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)}
	now := func() time.Time { return s.now }
	s.store = memstore.New()
	s.store.Now = now
	s.cloud = fakecloud.New(fakecloud.Options{Now: now, Stack: "st", BootDelay: -1, TerminationDelay: -1})
	s.buckets = membucket.New("st")
	s.buckets.Now = now
	s.ControlPlane = New(Options{
		Store: s.store, Clouds: map[string]cloud.Cloud{"fake": s.cloud}, Buckets: map[string]bucket.Admin{"fake": s.buckets},
		Logs: membucket.NewObjects(), Bus: s, Now: now, NewID: func() string { s.ids++; return fmt.Sprintf("id%08d", s.ids) },
		Probe: func(context.Context) error {
			if s.deaf {
				return errors.New("deaf")
			}
			return nil
		},
		LogAccess: func(context.Context, string) (bucket.Access, error) { return bucket.Access{URL: "mem://logs"}, nil },
		SyncAccess: func(_ context.Context, url string, _ bool) (bucket.Access, error) {
			return bucket.Access{URL: url}, nil
		},
		Config: Config{Stack: "st", Prefix: "ac", DefaultCloud: "fake", SyncSchemes: []string{"file", "s3"}, SecretSources: []string{"file", "env"}},
	})
	return s
}

func (s *stack) pass(d time.Duration) { s.now = s.now.Add(d) }

func (s *stack) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stack) submit(spec job.Spec) string {
	s.t.Helper()
	if spec.Image == "" {
		spec.Image = "acme/train"
	}
	r, err := s.Submit(s.t.Context(), api.SubmitRequest{Spec: spec}, "")
	s.must(err)
	return r.Job.ID
}

func (s *stack) job(id string) *job.Job {
	s.t.Helper()
	j, err := s.store.Get(s.t.Context(), id)
	s.must(err)
	return j
}

// vm is the newest attempt's VM.
func (s *stack) vm(id string) string {
	j := s.job(id)
	return j.AttemptNo(j.Attempt).VMID
}

func secretOf(vm string) string { return "secret of " + vm }

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func (s *stack) claim(vm string) (api.ClaimReply, error) {
	return s.Claim(s.t.Context(), api.ClaimRequest{Proof: fakecloud.Proof(vm), Cloud: "fake", SecretHash: hash(secretOf(vm))})
}

func (s *stack) report(id string, r api.Report) (api.Orders, error) {
	j := s.job(id)
	return s.reportAs(id, j.Attempt, r)
}

func (s *stack) reportAs(id string, attempt int, r api.Report) (api.Orders, error) {
	return s.Report(s.t.Context(), id, attempt, secretOf(s.job(id).AttemptNo(attempt).VMID), r)
}

// running brings a job to its running container.
func (s *stack) running(spec job.Spec) string {
	s.t.Helper()
	id := s.submit(spec)
	s.must(s.Recover(s.t.Context(), id))
	_, err := s.claim(s.vm(id))
	s.must(err)
	_, err = s.report(id, api.Report{Started: &api.ContainerStarted{At: s.now}})
	s.must(err)
	s.state(id, job.Running)
	return id
}

func (s *stack) state(id string, want job.State) {
	s.t.Helper()
	if got := s.job(id).State; got != want {
		s.t.Fatalf("state %s, want %s", got, want)
	}
}

// tick passes one interval and sweeps.
func (s *stack) tick() {
	s.t.Helper()
	s.pass(DefaultSweepEvery)
	s.must(s.Tick(s.t.Context(), s.now))
}

func (s *stack) types() (out []string) {
	for _, e := range s.sent {
		out = append(out, e.Type)
	}
	return out
}

func (s *stack) alive(vm string) bool { return s.cloud.Get(vm).Alive(s.now) }

// end brings a running job to its end by exit code.
func (s *stack) end(id string, code int) {
	s.t.Helper()
	_, err := s.report(id, api.Report{StoppedAt: s.now, Exit: &api.Exit{Attempt: s.job(id).Attempt, Code: code, StoppedAt: s.now}})
	s.must(err)
	s.must(s.Cleanup(s.t.Context(), id))
	s.tick()
}

// refused wants a problem with words that say what to do.
func refused(t *testing.T, err error, status int, words string) {
	t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != status || !strings.Contains(p.Detail, words) {
		t.Errorf("got %v, want %d with %q", err, status, words)
	}
}

// states bring a job into each state that is no end.
var states = map[job.State]func(*stack) string{
	job.Pending: func(s *stack) string { return s.submit(job.Spec{Spot: true}) },
	job.Provisioning: func(s *stack) string {
		id := s.submit(job.Spec{Spot: true})
		s.cloud.Set(func(k *fakecloud.Knobs) {
			k.OnLaunch = func(cloud.LaunchRequest) fakecloud.LaunchFault { return fakecloud.LaunchFault{Unanswered: true} }
		})
		s.must(s.Recover(s.t.Context(), id))
		return id
	},
	job.Starting: func(s *stack) string {
		id := s.submit(job.Spec{Spot: true})
		s.must(s.Recover(s.t.Context(), id))
		return id
	},
	job.Running: func(s *stack) string { return s.running(job.Spec{Spot: true}) },
	job.Recovering: func(s *stack) string {
		id := s.running(job.Spec{Spot: true})
		s.cloud.Interrupt(s.vm(id), 2*time.Minute, true)
		s.must(s.Notice(s.t.Context(), *s.cloud.Notice(s.vm(id))))
		return id
	},
	job.Stopping: func(s *stack) string {
		id := s.running(job.Spec{Spot: true})
		_, err := s.report(id, api.Report{Exit: &api.Exit{Attempt: 1, Code: 1}})
		s.must(err)
		return id
	},
}
