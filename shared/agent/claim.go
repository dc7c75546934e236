package agent

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"anycloud/shared/api"
	"anycloud/shared/job"
)

// arm starts the dead-man switch at the first boot: a VM that nobody takes must
// not run on for ever, even if the control plane is gone for good.
func (a *agent) arm() error {
	if !a.disk.get().Armed.IsZero() {
		return nil
	}
	return a.disk.put(func(s *state) { s.Armed = a.Now() })
}

// claimAttempt claims, until the first answer disarms the switch. A restarted
// agent finds the answer on its disk.
func (a *agent) claimAttempt(ctx context.Context) error {
	s := a.disk.get()
	if s.Claim != nil {
		a.claim, a.secret, a.report = s.Claim, s.Secret, s.Report
		// What was ordered then may not hold any more: stand by for the first answer.
		a.orders = api.Orders{Role: api.Standby, NewestCommit: s.Claim.Orders.NewestCommit, FreshFrom: s.Claim.Orders.FreshFrom}
		return nil
	}
	if s.Secret == "" {
		var raw [32]byte
		rand.Read(raw[:]) //nolint:errcheck // never fails
		s.Secret = hex.EncodeToString(raw[:])
		// On disk before its hash leaves: else a crash here would lose the VM.
		if err := a.disk.put(func(d *state) { d.Secret = s.Secret }); err != nil {
			return err
		}
	}
	a.secret = s.Secret
	wait := retryDelays()
	for {
		if a.Now().Sub(s.Armed) > job.UnclaimedAfter {
			a.Logger.Error("not claimed in time: the dead-man switch powers the VM off")
			return ErrPowerOff
		}
		reply, err := a.claimOnce(ctx)
		if err == nil {
			a.claim, a.orders = &reply, reply.Orders
			return a.disk.put(func(d *state) { d.Claim = &reply })
		}
		if unwanted(err) {
			a.Logger.Warn("claim refused for good", "err", err)
			return ErrPowerOff
		}
		a.Logger.Info("claim not answered; again", "err", err)
		if !pause(ctx, wait.NextBackOff()) {
			return ctx.Err()
		}
	}
}

func (a *agent) claimOnce(ctx context.Context) (api.ClaimReply, error) {
	ctx, cancel := context.WithTimeout(ctx, callFor)
	defer cancel()
	proof, err := a.Metadata.Identity(ctx)
	if err != nil {
		return api.ClaimReply{}, fmt.Errorf("get the identity proof: %w", err)
	}
	service, err := a.connect(ctx)
	if err != nil {
		return api.ClaimReply{}, err
	}
	sum := sha256.Sum256([]byte(a.secret))
	reply, err := service.Claim(ctx, api.ClaimRequest{Proof: proof, Cloud: a.Cloud, SecretHash: hex.EncodeToString(sum[:]), Version: a.Version})
	if err != nil {
		a.disconnect(service)
	}
	return reply, err
}

// unwanted says whether an answer means that nobody wants this VM.
func unwanted(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeSuperseded, api.CodeUnknownVM, api.CodeEnded:
		return true
	}
	return false
}

const (
	// callFor bounds one call to the control plane.
	callFor = 30 * time.Second
	// reportFor bounds a report: the next one may have more to tell.
	reportFor = 10 * time.Second
)

// retryDelays are those between calls that were not answered: for ever, at most
// 10 s apart, so that contact is back soon after whatever broke it.
func retryDelays() *backoff.ExponentialBackOff {
	b := &backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 10 * time.Second}
	b.Reset()
	return b
}

// connect finds the control plane, which may move.
func (a *agent) connect(ctx context.Context) (api.AgentService, error) {
	a.mu.Lock()
	service := a.service
	a.mu.Unlock()
	if service != nil {
		return service, nil
	}
	endpoint, err := a.Metadata.Endpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the control plane: %w", err)
	}
	service = a.Connect(endpoint)
	a.mu.Lock()
	a.service = service
	a.mu.Unlock()
	return service, nil
}

// disconnect makes the next call ask again where the control plane is: this
// service did not answer.
func (a *agent) disconnect(service api.AgentService) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.service == service {
		a.service = nil
	}
}
