package controlplane

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/cloud"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
	"anycloud/shared/store"
)

// Claim fixes VM and secret of an attempt by one conditional write. The same
// pair may repeat for ever; any other VM of that attempt is doomed.
func (c *ControlPlane) Claim(ctx context.Context, r api.ClaimRequest) (api.ClaimReply, error) {
	cl, err := c.cloudOf(r.Cloud)
	if err != nil {
		return api.ClaimReply{}, api.Errorf(http.StatusBadRequest, api.CodeInvalid, "%v", err)
	}
	if sum, err := hex.DecodeString(r.SecretHash); err != nil || len(sum) != sha256.Size || r.SecretHash != hex.EncodeToString(sum) {
		return api.ClaimReply{}, api.Errorf(http.StatusBadRequest, api.CodeInvalid, "secret_hash must be a hex SHA-256")
	}
	vmID, err := cl.VerifyProof(ctx, r.Proof)
	if errors.Is(err, cloud.ErrBadProof) {
		return api.ClaimReply{}, api.Errorf(http.StatusUnauthorized, api.CodeUnauthorized, "the identity proof is not genuine")
	}
	if err != nil {
		return api.ClaimReply{}, fmt.Errorf("verify proof: %w", err)
	}
	vm, err := cl.Describe(ctx, vmID)
	if errors.Is(err, cloud.ErrNotFound) {
		return api.ClaimReply{}, api.Errorf(http.StatusTooEarly, api.CodeTooEarly, "VM %s is not visible yet: try again", vmID)
	}
	if err != nil {
		return api.ClaimReply{}, fmt.Errorf("describe %s: %w", vmID, err)
	}
	if vm.Job == "" {
		return api.ClaimReply{}, api.Errorf(http.StatusForbidden, api.CodeUnknownVM, "VM %s carries no job's tag", vmID)
	}
	if vm.State == cloud.Terminated {
		return api.ClaimReply{}, api.Errorf(http.StatusForbidden, api.CodeSuperseded, "VM %s is terminated", vmID)
	}
	j, err := c.change(ctx, vm.Job, always(job.Claimed{VM: facts(vm, cl.Name()), SecretHash: r.SecretHash}))
	if errors.Is(err, store.ErrNotFound) {
		return api.ClaimReply{}, api.Errorf(http.StatusTooEarly, api.CodeTooEarly, "job %s has no record: doctor reports its VM", vm.Job)
	}
	if err != nil {
		return api.ClaimReply{}, agentProblem(err)
	}
	a := j.AttemptOf(vmID)
	if a == nil || a.SecretHash != r.SecretHash {
		return api.ClaimReply{}, api.Errorf(http.StatusForbidden, api.CodeSuperseded, "attempt %d of job %s is another VM's", vm.Attempt, j.ID)
	}
	return api.ClaimReply{
		JobID: j.ID, Stack: j.Stack, Attempt: a.Number, VMID: vmID, Spec: j.Spec, GPUs: a.Placement.GPUs, Orders: c.orders(j, a),
	}, nil
}

// agentProblem words a refusal so that the agent knows what to do.
func agentProblem(err error) error {
	var r *job.Refused
	if !errors.As(err, &r) {
		return err
	}
	if r.Code == job.RefusedEnded {
		return api.Errorf(http.StatusGone, api.CodeEnded, "%s", r.Why)
	}
	return api.Errorf(http.StatusForbidden, api.CodeSuperseded, "%s", r.Why)
}

// attempt finds the caller's attempt by its secret.
func (c *ControlPlane) attempt(j *job.Job, number int, secret string) (*job.Attempt, error) {
	a := j.AttemptNo(number)
	if a == nil || a.SecretHash == "" {
		return nil, api.Errorf(http.StatusForbidden, api.CodeSuperseded, "attempt %d of job %s has not claimed", number, j.ID)
	}
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(a.SecretHash)) != 1 {
		return nil, api.Errorf(http.StatusUnauthorized, api.CodeUnauthorized, "the secret is not that of attempt %d", number)
	}
	return a, nil
}

