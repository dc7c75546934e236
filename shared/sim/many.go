package sim

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Summary of many schedules.
type Summary struct {
	Schedules   int
	Broken      []Result // failing ones, by seed
	Hits        map[string]int
	MedianSteps int
	LeastJobs   int
	LeastLosses int
	Took        time.Duration
	Workers     int
	steps       int64
}

// RunMany plays n schedules from a seed on, on several workers. It stops early
// after some failures.
func RunMany(from uint64, n, workers int, o Options) Summary {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	s := Summary{Hits: map[string]int{}, LeastJobs: 1 << 30, LeastLosses: 1 << 30, Workers: workers}
	var next, failed atomic.Int64
	var mu sync.Mutex
	var steps []int
	var wg sync.WaitGroup
	began := time.Now()
	for range workers {
		wg.Go(func() {
			for failed.Load() < 10 {
				i := next.Add(1) - 1
				if i >= int64(n) {
					return
				}
				r := Run(from+uint64(i), o)
				mu.Lock()
				s.Schedules++
				s.steps += int64(r.Steps)
				steps = append(steps, r.Steps)
				for k, v := range r.Hits {
					s.Hits[k] += v
				}
				s.LeastJobs, s.LeastLosses = min(s.LeastJobs, r.Jobs), min(s.LeastLosses, r.Losses)
				if r.Broken != nil {
					failed.Add(1)
					s.Broken = append(s.Broken, r)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	s.Took = time.Since(began)
	slices.Sort(steps)
	if len(steps) > 0 {
		s.MedianSteps = steps[len(steps)/2]
	}
	slices.SortFunc(s.Broken, func(a, b Result) int { return int(int64(a.Seed) - int64(b.Seed)) })
	return s
}

// Missed names the faults and crash sites that no schedule met.
func (s Summary) Missed() []string {
	var missed []string
	for _, f := range allFaults {
		if s.Hits[f] == 0 {
			missed = append(missed, f)
		}
	}
	for _, c := range crashSites {
		for _, side := range []string{"crash before ", "crash after "} {
			if s.Hits[side+c] == 0 {
				missed = append(missed, side+c)
			}
		}
	}
	return missed
}

// Print writes the summary for people.
func (s Summary) Print(w io.Writer) {
	fmt.Fprintln(w, "fault                                        hits")
	for _, f := range allFaults {
		fmt.Fprintf(w, "  %-40s %8d\n", f, s.Hits[f])
	}
	fmt.Fprintln(w, "crash site                                 before    after")
	for _, c := range crashSites {
		fmt.Fprintf(w, "  %-38s %8d %8d\n", c, s.Hits["crash before "+c], s.Hits["crash after "+c])
	}
	seconds := s.Took.Seconds()
	fmt.Fprintf(w, "%d schedules, each of at least %d jobs and %d losses, median %d steps; %.0f schedules and %.0f steps a second on each of %d workers\n",
		s.Schedules, s.LeastJobs, s.LeastLosses, s.MedianSteps, float64(s.Schedules)/seconds/float64(s.Workers), float64(s.steps)/seconds/float64(s.Workers), s.Workers)
}
