package job

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that reads and writes as text ("60s", "7d").
type Duration time.Duration

// D returns the time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

func (d Duration) String() string {
	if d == Never {
		return "never"
	}
	return time.Duration(d).String()
}

// MarshalJSON writes the text form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads the text form ("never" too), or a number of seconds.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case float64:
		*d = Duration(v * float64(time.Second))
		return nil
	case string:
		if v == Never.String() {
			*d = Never
			return nil
		}
		p, err := ParseDuration(v)
		*d = Duration(p)
		return err
	}
	return fmt.Errorf("duration must be text such as \"60s\"")
}

// ParseDuration reads what time.ParseDuration does, and days ("7d", "1d12h").
func ParseDuration(s string) (time.Duration, error) {
	if days, rest, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("invalid duration %q: write for example 60s, 20m, 12h or 7d", s)
		}
		d := time.Duration(n * 24 * float64(time.Hour))
		if rest == "" {
			return d, nil
		}
		r, err := time.ParseDuration(rest)
		return d + r, err
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("invalid duration %q: write for example 60s, 20m, 12h or 7d", s)
	}
	return d, nil
}

// Never, as UnresponsiveAfter, leaves a silent VM alone for ever.
const Never = Duration(-1)

// Spec is what the user asked for: the fields of --file, names with
// underscores. The control plane fills defaults in at submit.
type Spec struct {
	Image   string            `json:"image"`
	Command []string          `json:"command,omitempty"`
	Name    string            `json:"name,omitempty"`
	Spot    bool              `json:"spot,omitempty"`
	Env     map[string]string `json:"env,omitempty"` // values are never echoed
	Workdir string            `json:"workdir,omitempty"`
	ShmSize Size              `json:"shm_size,omitempty"`

	GPU    string   `json:"gpu,omitempty"` // "a100:4"; "all" is resolved at submit
	VMType string   `json:"vm_type,omitempty"`
	CPUs   float64  `json:"cpus,omitempty"`
	Memory Size     `json:"memory,omitempty"`
	Disk   Size     `json:"disk,omitempty"`
	Arch   string   `json:"arch,omitempty"`
	Clouds []string `json:"cloud,omitempty"`
	Region []string `json:"region,omitempty"`
	Zone   []string `json:"zone,omitempty"`

	CheckpointInterval Duration  `json:"checkpoint_interval,omitempty"`
	Grace              *Duration `json:"grace,omitempty"`     // nil: DefaultGrace; 0: SIGKILL at once
	MaxPause           *Duration `json:"max_pause,omitempty"` // nil: default; 0: never freeze
	AcceptMixed        bool      `json:"accept_mixed,omitempty"`
	PersistBucket      bool      `json:"persist_bucket,omitempty"`
	KeepCheckpoint     *Duration `json:"keep_checkpoint,omitempty"` // nil: DefaultKeep; 0: not at all
	Persist            bool      `json:"persist,omitempty"`
	UnresponsiveAfter  Duration  `json:"unresponsive_after,omitempty"` // Never allowed

	Retries        int       `json:"retries,omitempty"`
	RestartOnLoss  bool      `json:"restart_on_loss,omitempty"`
	MaxRuntime     Duration  `json:"max_runtime,omitempty"`
	MaxPreemptions *int      `json:"max_preemptions,omitempty"` // nil: any number
	Deadline       time.Time `json:"deadline,omitzero"`
	MaxCost        float64   `json:"max_cost,omitempty"` // USD

	Fallback string `json:"fallback,omitempty"` // "on-demand" or "on-demand=10m"; see ParseFallback

	Input           string `json:"input,omitempty"`  // bucket URL, copied to /mnt/input before the start
	Output          string `json:"output,omitempty"` // bucket URL, /mnt/output is mirrored to it
	OutputDelete    bool   `json:"output_delete,omitempty"`
	OutputWriteOnce bool   `json:"output_write_once,omitempty"`

	Secret       map[string]string `json:"secret,omitempty"` // variable: source, resolved on the VM
	RegistryAuth string            `json:"registry_auth,omitempty"`
}

// Defaults of what a spec may set to 0.
const (
	// DefaultGrace leaves most of the shortest notice (30 s) to the commit.
	DefaultGrace = 20 * time.Second
	// DefaultKeep is how long a failed or cancelled job can be resubmitted.
	DefaultKeep = 7 * 24 * time.Hour
)

// GraceTime is from SIGTERM to SIGKILL.
func (s Spec) GraceTime() time.Duration { return or(s.Grace, DefaultGrace) }

// KeepTime is how long a failed or cancelled job's bucket stays.
func (s Spec) KeepTime() time.Duration { return or(s.KeepCheckpoint, DefaultKeep) }

func or(d *Duration, unset time.Duration) time.Duration {
	if d == nil {
		return unset
	}
	return d.D()
}

// CountGPUs makes a number of "all": every GPU of the best offer's machine. It
// never changes afterwards, whatever machines come later.
func (s Spec) CountGPUs(offers []Placement) Spec {
	name, ok := strings.CutSuffix(s.GPU, ":all")
	if ok && len(offers) > 0 && offers[0].GPUs > 0 {
		s.GPU = name + ":" + strconv.Itoa(offers[0].GPUs)
	}
	return s
}

// FallbackAfter is how long spot capacity is waited for where --fallback gives
// no time of its own.
const FallbackAfter = 5 * time.Minute

// ParseFallback reads --fallback: after how long without spot capacity a VM is
// launched on-demand.
func ParseFallback(s string) (after time.Duration, err error) {
	to, text, given := strings.Cut(s, "=")
	if to != "on-demand" {
		return 0, fmt.Errorf("invalid fallback %q: write on-demand or, to wait for spot capacity first, on-demand=10m", s)
	}
	if !given {
		return FallbackAfter, nil
	}
	after, err = ParseDuration(text)
	if err == nil && after < 0 {
		err = fmt.Errorf("invalid fallback %q: the time cannot be negative", s)
	}
	return after, err
}

// Machine is the part of a Spec that chooses a machine.
type Machine struct {
	GPU    string  `json:"gpu,omitempty"`
	GPUs   int     `json:"gpus,omitempty"`
	VMType string  `json:"vm_type,omitempty"`
	CPUs   float64 `json:"cpus,omitempty"`
	Memory int64   `json:"memory,omitempty"`
	Disk   int64   `json:"disk,omitempty"`
	Arch   string  `json:"arch,omitempty"`
}

// Placement is where a VM may run or runs.
type Placement struct {
	Cloud  string  `json:"cloud"`
	Region string  `json:"region"`
	Zone   string  `json:"zone"`
	Type   string  `json:"type"`
	Spot   bool    `json:"spot"`
	GPUs   int     `json:"gpus,omitempty"`
	Price  float64 `json:"usd_per_hour,omitempty"`           // of this placement
	List   float64 `json:"on_demand_usd_per_hour,omitempty"` // the same machine on-demand
}

// Pool names what has or has not capacity: a machine type in a zone.
func (p Placement) Pool() string {
	kind := "on-demand"
	if p.Spot {
		kind = "spot"
	}
	return p.Cloud + "/" + p.Zone + "/" + p.Type + "/" + kind
}
