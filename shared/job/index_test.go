package job

import (
	"slices"
	"testing"
	"time"
)

func TestActive(t *testing.T) {
	for _, s := range States {
		if got := (&Job{State: s}).Active(); got == s.Terminal() {
			t.Errorf("%s: active %v", s, got)
		}
	}
	later := time.Unix(1e9, 0)
	for name, c := range map[string]struct {
		j    Job
		want bool
	}{
		"doomed":              {Job{Doomed: make([]Doomed, 1)}, true},
		"kept":                {Job{Kept: make([]Kept, 1)}, true},
		"outbox":              {Job{Outbox: make([]Message, 1)}, true},
		"bucket with an end":  {Job{KeepUntil: later, Bucket: &Bucket{State: BucketCreated}}, true},
		"bucket disposing":    {Job{Bucket: &Bucket{State: BucketDisposing}}, true},
		"bucket disposed":     {Job{KeepUntil: later, Bucket: &Bucket{State: BucketDisposed}}, false},
		"bucket kept forever": {Job{Bucket: &Bucket{State: BucketCreated}}, false},
		"no bucket":           {Job{KeepUntil: later}, false},
	} {
		c.j.State = Succeeded
		if got := c.j.Active(); got != c.want {
			t.Errorf("%s: active %v", name, got)
		}
	}
}

func TestVMIDs(t *testing.T) {
	j := Job{
		Attempts: []Attempt{{VMID: "gone", Gone: true}, {VMID: "old", Doomed: true}, {VMID: "new"}},
		Doomed:   []Doomed{{VMID: "old"}, {VMID: ""}, {VMID: "orphan"}},
		Kept:     []Kept{{VMID: "kept"}},
	}
	if got, want := j.VMIDs(), []string{"old", "new", "orphan", "kept"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
