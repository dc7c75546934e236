package localcloud

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"anycloud/shared/cloud"
	"anycloud/shared/job"
)

// Inventory is what a machine has.
type Inventory struct {
	Cores  int
	Memory int64          // bytes
	GPUs   map[string]int // by model, such as "a100"
}

// Detect looks at this machine: cores that this process may use, memory of
// /proc/meminfo, NVIDIA's devices.
func Detect() (Inventory, error) {
	inv := Inventory{Cores: runtime.NumCPU()}
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return inv, err
	}
	if inv.Memory, err = memTotal(b); err != nil {
		return inv, err
	}
	inv.GPUs = detectGPUs()
	return inv, nil
}

func memTotal(meminfo []byte) (int64, error) {
	for line := range bytes.Lines(meminfo) {
		if f := strings.Fields(string(line)); len(f) >= 2 && f[0] == "MemTotal:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no MemTotal in /proc/meminfo")
}

// detectGPUs asks NVIDIA's tool for the models, where it has devices at all.
func detectGPUs() map[string]int {
	devices, _ := filepath.Glob("/dev/nvidia[0-9]*")
	if len(devices) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nvidia-smi", "--query-gpu=name", "--format=csv,noheader").Output()
	if err != nil {
		return map[string]int{"gpu": len(devices)}
	}
	gpus := map[string]int{}
	for line := range strings.Lines(string(out)) {
		if m := gpuModel(line); m != "" {
			gpus[m]++
		}
	}
	return gpus
}

// gpuModel makes "a100" of "NVIDIA A100-SXM4-40GB" and "rtx4090" of "NVIDIA
// GeForce RTX 4090".
func gpuModel(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == ' ' || r == '-' || r == '\n' })
	words = slices.DeleteFunc(words, func(w string) bool { return w == "nvidia" || w == "tesla" || w == "geforce" || w == "quadro" })
	if len(words) > 1 && (words[0] == "rtx" || words[0] == "gtx") {
		return words[0] + words[1]
	}
	return strings.Join(words[:min(len(words), 1)], "")
}

// ParseGPUs reads pretended GPUs: "a100:8" or "a100:8,t4:1".
func ParseGPUs(s string) (map[string]int, error) {
	gpus := map[string]int{}
	for part := range strings.SplitSeq(s, ",") {
		if part == "" {
			continue
		}
		model, count, ok := strings.Cut(part, ":")
		n, err := strconv.Atoi(count)
		if !ok || err != nil || n < 1 || model == "" {
			return nil, fmt.Errorf("invalid GPUs %q: write for example a100:8", s)
		}
		gpus[strings.ToLower(model)] += n
	}
	return gpus, nil
}

// Inventory returns what the driver believes this machine has.
func (c *Cloud) Inventory() Inventory { return c.inventory }

// Offers implements cloud.Cloud. Where a GPU is asked for without a number, the
// offers carry all that there are. Prices are zero unless some are pretended: the
// machine is yours.
func (c *Cloud) Offers(ctx context.Context, n cloud.Needs) ([]job.Placement, error) {
	if err := c.begin(ctx); err != nil {
		return nil, err
	}
	m := n.Machine
	if err := c.fits(m); err != nil {
		return nil, err
	}
	gpus := m.GPUs
	if m.GPU != "" && gpus == 0 {
		gpus = c.inventory.GPUs[strings.ToLower(m.GPU)]
	}
	if len(n.Regions) > 0 && !slices.Contains(n.Regions, c.o.Region) {
		return nil, fmt.Errorf("the local cloud has only the region %s; asked %s: %w", c.o.Region, strings.Join(n.Regions, ", "), cloud.ErrInvalid)
	}
	price := c.o.Prices.OnDemand
	if n.Spot {
		price = c.o.Prices.Spot
	}
	var all []job.Placement
	for _, z := range c.o.Zones {
		if len(n.Zones) == 0 || slices.Contains(n.Zones, z) {
			all = append(all, job.Placement{Cloud: Name, Region: c.o.Region, Zone: z, Type: MachineType, Spot: n.Spot, GPUs: gpus, Price: price, List: c.o.Prices.OnDemand})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the local cloud has the zones %s; asked %s: %w", strings.Join(c.o.Zones, ", "), strings.Join(n.Zones, ", "), cloud.ErrInvalid)
	}
	return all, nil
}

// fits says, as ErrInvalid, why this machine could never hold such a VM.
func (c *Cloud) fits(m job.Machine) error {
	have := c.inventory
	why := ""
	switch {
	case m.VMType != "" && m.VMType != MachineType:
		why = fmt.Sprintf("the local cloud has the machine type %s only; asked %s", MachineType, m.VMType)
	case m.Arch != "" && m.Arch != runtime.GOARCH:
		why = fmt.Sprintf("this machine is %s; asked %s", runtime.GOARCH, m.Arch)
	case m.CPUs > float64(have.Cores):
		why = fmt.Sprintf("this machine has %d cores; asked %g", have.Cores, m.CPUs)
	case m.Memory > have.Memory:
		why = fmt.Sprintf("this machine has %s; asked %s", gib(have.Memory), gib(m.Memory))
	case m.GPU != "" && have.GPUs[strings.ToLower(m.GPU)] < max(m.GPUs, 1):
		why = fmt.Sprintf("this machine has %s; asked %s:%d", gpuText(have.GPUs), m.GPU, max(m.GPUs, 1))
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("%s: %w", why, cloud.ErrInvalid)
}

func gib(n int64) string {
	if n < 1<<30 {
		return humanize.IBytes(uint64(n))
	}
	return fmt.Sprintf("%.4g GiB", float64(n)/(1<<30))
}

func gpuText(gpus map[string]int) string {
	var all []string
	for m, n := range gpus {
		all = append(all, fmt.Sprintf("%s:%d", m, n))
	}
	slices.Sort(all)
	return cmp.Or(strings.Join(all, ", "), "no GPU")
}
