package localcloud

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"anycloud/shared/cloud"
	"anycloud/shared/cloud/localcloud/vmdir"
	"anycloud/shared/job"
)

// defaultCPUs is what a VM counts that asked for no cores.
const defaultCPUs = 0.25

var lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// vmID follows from the token, so that repeating a launch finds its VM without
// any index, and two launches at once meet in one directory.
func vmID(stack, token string) string {
	h := sha256.Sum256([]byte(stack + "\x00" + token))
	return "i-local-" + lower.EncodeToString(h[:])[:12]
}

// Launch implements cloud.Cloud. The token is remembered for as long as the VM
// is shown. The directory, complete, comes first: a launch that was cut off
// after it is started by its repetition, and can be terminated without.
func (c *Cloud) Launch(ctx context.Context, r cloud.LaunchRequest) (cloud.VM, error) {
	if err := c.begin(ctx); err != nil {
		return cloud.VM{}, err
	}
	if r.Token == "" || len(r.Candidates) == 0 {
		return cloud.VM{}, fmt.Errorf("launch without token or candidates: %w", cloud.ErrInvalid)
	}
	for _, p := range r.Candidates {
		if p.Cloud != Name || p.Region != c.o.Region || !slices.Contains(c.o.Zones, p.Zone) || p.Type != MachineType {
			return cloud.VM{}, &cloud.Refusal{Class: cloud.ErrInvalid, Pools: []job.Placement{p}, Message: p.Pool() + " does not exist"}
		}
	}
	f := c.faults.now()
	id := vmID(c.o.Stack, r.Token)
	vm, err := c.intend(id, r, f)
	if err != nil {
		return cloud.VM{}, err
	}
	if vm.State == cloud.Terminated {
		return vm, nil
	}
	if err := c.start(ctx, id); err != nil {
		return cloud.VM{}, fmt.Errorf("launch vm %s: %w", id, err)
	}
	if c.faults.unanswered(f.UnansweredEvery) {
		return cloud.VM{}, errors.New("launch: the answer was lost (fault on demand)")
	}
	return c.look(id)
}

// intend finds the VM of the token or makes its directory.
func (c *Cloud) intend(id string, r cloud.LaunchRequest, f Faults) (cloud.VM, error) {
	c.launching.Lock()
	defer c.launching.Unlock()
	vm, err := c.look(id)
	if !errors.Is(err, cloud.ErrNotFound) {
		return vm, err
	}
	if _, err := os.Stat(c.o.AgentPath); err != nil {
		return cloud.VM{}, fmt.Errorf("no agent to put on a VM (build it with: make build): %w: %w", err, cloud.ErrDenied)
	}
	p, err := c.place(r, f)
	if err != nil {
		return cloud.VM{}, err
	}
	rec := vmdir.Record{
		Format: vmdir.Format, ID: id, Stack: c.o.Stack, Token: r.Token, Job: r.Job, Attempt: r.Attempt, Launch: r.Launch,
		Placement: p, CPUs: cores(r.Needs), Memory: r.Needs.Memory, GPU: strings.ToLower(r.Needs.GPU),
		LaunchedAt: c.o.Now().UTC(), BootDelay: job.Duration(c.o.BootDelay), EndpointFile: c.o.EndpointFile,
		PretendGPUs: c.o.PretendGPUs,
	}
	if f.BootDelay != nil {
		rec.BootDelay = *f.BootDelay
	}
	if err := c.makeDir(rec); err != nil {
		return cloud.VM{}, fmt.Errorf("launch vm %s: %w", id, err)
	}
	return c.look(id)
}

