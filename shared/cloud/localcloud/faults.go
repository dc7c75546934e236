package localcloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"anycloud/shared/cloud"
	"anycloud/shared/job"
)

// Values of Faults.LostWarning.
const (
	LostToControl  = "control"    // listings and Watch lack it, the VM's metadata has it
	LostEverywhere = "everywhere" // nobody hears of it
)

// Faults on demand. The file faults.json in the root is read anew at each call
// and its fields win, so that tests and people can turn them while it runs.
type Faults struct {
	NoCapacity      []string      `json:"no_capacity,omitempty"`      // zones
	NoSpot          bool          `json:"no_spot,omitempty"`          // spot capacity, in any zone
	Quota           int           `json:"quota,omitempty"`            // most VMs that may live; 0: no limit
	ThrottleEvery   int           `json:"throttle_every,omitempty"`   // every n-th call of any kind is refused
	UnansweredEvery int           `json:"unanswered_every,omitempty"` // every n-th launch is carried out and not answered
	BootDelay       *job.Duration `json:"boot_delay,omitempty"`       // of VMs launched from now on
	LostWarning     string        `json:"lost_warning,omitempty"`     // of drills from now on
	DoubledWarning  bool          `json:"doubled_warning,omitempty"`  // Watch tells twice
	Impaired        []string      `json:"impaired,omitempty"`         // VM ids whose status checks fail
}

type faults struct {
	base Faults
	file string

	mu              sync.Mutex
	calls, launches int
}

// now returns the faults in force. A file that cannot be read is none: it is
// written by hand while we run.
func (f *faults) now() Faults {
	v := f.base
	b, err := os.ReadFile(f.file)
	if errors.Is(err, fs.ErrNotExist) {
		return v
	}
	if err != nil || json.Unmarshal(b, &v) != nil {
		return f.base
	}
	return v
}

func (f *faults) call() error {
	n := f.now().ThrottleEvery
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if n > 0 && f.calls%n == 0 {
		return fmt.Errorf("fault on demand: %w", cloud.ErrThrottled)
	}
	return nil
}

// unanswered says whether the launch just carried out loses its answer.
func (f *faults) unanswered(every int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.launches++
	return every > 0 && f.launches%every == 0
}
