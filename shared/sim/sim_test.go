package sim

import (
	"os"
	"testing"
)

func TestOne(t *testing.T) {
	for seed := range uint64(3000) {
		r := Run(seed, Options{})
		if r.Broken != nil {
			t.Errorf("seed %d: %v (steps %d, losses %d)", seed, r.Broken, r.Steps, r.Losses)
		}
	}
	_ = os.Stdout
}
