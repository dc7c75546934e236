// Command sim plays seeded schedules of faults against the control plane and
// reports the invariants that broke. A failing seed replays with -seed.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"anycloud/shared/sim"
)

func main() {
	n := flag.Int("n", 1000, "schedules")
	from := flag.Uint64("from", 0, "first seed")
	seed := flag.Int64("seed", -1, "replay this one seed")
	verbose := flag.Bool("v", false, "with -seed: print the control plane's log")
	workers := flag.Int("workers", 0, "schedules at once (0: one a core)")
	variant := flag.String("variant", "", "a deliberately broken variant")
	flag.Parse()
	debug.SetGCPercent(400) // short-lived garbage, plenty of memory
	o := sim.Options{Variant: sim.Variant(*variant)}
	if *seed >= 0 {
		if *verbose {
			o.Log = os.Stdout
		}
		r := sim.Run(uint64(*seed), o)
		fmt.Printf("seed %d: %d jobs, %d losses, %d steps, %s simulated\n", r.Seed, r.Jobs, r.Losses, r.Steps, r.Simulated)
		if r.Broken != nil {
			fmt.Println("BROKEN", r.Broken)
			os.Exit(1)
		}
		return
	}
	s := sim.RunMany(*from, *n, *workers, o)
	s.Print(os.Stdout)
	fmt.Printf("seeds %d to %d\n", *from, *from+uint64(s.Schedules)-1)
	for _, r := range s.Broken {
		fmt.Printf("BROKEN seed %d: %v\n  replay: go run ./shared/sim/cmd/sim -seed %d -v\n", r.Seed, r.Broken, r.Seed)
	}
	missed := s.Missed()
	if len(missed) > 0 && *n >= 1000 {
		fmt.Printf("never met: %q\n", missed)
	}
	if len(s.Broken) > 0 || len(missed) > 0 && *n >= 1000 {
		os.Exit(1)
	}
}