// makeDir makes the VM's directory, all of it or nothing. One that is there
// already is another launch's of the same token.
func (c *Cloud) makeDir(rec vmdir.Record) error {
	tmp, err := os.MkdirTemp(c.o.Root, ".new-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	d := vmdir.Dir(tmp)
	if err := errors.Join(os.Mkdir(d.Disk(), 0o700), vmdir.Write(d.Path("vm.json"), rec)); err != nil {
		return err
	}
	err = os.Rename(tmp, string(c.dir(rec.ID)))
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func cores(m job.Machine) float64 {
	if m.CPUs == 0 {
		return defaultCPUs
	}
	return m.CPUs
}

// place chooses the candidate, or refuses.
func (c *Cloud) place(r cloud.LaunchRequest, f Faults) (job.Placement, error) {
	none := job.Placement{}
	if err := c.fits(r.Needs); err != nil {
		return none, &cloud.Refusal{Class: cloud.ErrInvalid, Pools: slices.Clone(r.Candidates), Message: err.Error()}
	}
	live, err := c.live()
	if err != nil {
		return none, fmt.Errorf("count vms: %w", err)
	}
	if f.Quota > 0 && len(live) >= f.Quota {
		return none, &cloud.Refusal{Class: cloud.ErrQuota, Pools: slices.Clone(r.Candidates), Message: fmt.Sprintf("%d VMs live, no more are allowed", len(live))}
	}
	i := slices.IndexFunc(r.Candidates, func(p job.Placement) bool {
		return !slices.Contains(f.NoCapacity, p.Zone) && !(f.NoSpot && p.Spot)
	})
	full := func(message string) error {
		return &cloud.Refusal{Class: cloud.ErrCapacity, Pools: slices.Clone(r.Candidates), Message: message}
	}
	if i < 0 {
		return none, full("in none of the zones asked for")
	}
	cpus, memory, gpus := cores(r.Needs), r.Needs.Memory, r.Candidates[i].GPUs
	for _, v := range live {
		cpus += v.CPUs
		memory += v.Memory
		if v.GPU == strings.ToLower(r.Needs.GPU) {
			gpus += v.Placement.GPUs
		}
	}
	have, share := c.inventory, c.o.Share
	switch {
	case cpus > share*float64(have.Cores):
		return none, full(fmt.Sprintf("%g cores would be in use by %d VMs, this machine has %d and lends each %g times", cpus, len(live)+1, have.Cores, share))
	case float64(memory) > share*float64(have.Memory):
		return none, full(fmt.Sprintf("%s would be in use by %d VMs, this machine has %s and lends it %g times", gib(memory), len(live)+1, gib(have.Memory), share))
	case r.Needs.GPU != "" && float64(gpus) > share*float64(have.GPUs[strings.ToLower(r.Needs.GPU)]):
		return none, full(fmt.Sprintf("%d GPUs would be in use by %d VMs", gpus, len(live)+1))
	}
	return r.Candidates[i], nil
}

// live returns the records of this stack's VMs that are not terminated.
func (c *Cloud) live() ([]*vmdir.Record, error) {
	ids, err := c.ids(false)
	if err != nil {
		return nil, err
	}
	var all []*vmdir.Record
	for _, id := range ids {
		// A spoilt directory takes nobody's place.
		if rec, err := c.dir(id).Record(); err == nil && rec.Stack == c.o.Stack {
			if _, err := os.Stat(c.tombstone(id)); errors.Is(err, fs.ErrNotExist) {
				all = append(all, rec)
			}
		}
	}
	return all, nil
}

// trash takes a directory out of sight in one step, and then away.
func (c *Cloud) trash(d vmdir.Dir) error {
	t, err := os.MkdirTemp(c.o.Root, ".trash-*")
	if err != nil {
		return err
	}
	if err := os.Rename(string(d), filepath.Join(t, d.ID())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, os.Remove(t))
	}
	return os.RemoveAll(t)
}

// sweepTrash removes what a driver left that was killed.
func (c *Cloud) sweepTrash() {
	for _, pattern := range []string{".trash-*", ".new-*"} {
		old, _ := filepath.Glob(filepath.Join(c.o.Root, pattern))
		for _, dir := range old {
			if err := os.RemoveAll(dir); err != nil {
				c.o.Log.Warn("rest of a vm not removed", "path", dir, "error", err)
			}
		}
	}
}
