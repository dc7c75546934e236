// Package joblog is what a container printed, on the VM's disk: written by the
// keeper, read by the agent, each at its own pace and with no lock between.
//
// A log is a directory of segments, each named by the offset of its first byte.
// A record is one line: nanoseconds since 1970, the stream's letter, F or P (the
// next record of the stream continues this one), the text.
package joblog

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"anycloud/shared/agent/runtime"
)

const (
	// segmentBytes is what a discarded log keeps at most, and more than is
	// printed between two looks of the agent.
	segmentBytes = 4 << 20
	// nameDigits hold every offset, so that names sort as numbers.
	nameDigits = 20
)

type segment struct {
	path  string
	start int64
}

// segments lists a log in order. A log that does not exist is empty.
func segments(dir string) ([]segment, error) {
	names, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("list log: %w", err)
	}
	var all []segment
	for _, n := range names {
		start, err := strconv.ParseInt(n.Name(), 10, 64)
		if err == nil && len(n.Name()) == nameDigits {
			all = append(all, segment{filepath.Join(dir, n.Name()), start})
		}
	}
	slices.SortFunc(all, func(a, b segment) int { return cmp.Compare(a.start, b.start) })
	return all, nil
}

func appendRecord(b []byte, l runtime.Line) []byte {
	b = strconv.AppendInt(b, l.Time.UnixNano(), 10)
	stream, more := byte('o'), byte('F')
	if l.Stream == runtime.Stderr {
		stream = 'e'
	}
	if l.Partial {
		more = 'P'
	}
	b = append(b, ' ', stream, more, ' ')
	b = append(b, l.Text...)
	return append(b, '\n')
}

// parseRecord takes the record that begins b; size 0: it is not whole. A record
// that makes no sense, as after a torn write, is skipped: nil line, size > 0.
func parseRecord(b []byte) (l *runtime.Line, size int) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return nil, 0
	}
	rec, size := b[:end], end+1
	nanos, rest, ok := bytes.Cut(rec, []byte{' '})
	n, err := strconv.ParseInt(string(nanos), 10, 64)
	if !ok || err != nil || len(rest) < 3 || rest[2] != ' ' {
		return nil, size
	}
	l = &runtime.Line{Time: time.Unix(0, n).UTC(), Stream: runtime.Stdout, Text: bytes.Clone(rest[3:]), Partial: rest[1] == 'P'}
	if rest[0] == 'e' {
		l.Stream = runtime.Stderr
	}
	return l, size
}
