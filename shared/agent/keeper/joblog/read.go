package joblog

import (
	"errors"
	"fmt"
	"io"
	"os"

	"anycloud/shared/agent/runtime"
)

// readBytes bounds one Read; it must hold the longest record.
const readBytes = 1 << 20

// Read returns at most max lines from offset on and the offset after them, as
// runtime.Runtime's ReadLogs.
func Read(dir string, offset int64, max int) ([]runtime.Line, int64, error) {
	segs, err := segments(dir)
	if err != nil || len(segs) == 0 {
		return nil, offset, err
	}
	// What was discarded cannot be read any more.
	next := offset
	if next < segs[0].start {
		next = segs[0].start
	}
	var lines []runtime.Line
	budget := int64(readBytes)
	for i, s := range segs {
		if i+1 < len(segs) && segs[i+1].start <= next {
			continue
		}
		if s.start > next { // only after a hole that nothing of ours makes
			next = s.start
		}
		b, err := readAt(s.path, next-s.start, budget)
		if errors.Is(err, os.ErrNotExist) {
			return Read(dir, next, max) // discarded while we looked
		}
		if err != nil {
			return nil, offset, err
		}
		for len(lines) < max {
			l, size := parseRecord(b)
			if size == 0 {
				break
			}
			if l != nil {
				lines = append(lines, *l)
			}
			b, next, budget = b[size:], next+int64(size), budget-int64(size)
		}
		if len(lines) >= max || budget < runtime.MaxText+64 {
			break
		}
		if i+1 < len(segs) && next < segs[i+1].start && len(b) > 0 {
			next = segs[i+1].start // a torn record that the writer left behind
		}
	}
	return lines, next, nil
}

func readAt(path string, off, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	defer f.Close()
	b := make([]byte, n)
	got, err := f.ReadAt(b, off)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read log: %w", err)
	}
	return b[:got], nil
}

// Discard removes the segments that end at or before upto, but never the last
// one: the writer is in it.
func Discard(dir string, upto int64) error {
	segs, err := segments(dir)
	if err != nil {
		return err
	}
	for i := 0; i+1 < len(segs) && segs[i+1].start <= upto; i++ {
		if err := os.Remove(segs[i].path); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("discard log: %w", err)
		}
	}
	return nil
}