// Report takes an agent's facts as one write, and answers with orders. Facts
// may come twice, late, and after the job went on: Next makes no-ops of them.
func (c *ControlPlane) Report(ctx context.Context, id string, number int, secret string, r api.Report) (api.Orders, error) {
	r = tidied(r)
	j, err := c.change(ctx, id, func(j *job.Job) ([]job.Event, error) {
		if _, err := c.attempt(j, number, secret); err != nil {
			return nil, err
		}
		return reportEvents(j, number, r), nil
	})
	var refused *job.Refused
	switch {
	case errors.Is(err, store.ErrNotFound):
		return api.Orders{}, api.Errorf(http.StatusGone, api.CodeEnded, "job %s has no record", id)
	case errors.As(err, &refused):
		// Part of it came too late; the orders say what to do now.
		c.Logger.Debug("report refused in part", "job", id, "attempt", number, "why", refused.Why)
	case err != nil:
		return api.Orders{}, err
	}
	if j == nil {
		if j, err = c.Store.Get(ctx, id); err != nil {
			return api.Orders{}, err
		}
	}
	a := j.AttemptNo(number)
	if n := r.Notice; n != nil && n.Kind != preempt.Rebalance && !n.Drill && a.Placement.Spot && a.Notice != nil && a.Notice.At.Equal(n.At) && c.Now().Sub(j.UpdatedAt) < c.ReportEvery {
		c.markPools(ctx, []job.Placement{a.Placement})
	}
	return c.orders(j, a), nil
}

// maxText bounds what an agent's words take of a row, in bytes.
const maxText = 2000

// tidied is a report as the record takes it: times in UTC, of which equal ones
// compare equal, and words of bounded length.
func tidied(r api.Report) api.Report {
	for _, t := range []*time.Time{&r.Phases.ImageReady, &r.Phases.Prefetched, &r.Phases.Restored, &r.StoppedAt} {
		*t = t.UTC()
	}
	if r.Started != nil {
		s := *r.Started
		s.At, s.CapturedAt = s.At.UTC(), s.CapturedAt.UTC()
		r.Started = &s
	}
	if r.Checkpoint != nil {
		k := *r.Checkpoint
		k.CommittedAt, k.Problem = k.CommittedAt.UTC(), clipped(k.Problem)
		r.Checkpoint = &k
	}
	if r.Notice != nil {
		n := *r.Notice
		n.At, n.Deadline = n.At.UTC(), n.Deadline.UTC()
		r.Notice = &n
	}
	if r.Exit != nil {
		x := *r.Exit
		x.StoppedAt = x.StoppedAt.UTC()
		r.Exit = &x
	}
	if r.Failure != nil {
		f := *r.Failure
		f.Message = clipped(f.Message)
		r.Failure = &f
	}
	return r
}

