package controlplane

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/cloud"
	"anycloud/shared/cloud/fakecloud"
	"anycloud/shared/job"
)

// launched makes another VM that carries an attempt's tags.
func (s *stack) launched(owner string, attempt, launch int) string {
	s.t.Helper()
	offers, err := s.cloud.Offers(s.t.Context(), cloud.Needs{})
	s.must(err)
	vm, err := s.cloud.Launch(s.t.Context(), cloud.LaunchRequest{
		Token: fmt.Sprint(owner, attempt, launch), Job: owner, Attempt: attempt, Launch: launch, Candidates: offers,
	})
	s.must(err)
	return vm.ID
}

// TestClaimIsRefused to every VM but the one, and its agent is told whether to
// try again.
func TestClaimIsRefused(t *testing.T) {
	ctx := t.Context()
	s := newStack(t)
	id := s.submit(job.Spec{Spot: true})
	s.must(s.Recover(ctx, id))
	own := s.vm(id)

	// Another VM of the same attempt, before the right one came: doomed, and the
	// right one is taken all the same.
	twin := s.launched(id, 1, 77)
	_, err := s.claim(twin)
	wantCode(t, err, api.CodeSuperseded)
	if s.job(id).DoomedVM(twin) == nil || s.job(id).DoomedVM(own) != nil {
		t.Errorf("doomed: %+v", s.job(id).Doomed)
	}
	_, err = s.claim(own)
	s.must(err)
	_, err = s.claim(s.launched(id, 9, 9)) // of an attempt that there never was
	wantCode(t, err, api.CodeSuperseded)
	_, err = s.claim(s.launched("", 0, 0))
	wantCode(t, err, api.CodeUnknownVM)
	_, err = s.claim(s.launched("ac-none-1", 1, 1))
	wantCode(t, err, api.CodeTooEarly)
	s.cloud.Set(func(k *fakecloud.Knobs) { k.NotFound = time.Minute })
	_, err = s.claim(s.launched(id, 1, 78))
	wantCode(t, err, api.CodeTooEarly)
	_, err = s.Claim(ctx, api.ClaimRequest{Proof: fakecloud.Proof(own), Cloud: "moon", SecretHash: hash("x")})
	wantCode(t, err, api.CodeInvalid)
	for _, h := range []string{"", "short", strings.Repeat("x", 64), strings.ToUpper(hash(secretOf(own)))} {
		_, err = s.Claim(ctx, api.ClaimRequest{Proof: fakecloud.Proof(own), Cloud: "fake", SecretHash: h})
		wantCode(t, err, api.CodeInvalid)
	}
	stranger := s.cloud.As("another stack")
	s.Clouds["fake"] = stranger
	_, err = s.claim(own)
	wantCode(t, err, api.CodeUnauthorized)
	s.Clouds["fake"] = s.cloud

	s.tick()
	if s.alive(twin) || !s.alive(own) {
		t.Errorf("the twin lives: %v, the claimed VM: %v", s.alive(twin), s.alive(own))
	}
	_, err = s.claim(twin)
	wantCode(t, err, api.CodeSuperseded)
	s.end(id, 0)
	s.settle(id)
	s.cloud.Set(func(k *fakecloud.Knobs) { k.NotFound = 0 })
	late := s.launched(id, 1, 79)
	_, err = s.claim(late)
	if api.CodeOf(err) != api.CodeEnded && api.CodeOf(err) != api.CodeSuperseded {
		t.Errorf("a late VM of an ended job: %v", err)
	}
	_, err = s.claim(late)
	wantCode(t, err, api.CodeEnded)
	s.tick()
	if s.alive(late) {
		t.Error("a late VM of an ended job lives on")
	}
}
