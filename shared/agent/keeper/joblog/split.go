package joblog

import (
	"bytes"
	"io"
	"time"

	"anycloud/shared/agent/runtime"
)

// Copy appends the lines that r yields, until its end. A line longer than
// runtime.MaxText becomes pieces; one without a newline at the end is a line.
func (w *Writer) Copy(stream string, r io.Reader) error {
	buf := make([]byte, 0, 2*runtime.MaxText)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		now := time.Now()
		lines, rest := split(buf, stream, now)
		if err != nil && len(rest) > 0 {
			lines, rest = append(lines, runtime.Line{Time: now, Stream: stream, Text: rest}), nil
		}
		w.Append(lines...)
		buf = append(buf[:0], rest...)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// split cuts b into lines that refer to it. The rest is at most MaxText long and
// holds no newline.
func split(b []byte, stream string, now time.Time) (lines []runtime.Line, rest []byte) {
	for {
		end := bytes.IndexByte(b, '\n')
		l := runtime.Line{Time: now, Stream: stream}
		switch {
		case end > runtime.MaxText || end < 0 && len(b) > runtime.MaxText:
			l.Text, l.Partial = b[:runtime.MaxText], true
			b = b[runtime.MaxText:]
		case end >= 0:
			l.Text = b[:end]
			b = b[end+1:]
		default:
			return lines, b
		}
		lines = append(lines, l)
	}
}