func clipped(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// reportEvents are a report's facts in the order in which they happened.
func reportEvents(j *job.Job, number int, r api.Report) []job.Event {
	var es []job.Event
	if r.Notice != nil {
		n := *r.Notice
		if a := j.AttemptNo(number); a != nil {
			n.VMID = a.VMID // an agent speaks of its own VM only
		}
		if n.Kind == preempt.Interruption || n.Kind == preempt.Rebalance {
			es = append(es, noticeEvents(n, j)...)
		}
	}
	es = append(es, job.Reported{
		Attempt: number, Phases: r.Phases, StoppedAt: r.StoppedAt, Checkpoint: r.Checkpoint, SaveDone: r.SaveDone, SaveDoneAs: r.SaveDoneAs,
	})
	if s := r.Started; s != nil {
		es = append(es, job.Started{Attempt: number, At: s.At, Restored: s.Restored, CapturedAt: s.CapturedAt})
	}
	if x := r.Exit; x != nil {
		es = append(es, job.Exited{By: number, Attempt: x.Attempt, Code: x.Code, OOM: x.OOM, StoppedAt: x.StoppedAt})
	}
	if r.Sealed {
		es = append(es, job.Sealed{Attempt: number})
	}
	if f := r.Failure; f != nil {
		es = append(es, job.AgentFailed{Attempt: number, Reason: f.Reason, Message: f.Message, Permanent: f.Permanent})
	}
	return es
}

// orders is what the record wants of an attempt.
func (c *ControlPlane) orders(j *job.Job, a *job.Attempt) api.Orders {
	o := api.Orders{
		Role: api.Standby, WriterNo: j.Writer, ReportEvery: job.Duration(c.ReportEvery), SaveRequest: j.SaveRequest,
		SaveNow: !a.Rebalance.IsZero(), FreshFrom: j.FreshFrom, Exited: a.Exited || a.Kept,
	}
	if j.Checkpoint != nil {
		o.NewestCommit = j.Checkpoint.Latest
	}
	for i := range j.Attempts {
		// The exit of an earlier run ended that run; the user wants another one.
		if x := &j.Attempts[i]; x.Exited || x.Number < j.RunFrom {
			o.ExitsKnown = append(o.ExitsKnown, x.Number)
		}
	}
	if n := a.Notice; n != nil && n.Kind == string(preempt.Interruption) {
		o.Notice = &preempt.Notice{VMID: a.VMID, Kind: preempt.Interruption, Deadline: n.Deadline, At: n.At, Source: "control plane", Drill: n.Drill}
	}
	switch {
	case a.Number == j.Writer:
		o.Role = api.Writer
	case a.Number < j.Writer || a.Doomed || a.Gone || a.Number < j.Attempt:
		o.Role = api.Stop
	}
	if a.Number != j.Writer {
		o.ReportEvery = job.Duration(c.HandoverPoll)
	}
	if j.Outcome != nil && o.Role == api.Writer && !a.Kept {
		o.Finish = &api.Finish{Why: a.EndReason, Now: j.CancelNow, Deadline: c.Now()}
		if d := j.DoomedVM(a.VMID); d != nil {
			o.Finish.Deadline = d.TerminateAfter
		}
	}
	if o.Role == api.Writer && a.ContainerStartedAt.IsZero() && (a.Doomed && a.Notice == nil || j.Outcome != nil) {
		o.Role = api.Stop // nothing runs, nothing will
	}
	return o
}

// Credentials open the job's bucket and its part of the log store, for the
// writer and for the newest attempt that may become it.
func (c *ControlPlane) Credentials(ctx context.Context, id string, number int, secret string) (api.Credentials, error) {
	j, err := c.Store.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return api.Credentials{}, api.Errorf(http.StatusGone, api.CodeEnded, "job %s has no record", id)
	}
	if err != nil {
		return api.Credentials{}, fmt.Errorf("read job %s: %w", id, err)
	}
	a, err := c.attempt(j, number, secret)
	if err != nil {
		return api.Credentials{}, err
	}
	if a.Number < j.Writer || a.Gone || j.State.Terminal() {
		return api.Credentials{}, api.Errorf(http.StatusForbidden, api.CodeSuperseded, "attempt %d is not the writer any more", number)
	}
	out := api.Credentials{LogPrefix: logPrefix(id, number)}
	if j.Bucket != nil {
		admin, err := c.bucketsOf(j.Bucket.Cloud)
		if err != nil {
			return api.Credentials{}, err
		}
		access, err := admin.Access(ctx, j.Bucket.Name)
		if err != nil {
			return api.Credentials{}, fmt.Errorf("credentials for the bucket of job %s: %w", id, err)
		}
		out.Checkpoint = &access
	}
	for _, sync := range []struct {
		url   string
		write bool
		to    **bucket.Access
	}{{j.Spec.Input, false, &out.Input}, {j.Spec.Output, true, &out.Output}} {
		if sync.url == "" {
			continue
		}
		access, err := c.SyncAccess(ctx, sync.url, sync.write)
		if err != nil {
			return api.Credentials{}, fmt.Errorf("credentials for %s of job %s: %w", sync.url, id, err)
		}
		*sync.to = &access
	}
	if c.LogAccess != nil {
		if out.Logs, err = c.LogAccess(ctx, out.LogPrefix); err != nil {
			return api.Credentials{}, fmt.Errorf("credentials for the logs of job %s: %w", id, err)
		}
	}
	return out, nil
}

func logPrefix(id string, attempt int) string { return fmt.Sprintf("logs/%s/%06d/", id, attempt) }

// zero times are absent in views.
func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
