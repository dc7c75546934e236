package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"anycloud/shared/internal/similar"
)

var (
	// ErrUnknown: there is no GPU, or no machine type, of that name.
	ErrUnknown = errors.New("unknown")
	// ErrNoFit: no machine type of the cloud is large enough.
	ErrNoFit = errors.New("no machine type fits")
)

// All, as a count, is every GPU of the machine.
const All = 0

// ParseGPU reads NAME, NAME:COUNT or NAME:all. Without a count it is one.
// Capitals do not matter. The name need not be in the catalog: a machine of one's
// own may have others.
func ParseGPU(s string) (name string, count int, err error) {
	name, text, given := strings.Cut(strings.ToLower(strings.TrimSpace(s)), ":")
	switch {
	case name == "" || strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }):
		err = fmt.Errorf("%q is no GPU: write for example a100, a100:4 or a100:all", s)
	case !given:
		count = 1
	case text == "all":
		count = All
	default:
		count, err = strconv.Atoi(text)
		if err == nil && count > 64 {
			err = fmt.Errorf("%q asks for too many GPUs: at most 64, or all", s)
		} else if err != nil || count < 1 {
			err = fmt.Errorf("%q asks for no number of GPUs: write for example %s:4 or %s:all", s, name, name)
		}
	}
	return name, count, err
}

// Need is what a job wants of its machine; zero fields are wishes not made.
type Need struct {
	GPU       string
	GPUs      int // All: every one of the machine
	Type      string
	Arch      string
	VCPUs     float64
	MemoryGiB float64
}

// Resolve lists the machine types of a cloud that fit, the best first: the
// cheapest, those without a known price behind, and of equals the smaller one. A
// number of GPUs that no type has exactly is met by the next larger.
func Resolve(cloud string, n Need) ([]Machine, error) {
	all := Machines(cloud)
	if len(all) == 0 {
		return nil, fmt.Errorf("cloud %s is not in the catalog: %w", cloud, ErrUnknown)
	}
	if n.GPU != "" && !slices.Contains(GPUs(cloud), n.GPU) {
		return nil, unknownGPU(cloud, n.GPU)
	}
	if n.Type != "" && !slices.ContainsFunc(all, func(m Machine) bool { return m.Type == n.Type }) {
		return nil, fmt.Errorf("machine type %s of %s: %w%s", n.Type, cloud, ErrUnknown, hint(similar.Nearest(n.Type, typesOf(all))))
	}
	var fit []Machine
	for _, m := range all {
		if m.GPU == n.GPU && m.GPUs >= n.GPUs && (n.Type == "" || m.Type == n.Type) && (n.Arch == "" || m.Arch == n.Arch) &&
			m.VCPUs >= n.VCPUs && m.MemoryGiB >= n.MemoryGiB || n.GPU == "" && n.Type != "" && m.Type == n.Type {
			fit = append(fit, m)
		}
	}
	if len(fit) == 0 {
		return nil, fmt.Errorf("%s has no machine type with %s: %w", cloud, n, ErrNoFit)
	}
	slices.SortStableFunc(fit, func(a, b Machine) int {
		return cmp.Or(
			cmp.Compare(smallest(n, a), smallest(n, b)), cmp.Compare(unpriced(a), unpriced(b)), cmp.Compare(a.USDPerHour, b.USDPerHour), cmp.Compare(a.GPUs, b.GPUs), cmp.Compare(a.VCPUs, b.VCPUs),
			cmp.Compare(a.Type, b.Type))
	})
	return fit, nil
}

// smallest puts the machine with the fewest GPUs first where all of them are
// taken.
func smallest(n Need, m Machine) int {
	if n.GPU != "" && n.GPUs == All {
		return m.GPUs
	}
	return 0
}

func unpriced(m Machine) int {
	if m.USDPerHour == 0 {
		return 1
	}
	return 0
}

func typesOf(ms []Machine) []string {
	out := make([]string, len(ms))
	for i, m := range ms {
		out[i] = m.Type
	}
	return out
}

// String says what is wanted.
func (n Need) String() string {
	var parts []string
	add := func(ok bool, format string, args ...any) {
		if ok {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(n.GPU != "" && n.GPUs != All, "%d× %s", n.GPUs, n.GPU)
	add(n.GPU != "" && n.GPUs == All, "%s", n.GPU)
	add(n.VCPUs > 0, "%g vCPUs", n.VCPUs)
	add(n.MemoryGiB > 0, "%g GiB of memory", n.MemoryGiB)
	add(n.Arch != "", "%s", n.Arch)
	if len(parts) == 0 {
		return "anything"
	}
	return strings.Join(parts, ", ")
}

func unknownGPU(cloud, name string) error {
	if other := NearestGPU(name); other != "" && other != name {
		return fmt.Errorf("GPU %s: %w: did you mean %s?", name, ErrUnknown, other)
	}
	return fmt.Errorf("%s has no GPU %s, it has %s: %w", cloud, name, strings.Join(GPUs(cloud), ", "), ErrUnknown)
}

// NearestGPU is the name in the catalog that a mistyped one most likely means:
// itself if it is one, "" if none is near.
func NearestGPU(name string) string { return similar.Nearest(name, GPUs("")) }

func hint(name string) string {
	if name == "" {
		return ""
	}
	return ": did you mean " + name + "?"
}
