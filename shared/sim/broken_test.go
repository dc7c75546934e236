package sim

import "testing"

// schedulesToCatch bounds how many schedules a broken variant may survive.
const schedulesToCatch = 400

// TestBrokenVariantsAreCaught shows that the simulation can fail.
func TestBrokenVariantsAreCaught(t *testing.T) {
	for _, v := range Variants {
		t.Run(string(v), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(schedulesToCatch) {
				if r := Run(seed, Options{Variant: v}); r.Broken != nil {
					t.Logf("caught by seed %d: %v", seed, r.Broken)
					return
				}
			}
			t.Errorf("not caught within %d schedules", schedulesToCatch)
		})
	}
}
