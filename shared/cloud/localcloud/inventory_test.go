//go:build linux

package localcloud

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"anycloud/shared/cloud"
	"anycloud/shared/job"
)

func TestDetect(t *testing.T) {
	inv, err := Detect()
	if err != nil || inv.Cores < 1 || inv.Memory < 1<<28 {
		t.Errorf("this machine has %+v, %v", inv, err)
	}
	if got, err := memTotal([]byte("MemFree: 1 kB\nMemTotal:       24641536 kB\n")); got != 24641536<<10 || err != nil {
		t.Errorf("memory %d, %v", got, err)
	}
	for name, want := range map[string]string{
		"NVIDIA A100-SXM4-40GB\n": "a100", "Tesla T4": "t4", "NVIDIA GeForce RTX 4090": "rtx4090", "NVIDIA H100 80GB HBM3": "h100", "": "",
	} {
		if got := gpuModel(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
	if got, err := ParseGPUs("A100:8,t4:1"); err != nil || fmt.Sprint(got) != "map[a100:8 t4:1]" {
		t.Errorf("gpus %v, %v", got, err)
	}
	for _, bad := range []string{"a100", "a100:", "a100:0", ":3", "a100:x"} {
		if got, err := ParseGPUs(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

func TestOffers(t *testing.T) {
	c := open(t, Options{Inventory: &Inventory{Cores: 2, Memory: 47 << 29, GPUs: map[string]int{"a100": 8}}})
	for _, tt := range []struct {
		m    job.Machine
		want string // of the error; "": the number of GPUs offered
		gpus int
	}{
		{m: job.Machine{}, gpus: 0},
		{m: job.Machine{CPUs: 2, Memory: 47 << 29, VMType: "local", Arch: runtime.GOARCH}},
		{m: job.Machine{GPU: "a100", GPUs: 4}, gpus: 4},
		{m: job.Machine{GPU: "A100"}, gpus: 8},
		{m: job.Machine{GPU: "a100", GPUs: 9}, want: "this machine has a100:8; asked a100:9"},
		{m: job.Machine{GPU: "h100"}, want: "this machine has a100:8; asked h100:1"},
		{m: job.Machine{Memory: 64 << 30}, want: "this machine has 23.5 GiB; asked 64 GiB"},
		{m: job.Machine{CPUs: 2.5}, want: "this machine has 2 cores; asked 2.5"},
		{m: job.Machine{Arch: "s390x"}, want: "this machine is " + runtime.GOARCH + "; asked s390x"},
		{m: job.Machine{VMType: "p4d.24xlarge"}, want: "machine type local only; asked p4d.24xlarge"},
	} {
		ps, err := c.Offers(t.Context(), cloud.Needs{Machine: tt.m, Spot: true})
		if tt.want != "" {
			if !errors.Is(err, cloud.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v: %v; want %q", tt.m, err, tt.want)
			}
			continue
		}
		if err != nil || len(ps) != 3 || ps[0].GPUs != tt.gpus || ps[0].Price != 0 || ps[0].Zone != "local-a" {
			t.Errorf("%+v: %+v, %v", tt.m, ps, err)
		}
	}
}

// TestShare: a standby fits beside a dying VM, a crowd does not.
func TestShare(t *testing.T) {
	c := open(t, Options{Inventory: &Inventory{Cores: 1, Memory: 1 << 30}, Share: 2})
	r := c.request(t, "a")
	c.launch(t, "a")
	c.launch(t, "b")
	r.Token = "c"
	_, err := c.Launch(t.Context(), r)
	var refusal *cloud.Refusal
	if !errors.As(err, &refusal) || !errors.Is(err, cloud.ErrCapacity) || len(refusal.Pools) != 3 || !strings.Contains(err.Error(), "3 cores would be in use by 3 VMs") {
		t.Errorf("a third: %v", err)
	}
}

func TestSlowBoot(t *testing.T) {
	slow := job.Duration(150 * time.Millisecond)
	c := open(t, Options{Faults: Faults{BootDelay: &slow}})
	vm := c.launch(t, "a")
	if vm.State != cloud.Pending && time.Since(vm.LaunchedAt) < slow.D() {
		t.Errorf("launched %+v", vm)
	}
	c.await(t, vm.ID, cloud.Running)
	if booted := time.Since(vm.LaunchedAt); booted < slow.D() {
		t.Errorf("booted after %v", booted)
	}
	c.diskFile(t, vm.ID, "env")
}

func TestVMEnv(t *testing.T) {
	got := VMEnv([]string{"PATH=/bin", "ANYCLOUD_TOKEN=x", "AWS_SECRET_ACCESS_KEY=x", "DOCKER_HOST=unix:///x", "LC_ALL=C", "PATHOLOGY=x", "ODD"})
	if want := "[PATH=/bin AWS_SECRET_ACCESS_KEY=x DOCKER_HOST=unix:///x LC_ALL=C PATHOLOGY=x ODD]"; fmt.Sprint(got) != want {
		t.Errorf("got %v", got)
	}
}
