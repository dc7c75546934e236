package sim

import "time"

// restored is what a take-over found.
type restored struct {
	number     int
	attempt    int
	progress   time.Duration
	capturedAt time.Time
	exit       *int
}
