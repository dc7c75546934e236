package checkpoint

import (
	"context"
	"time"
)

// Estimate of a last save.
type Estimate struct {
	DirtyBytes     int64   // to be sent
	BytesPerSecond float64 // measured; 0: not yet
	Walk, Append   time.Duration
}

// estimateFor is how long an estimate holds: it costs a walk.
const estimateFor = 250 * time.Millisecond

// Estimate says what a save would cost now, from a look at the files and from
// the saves before. What a large file's change really sends is taken from those:
// twice the last save, if that is less than the file.
func (s *Saver) Estimate() Estimate {
	s.statsMu.Lock()
	if time.Since(s.looked) < estimateFor {
		defer s.statsMu.Unlock()
		return s.estimate
	}
	sent := s.sent
	s.statsMu.Unlock()
	var dirty int64
	for name, dir := range s.o.Roots {
		t, err := walk(context.Background(), dir)
		if err != nil {
			continue
		}
		s.cache.mu.Lock()
		known := byPath(s.cache.Trees[name])
		s.cache.mu.Unlock()
		for _, n := range t.nodes {
			if n.Type == typeFile {
				if old, ok := known[n.Path]; !ok || old.Stat != n.stat {
					dirty += n.Size
				}
			}
		}
	}
	s.statsMu.Lock()
	defer s.statsMu.Unlock()
	if sent > 0 {
		dirty = min(dirty, 2*sent+1<<20)
	}
	s.estimate = Estimate{DirtyBytes: dirty, BytesPerSecond: s.speed, Walk: s.walk, Append: s.appended}
	s.looked = time.Now()
	return s.estimate
}

func (s *Saver) note(f func()) {
	s.statsMu.Lock()
	defer s.statsMu.Unlock()
	f()
}

func byPath(cs []cached) map[string]cached {
	m := make(map[string]cached, len(cs))
	for _, c := range cs {
		m[c.Entry.Path] = c
	}
	return m
}
