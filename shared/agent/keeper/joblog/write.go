package joblog

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"anycloud/shared/agent/runtime"
)

// Writer appends to a log. There is one per log, in the keeper.
type Writer struct {
	dir string

	mu    sync.Mutex
	f     *os.File
	start int64 // of the segment
	size  int64 // of its whole records
	limit int64
	lost  int // lines that the disk refused
	err   error
	last  map[string]Mark
	first time.Time // of what Open has read
	whole bool      // that was everything there ever was
}

// Mark names the last record of a stream: its time, and how many records of the
// stream carry that same time.
type Mark struct {
	Time  time.Time
	Count int
}

// Open goes on with the log at dir, or begins it.
func Open(dir string) (*Writer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	segs, err := segments(dir)
	if err != nil {
		return nil, err
	}
	w := &Writer{dir: dir, limit: segmentBytes, last: map[string]Mark{}}
	if len(segs) > 2 { // enough to know where every stream ends
		segs = segs[len(segs)-2:]
	}
	w.whole = len(segs) == 0 || segs[0].start == 0
	for _, s := range segs {
		b, err := os.ReadFile(s.path)
		if err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		}
		w.start, w.size = s.start, 0
		for {
			l, size := parseRecord(b[w.size:])
			if size == 0 {
				break
			}
			w.size += int64(size)
			if l != nil {
				w.note(*l)
			}
		}
	}
	f, err := os.OpenFile(w.path(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	w.f = f
	// A record cut short by a crash is not a record.
	if err := f.Truncate(w.size); err != nil {
		f.Close()
		return nil, fmt.Errorf("open log: %w", err)
	}
	return w, nil
}

func (w *Writer) path() string {
	return filepath.Join(w.dir, fmt.Sprintf("%0*d", nameDigits, w.start))
}

func (w *Writer) note(l runtime.Line) {
	if w.first.IsZero() {
		w.first = l.Time
	}
	m := w.last[l.Stream]
	if !m.Time.Equal(l.Time) {
		m = Mark{Time: l.Time}
	}
	m.Count++
	w.last[l.Stream] = m
}

// Last says where a stream ends. One with nothing in what is left of the log
// ends before that.
func (w *Writer) Last(stream string) Mark {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m, ok := w.last[stream]; ok {
		return m
	}
	if w.whole {
		return Mark{}
	}
	return Mark{Time: w.first}
}

// Append writes lines with one call to the system. It never fails: a container
// must not stand still because of its log. What the disk refuses is counted,
// and the count is printed once there is room.
func (w *Writer) Append(lines ...runtime.Line) {
	if len(lines) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var b []byte
	if w.lost > 0 {
		b = appendRecord(b, runtime.Line{Time: lines[0].Time, Stream: runtime.Stderr,
			Text: fmt.Appendf(nil, "anycloud: %d lines lost here: %v", w.lost, w.err)})
	}
	for _, l := range lines {
		b = appendRecord(b, l)
		w.note(l)
	}
	kept, err := w.write(b)
	refused := bytes.Count(b[kept:], []byte{'\n'})
	if kept > 0 {
		w.lost = 0
	} else if w.lost > 0 {
		refused-- // the note itself
	}
	if err != nil {
		w.err = err
		w.lost += refused
	}
}

// write returns how many bytes, all of whole records, stand in the log.
func (w *Writer) write(b []byte) (int, error) {
	if w.size >= w.limit {
		if err := w.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := w.f.WriteAt(b, w.size)
	if err != nil {
		// Whole records may have been read already, so they stay.
		n = bytes.LastIndexByte(b[:n], '\n') + 1
		w.f.Truncate(w.size + int64(n))
	}
	w.size += int64(n)
	return n, err
}

// rotate begins the next segment, so that this one can be discarded.
func (w *Writer) rotate() error {
	old, was := w.start, w.size
	w.start, w.size = w.start+w.size, 0
	f, err := os.OpenFile(w.path(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		w.start, w.size = old, was
		return err
	}
	w.f.Close()
	w.f = f
	return nil
}

// Close writes everything back to the disk.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.f.Sync(); err != nil {
		w.f.Close()
		return fmt.Errorf("close log: %w", err)
	}
	return w.f.Close()
}
