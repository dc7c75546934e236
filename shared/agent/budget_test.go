package agent

import (
	"testing"
	"time"

	"anycloud/shared/checkpoint"
)

func TestStopTime(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		left   time.Duration
		e      checkpoint.Estimate
		grace  time.Duration
		stopIn time.Duration // from now; the stop is due if it is not positive
		graceN time.Duration // grace left if it stopped now
	}{
		{"nothing to save", 2 * time.Minute, checkpoint.Estimate{}, 20 * time.Second, 2*time.Minute - 30750*time.Millisecond, 20 * time.Second},
		{"a gigabyte at 100 MB/s", 2 * time.Minute, checkpoint.Estimate{DirtyBytes: 1e9, BytesPerSecond: 100e6}, 20 * time.Second, 75 * time.Second, 20 * time.Second},
		{"walk and append count", 2 * time.Minute, checkpoint.Estimate{Walk: 6 * time.Second, Append: 4 * time.Second}, 0, 105 * time.Second, 0},
		{"unmeasured speed is slow", time.Minute, checkpoint.Estimate{DirtyBytes: 200e6}, 0, 45 * time.Second, 0},
		{"too short for the grace", 10 * time.Second, checkpoint.Estimate{}, 20 * time.Second, -20750 * time.Millisecond, 9250 * time.Millisecond},
		{"too short for the save", 10 * time.Second, checkpoint.Estimate{DirtyBytes: 1e9, BytesPerSecond: 50e6}, 20 * time.Second, -50 * time.Second, 0},
		{"past", -time.Minute, checkpoint.Estimate{}, 20 * time.Second, -90750 * time.Millisecond, 0},
		{"a speed of nothing does not overflow", time.Hour, checkpoint.Estimate{DirtyBytes: 1 << 60, BytesPerSecond: 1}, 0, time.Hour - 1500000*time.Second, 0},
	} {
		deadline := now.Add(c.left)
		if got := stopTime(deadline, c.e, c.grace).Sub(now); got != c.stopIn {
			t.Errorf("%s: stop in %s, want %s", c.name, got, c.stopIn)
		}
		if got := graceLeft(now, deadline, c.e, c.grace); got != c.graceN {
			t.Errorf("%s: grace %s, want %s", c.name, got, c.graceN)
		}
	}
	if got := stopTime(time.Time{}, checkpoint.Estimate{}, time.Hour); got.After(now) {
		t.Errorf("without a deadline: stop at %s, want at once", got)
	}
	if got := graceLeft(now, time.Time{}, checkpoint.Estimate{DirtyBytes: 1e12}, time.Minute); got != time.Minute {
		t.Errorf("without a deadline: grace %s", got)
	}
}

func TestPercentiles(t *testing.T) {
	for _, c := range []struct {
		in             []float64
		p50, p99, most float64
	}{
		{nil, 0, 0, 0},
		{[]float64{3}, 3, 3, 3},
		{[]float64{4, 1, 3, 2}, 3, 4, 4},
	} {
		if p50, p99, most := percentiles(c.in); p50 != c.p50 || p99 != c.p99 || most != c.most {
			t.Errorf("percentiles(%v) = %v, %v, %v", c.in, p50, p99, most)
		}
	}
}
