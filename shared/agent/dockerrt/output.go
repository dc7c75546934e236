package dockerrt

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"anycloud/shared/agent/keeper/joblog"
	"anycloud/shared/agent/runtime"
)

// follow copies what the engine keeps of the container's output to the log,
// until all of it is there.
func (c *running) follow() {
	defer close(c.read)
	if c.id == "" {
		return
	}
	for {
		// Read before the look: what was printed before the end is then complete.
		over := c.over.Load()
		n, err := c.copy(!over)
		if errdefs.IsNotFound(err) || over && err == nil && n == 0 {
			return
		}
		if err != nil || n == 0 {
			time.Sleep(retryEvery / 4)
		}
	}
}

// copy goes on where the log ends. follow: until the container ends, too.
func (c *running) copy(follow bool) (n int, err error) {
	out, errs := c.log.Last(runtime.Stdout), c.log.Last(runtime.Stderr)
	o := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: follow}
	// The streams are stamped apart, so one may be behind the other.
	if since := earlier(out.Time, errs.Time); !since.IsZero() {
		o.Since = fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond())
	}
	ctx := context.Background()
	if follow {
		ctx = c.following
	}
	stream, err := c.cli.ContainerLogs(ctx, c.id, o)
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	skip := map[string]*joblog.Mark{runtime.Stdout: &out, runtime.Stderr: &errs}
	r := bufio.NewReaderSize(stream, 256<<10)
	var batch []runtime.Line
	for {
		l, err := readFrame(r)
		if err == nil && !had(skip[l.Stream], l.Time) {
			batch = append(batch, l)
			n++
			if l.Stream == runtime.Stderr && !l.Partial {
				c.lastErr.Store(string(l.Text))
			}
		}
		if err != nil || r.Buffered() == 0 || len(batch) >= 256 {
			c.log.Append(batch...)
			batch = batch[:0]
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// had says whether the log had a frame before this reading began.
func had(m *joblog.Mark, t time.Time) bool {
	if t.Equal(m.Time) && m.Count > 0 {
		m.Count--
		return true
	}
	return t.Before(m.Time)
}

// readFrame reads one entry of the engine's log: 8 bytes that tell stream and
// size, a time stamp, a space, the text. Without a newline at its end it is a
// piece of a line. (The format is described at client.ContainerLogs.)
func readFrame(r *bufio.Reader) (runtime.Line, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return runtime.Line{}, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[4:]))
	if _, err := io.ReadFull(r, body); err != nil {
		return runtime.Line{}, err
	}
	l := runtime.Line{Stream: runtime.Stdout}
	switch head[0] {
	case 1:
	case 2:
		l.Stream = runtime.Stderr
	default: // 3: an error of the engine, in the middle of the stream
		return l, errors.New("read container's log: " + string(body))
	}
	stamp, text, _ := bytes.Cut(body, []byte{' '})
	var err error
	if l.Time, err = time.Parse(time.RFC3339Nano, string(stamp)); err != nil {
		return l, fmt.Errorf("read container's log: %w", err)
	}
	l.Text, l.Partial = bytes.CutSuffix(text, []byte{'\n'})
	l.Partial = !l.Partial
	return l, nil
}
