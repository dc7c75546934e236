package sim

import (
	"reflect"
	"testing"
)

// TestSchedules plays a first few; make sim plays many more.
func TestSchedules(t *testing.T) {
	s := RunMany(0, 400, 0, Options{})
	for _, r := range s.Broken {
		t.Errorf("seed %d: %v (replay: go run ./shared/sim/cmd/sim -seed %d -v)", r.Seed, r.Broken, r.Seed)
	}
	if s.MedianSteps < 200 || s.LeastJobs < leastJobs || s.LeastLosses < leastLosses {
		t.Errorf("schedules are too tame: median %d steps, at least %d jobs and %d losses", s.MedianSteps, s.LeastJobs, s.LeastLosses)
	}
}

// TestReplay: equal seeds give equal schedules, or a failing one could not be
// looked into.
func TestReplay(t *testing.T) {
	for seed := range uint64(20) {
		a, b := Run(seed, Options{}), Run(seed, Options{})
		if !reflect.DeepEqual(a, b) {
			t.Errorf("seed %d: %d steps and then %d", seed, a.Steps, b.Steps)
		}
	}
}
