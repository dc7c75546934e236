package fakecloud

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"anycloud/shared/cloud"
	"anycloud/shared/job"
)

// Type is a machine type. Prices are in USD per hour.
type Type struct {
	Name           string
	CPUs           float64
	Memory         int64
	GPU            string
	GPUs           int
	Arch           string
	Spot, OnDemand float64
}

// DefaultTypes are enough to choose among.
var DefaultTypes = []Type{
	{Name: "fake.small", CPUs: 2, Memory: 8 << 30, Arch: "amd64", Spot: 0.02, OnDemand: 0.08},
	{Name: "fake.large", CPUs: 16, Memory: 64 << 30, Arch: "amd64", Spot: 0.16, OnDemand: 0.64},
	{Name: "fake.arm", CPUs: 4, Memory: 16 << 30, Arch: "arm64", Spot: 0.03, OnDemand: 0.12},
	{Name: "fake.a100", CPUs: 12, Memory: 85 << 30, GPU: "a100", GPUs: 1, Arch: "amd64", Spot: 1.1, OnDemand: 3.7},
	{Name: "fake.a100x8", CPUs: 96, Memory: 680 << 30, GPU: "a100", GPUs: 8, Arch: "amd64", Spot: 9, OnDemand: 30},
}

func (t Type) fits(m job.Machine) bool {
	switch {
	case m.VMType != "":
		return m.VMType == t.Name
	case m.GPU == "" && t.GPUs > 0, m.GPU != "" && (m.GPU != t.GPU || m.GPUs > t.GPUs):
		return false
	}
	return m.CPUs <= t.CPUs && m.Memory <= t.Memory && (m.Arch == "" || m.Arch == t.Arch)
}

// Offers implements cloud.Cloud.
func (c *Cloud) Offers(ctx context.Context, n cloud.Needs) (all []job.Placement, err error) {
	err = c.do(ctx, OpOffers, "", func(time.Time) error {
		if len(n.Regions) > 0 && !slices.Contains(n.Regions, c.Region) {
			return fmt.Errorf("this cloud has only the region %s; asked %v: %w", c.Region, n.Regions, cloud.ErrInvalid)
		}
		for _, t := range c.Types {
			if !t.fits(n.Machine) {
				continue
			}
			for _, z := range c.Zones {
				if len(n.Zones) > 0 && !slices.Contains(n.Zones, z) {
					continue
				}
				p := job.Placement{Cloud: c.Name(), Region: c.Region, Zone: z, Type: t.Name, Spot: n.Spot, GPUs: t.GPUs, Price: t.OnDemand, List: t.OnDemand}
				if n.Spot {
					p.Price = t.Spot
				}
				all = append(all, p)
			}
		}
		if len(all) == 0 {
			return fmt.Errorf("no machine type in zones %v fits %+v: %w", c.Zones, n.Machine, cloud.ErrInvalid)
		}
		slices.SortStableFunc(all, func(a, b job.Placement) int { return cmp.Compare(a.Price, b.Price) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Launch implements cloud.Cloud.
func (c *Cloud) Launch(ctx context.Context, r cloud.LaunchRequest) (vm cloud.VM, err error) {
	err = c.do(ctx, OpLaunch, r.Token, func(now time.Time) error {
		v, err := c.launch(r, now)
		if err != nil {
			return err
		}
		v.Answered = true
		vm = v.as(now)
		return nil
	})
	if err != nil {
		return cloud.VM{}, err
	}
	return vm, nil
}

func (c *Cloud) launch(r cloud.LaunchRequest, now time.Time) (*VM, error) {
	if r.Token == "" || len(r.Candidates) == 0 {
		return nil, fmt.Errorf("launch without token or candidates: %w", cloud.ErrInvalid)
	}
	key := tokenKey{c.stack, r.Token}
	if v := c.tokens[key]; v != nil {
		if !slices.Equal(v.candidates, r.Candidates) {
			// No class: a VM of this token does exist.
			return nil, fmt.Errorf("token %s was used with other candidates", r.Token)
		}
		if now.Before(v.Created) {
			v.start(now, c)
		}
		return v, nil
	}
	chosen := -1
	for i, p := range r.Candidates {
		if p.Cloud != c.Name() || p.Region != c.Region || !slices.Contains(c.Zones, p.Zone) ||
			!slices.ContainsFunc(c.Types, func(t Type) bool { return t.Name == p.Type }) {
			return nil, &cloud.Refusal{Class: cloud.ErrInvalid, Pools: []job.Placement{p}, Message: p.Pool() + " does not exist"}
		}
		if chosen < 0 && (c.Knobs.Full == nil || !c.Knobs.Full(p)) {
			chosen = i
		}
	}
	if q := c.Knobs.Quota; q > 0 && c.countLive(now) >= q {
		return nil, &cloud.Refusal{Class: cloud.ErrQuota, Pools: slices.Clone(r.Candidates), Message: fmt.Sprintf("%d VMs live, no more are allowed", q)}
	}
	if chosen < 0 {
		return nil, &cloud.Refusal{Class: cloud.ErrCapacity, Pools: slices.Clone(r.Candidates), Message: "in none of the pools asked for"}
	}
	var f LaunchFault
	if c.Knobs.OnLaunch != nil {
		f = c.Knobs.OnLaunch(r)
	}
	if f.Refuse != nil {
		return nil, fmt.Errorf("launch: %w", f.Refuse)
	}
	v := &VM{
		ID: fmt.Sprintf("i-fake-%06d", len(c.vms)+1), Stack: c.stack, Token: r.Token,
		Job: r.Job, Attempt: r.Attempt, Launch: r.Launch, Placement: r.Candidates[chosen],
		candidates: slices.Clone(r.Candidates),
	}
	v.start(now.Add(f.Late), c)
	c.vms = append(c.vms, v)
	c.byID[v.ID] = v
	c.tokens[key] = v
	c.live = append(c.live, v)
	if f.Unanswered || f.Late > 0 {
		return nil, fmt.Errorf("launch: %w", errUnanswered)
	}
	return v, nil
}

func (v *VM) start(at time.Time, c *Cloud) {
	v.Created, v.running = at, at.Add(c.BootDelay)
	v.listedFrom, v.describedFrom = at.Add(c.Knobs.Hidden), at.Add(c.Knobs.NotFound)
}

func (c *account) countLive(now time.Time) int {
	c.live = slices.DeleteFunc(c.live, func(v *VM) bool { return v.ended(now) })
	return len(c.live)
}
