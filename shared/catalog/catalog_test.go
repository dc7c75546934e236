package catalog

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestDataMakesSense(t *testing.T) {
	seen := map[string]bool{}
	memory := map[string]float64{}
	for _, m := range Machines("") {
		key := m.Cloud + "/" + m.Type
		switch {
		case seen[key]:
			t.Errorf("%s is there twice", key)
		case !slices.Contains([]string{"aws", "gcp", "azure"}, m.Cloud), m.Type == "", m.Arch != "amd64" && m.Arch != "arm64":
			t.Errorf("%+v", m)
		case m.VCPUs <= 0 || m.MemoryGiB <= 0 || m.USDPerHour < 0:
			t.Errorf("%+v", m)
		case (m.GPU == "") != (m.GPUs == 0) || (m.GPU == "") != (m.GPUMemoryGiB == 0):
			t.Errorf("%s: GPU, number and memory belong together: %+v", key, m)
		case m.GPU != "" && memory[m.GPU] != 0 && memory[m.GPU] != m.GPUMemoryGiB:
			t.Errorf("%s: a %s has %g GiB here and %g elsewhere", key, m.GPU, m.GPUMemoryGiB, memory[m.GPU])
		}
		seen[key] = true
		memory[m.GPU] = m.GPUMemoryGiB
	}
	if len(seen) < 100 {
		t.Errorf("%d machine types", len(seen))
	}
	for _, name := range []string{"t4", "v100", "a100", "a100-80gb", "h100", "l4"} {
		if !slices.Contains(GPUs(""), name) {
			t.Errorf("no %s", name)
		}
	}
}

func TestResolve(t *testing.T) {
	for _, k := range []struct {
		cloud, want string
		need        Need
	}{
		{"aws", "p4d.24xlarge", Need{GPU: "a100", GPUs: All}},
		{"gcp", "a2-highgpu-1g", Need{GPU: "a100", GPUs: All}}, // the smallest that has one
		{"azure", "Standard_ND96asr_v4", Need{GPU: "a100", GPUs: 4}},
		{"gcp", "a2-highgpu-4g", Need{GPU: "a100", GPUs: 4}},
		{"aws", "p4d.24xlarge", Need{GPU: "a100", GPUs: 4}}, // none has exactly four
		{"gcp", "a2-megagpu-16g", Need{GPU: "a100", GPUs: 16}},
		{"aws", "p4de.24xlarge", Need{GPU: "a100-80gb", GPUs: 8}},
		{"gcp", "a2-ultragpu-8g", Need{GPU: "a100-80gb", GPUs: 8}},
		{"azure", "Standard_ND96amsr_A100_v4", Need{GPU: "a100-80gb", GPUs: 8}},
		{"aws", "p5.4xlarge", Need{GPU: "h100", GPUs: 1}},
		{"aws", "g4dn.xlarge", Need{GPU: "t4", GPUs: 1}},
		{"aws", "g4dn.2xlarge", Need{GPU: "t4", GPUs: 1, MemoryGiB: 20}},
		{"aws", "g5g.xlarge", Need{GPU: "t4g", GPUs: 1, Arch: "arm64"}},
		{"aws", "c7g.large", Need{VCPUs: 2, Arch: "arm64"}},
		{"aws", "m7i.xlarge", Need{VCPUs: 4, MemoryGiB: 16, Arch: "amd64"}},
		{"gcp", "n2-standard-4", Need{VCPUs: 3, MemoryGiB: 10, Arch: "amd64"}},
		{"azure", "Standard_E4s_v5", Need{MemoryGiB: 24, VCPUs: 4}},
		{"aws", "g6e.12xlarge", Need{Type: "g6e.12xlarge"}},
	} {
		got, err := Resolve(k.cloud, k.need)
		if err != nil || got[0].Type != k.want {
			t.Errorf("%s %s: %+v, %v; want %s", k.cloud, k.need, got, err, k.want)
		}
	}
	for _, k := range []struct {
		cloud, words string
		need         Need
		class        error
	}{
		{"aws", "did you mean a100", Need{GPU: "a1000"}, ErrUnknown},
		{"aws", "did you mean a100-80gb", Need{GPU: "a100-80"}, ErrUnknown},
		{"gcp", "it has", Need{GPU: "t4"}, ErrUnknown},
		{"aws", "no machine type with 9× t4", Need{GPU: "t4", GPUs: 9}, ErrNoFit},
		{"aws", "arm64", Need{GPU: "h100", GPUs: 1, Arch: "arm64"}, ErrNoFit},
		{"aws", "did you mean g5.xlarge", Need{Type: "g5.xlrge"}, ErrUnknown},
		{"moon", "not in the catalog", Need{}, ErrUnknown},
		{"aws", "99999 vCPUs", Need{VCPUs: 99999}, ErrNoFit},
	} {
		if got, err := Resolve(k.cloud, k.need); !errors.Is(err, k.class) || !strings.Contains(err.Error(), k.words) {
			t.Errorf("%s %s: %+v, %v; want %q", k.cloud, k.need, got, err, k.words)
		}
	}
}

func FuzzParseGPU(f *testing.F) {
	for _, s := range []string{"a100", "A100:4", "a100:all", "a100-80gb:8", " t4:1 ", "", ":", "a100:", "a100:0", "a100:-1", "a100:9999999999999999999", "a b", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, count, err := ParseGPU(s)
		if err != nil {
			return
		}
		if name == "" || count < 0 || count > 64 || name != strings.ToLower(name) || strings.ContainsAny(name, ": ,\n") {
			t.Errorf("%q is read as %q, %d", s, name, count)
		}
	})
}

func TestParseGPU(t *testing.T) {
	for s, want := range map[string]struct {
		name  string
		count int
	}{"a100": {"a100", 1}, "A100:4": {"a100", 4}, "a100:all": {"a100", All}, "a100-80gb:8": {"a100-80gb", 8}, "h100": {"h100", 1}} {
		if name, count, err := ParseGPU(s); err != nil || name != want.name || count != want.count {
			t.Errorf("%s: %s, %d, %v", s, name, count, err)
		}
	}
}
