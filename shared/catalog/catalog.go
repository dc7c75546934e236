// Package catalog knows the clouds' machine types: cores, memory, GPUs, and a
// dated list price. It is embedded data (machines.csv, which names its sources);
// the command in refresh brings the prices up to date. What a cloud has to offer
// at a moment, only its driver can tell.
package catalog

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed machines.csv
var data string

// AsOf is when the newest of the prices was looked up.
const AsOf = "2026-11-23"

// Machine is a machine type of one cloud.
type Machine struct {
	Cloud        string  `json:"cloud"`
	Type         string  `json:"type"`
	Arch         string  `json:"arch"`
	VCPUs        float64 `json:"vcpus"`
	MemoryGiB    float64 `json:"memory_gib"`
	GPU          string  `json:"gpu,omitempty"`
	GPUs         int     `json:"gpus,omitempty"`
	GPUMemoryGiB float64 `json:"gpu_memory_gib,omitempty"` // of each
	USDPerHour   float64 `json:"usd_per_hour,omitempty"`   // on-demand, Linux; 0: not known
}

// load parses the data once. It is tested, so it does not fail.
var load = sync.OnceValue(func() []Machine {
	machines, err := parse(data)
	if err != nil {
		panic(err)
	}
	return machines
})

// columns of machines.csv.
var columns = []string{"cloud", "type", "arch", "vcpus", "memory_gib", "gpu", "gpus", "gpu_memory_gib", "usd_per_hour"}

func parse(text string) ([]Machine, error) {
	in := csv.NewReader(strings.NewReader(text))
	in.Comment = '#'
	rows, err := in.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	if len(rows) == 0 || !slices.Equal(rows[0], columns) {
		return nil, fmt.Errorf("read the catalog: its columns must be %v", columns)
	}
	var machines []Machine
	for _, r := range rows[1:] {
		number := func(i int) float64 {
			if r[i] == "" || err != nil {
				return 0
			}
			var v float64
			if v, err = strconv.ParseFloat(r[i], 64); err != nil {
				err = fmt.Errorf("read the catalog: %s of %s: %w", columns[i], r[1], err)
			}
			return v
		}
		machines = append(machines, Machine{
			Cloud: r[0], Type: r[1], Arch: r[2], VCPUs: number(3), MemoryGiB: number(4), GPU: r[5], GPUs: int(number(6)), GPUMemoryGiB: number(7), USDPerHour: number(8),
		})
	}
	return machines, err
}

// Machines lists all types of a cloud ("": of all clouds).
func Machines(cloud string) []Machine {
	var out []Machine
	for _, m := range load() {
		if cloud == "" || m.Cloud == cloud {
			out = append(out, m)
		}
	}
	return out
}

// Clouds lists the clouds of the catalog.
func Clouds() []string {
	var names []string
	for _, m := range load() {
		names = append(names, m.Cloud)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// GPUs lists the names of the GPUs of a cloud ("": of all clouds), sorted.
func GPUs(cloud string) []string {
	var names []string
	for _, m := range Machines(cloud) {
		if m.GPU != "" {
			names = append(names, m.GPU)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
