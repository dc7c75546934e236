package controlplane

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/job"
)

// pageLines bounds a page of log lines where the caller sets no limit.
const pageLines = 1000

// cursor is how far a reader is in each attempt's lines: attempts write side by
// side while they hand over, and none of their lines may be skipped.
type cursor map[int]int64

// parseCursor reads a cursor that a page of this job's log gave out.
func parseCursor(s string, j *job.Job) (cursor, error) {
	c := cursor{}
	if s == "" {
		return c, nil
	}
	for _, part := range strings.Split(s, ",") {
		a, n, ok := strings.Cut(part, ":")
		attempt, err1 := strconv.Atoi(a)
		seq, err2 := strconv.ParseInt(n, 10, 64)
		if !ok || err1 != nil || err2 != nil || seq < 0 || j.AttemptNo(attempt) == nil {
			return nil, api.Errorf(http.StatusBadRequest, api.CodeInvalid, "%q is no cursor of this log: give back what a page's next says", s)
		}
		c[attempt] = seq
	}
	return c, nil
}

func (c cursor) String() string {
	attempts := make([]int, 0, len(c))
	for a := range c {
		attempts = append(attempts, a)
	}
	slices.Sort(attempts)
	parts := make([]string, len(attempts))
	for i, a := range attempts {
		parts[i] = fmt.Sprintf("%d:%d", a, c[a])
	}
	return strings.Join(parts, ",")
}

// storedLine is one line as agents write it.
type storedLine struct {
	Seq     int64     `json:"seq"`
	Time    time.Time `json:"time"`
	Stream  string    `json:"stream"`
	Text    string    `json:"text"`
	Partial bool      `json:"partial"`

	Progress *api.Progress `json:"progress"`
}

// Logs reads a page of a job's lines, attempt by attempt.
func (c *ControlPlane) Logs(ctx context.Context, id string, q api.LogQuery) (api.LogPage, error) {
	page := api.LogPage{Lines: []api.LogLine{}}
	// The row before the lines: what an ended job will ever write is there.
	j, err := c.Store.Get(ctx, id)
	if err != nil {
		return page, userProblem(id, err)
	}
	at, err := parseCursor(q.After, j)
	if err != nil {
		return page, err
	}
	limit := q.Limit
	if limit <= 0 || limit > 10*pageLines {
		limit = pageLines
	}
	for i := range j.Attempts {
		a := &j.Attempts[i]
		if q.Attempt > 0 && q.Attempt != a.Number {
			continue
		}
		full, err := c.attemptLines(ctx, id, a.Number, at, func(l api.LogLine) bool {
			l.Cursor = at.String()
			page.Lines = append(page.Lines, l)
			if q.Tail > 0 && len(page.Lines) > q.Tail {
				page.Lines = page.Lines[1:]
			}
			return q.Tail == 0 && len(page.Lines) >= limit
		})
		if err != nil {
			return page, fmt.Errorf("read logs of job %s: %w", id, err)
		}
		if full {
			page.More = true
			break
		}
	}
	page.Next = at.String()
	page.Ended = !page.More && j.State.Terminal() && len(j.Doomed) == 0
	return page, nil
}

// attemptLines gives the attempt's lines after the cursor to take, which moves
// the cursor on and says when it has enough.
func (c *ControlPlane) attemptLines(ctx context.Context, id string, attempt int, at cursor, take func(api.LogLine) bool) (full bool, err error) {
	prefix := logPrefix(id, attempt)
	done, begun := at[attempt]
	// An object is named by its first line: the one before the cursor may hold
	// lines after it. Objects are read from the last one that began at or before.
	from := ""
	if begun {
		if from, err = c.objectWith(ctx, prefix, done); err != nil {
			return false, err
		}
	}
	for {
		objects, more, err := c.listLogs(ctx, prefix, from)
		if err != nil {
			return false, err
		}
		for _, o := range objects {
			lines, err := c.readLines(ctx, o.Key)
			if err != nil {
				return false, err
			}
			for _, l := range lines {
				if l.Seq <= at[attempt] {
					continue
				}
				at[attempt] = l.Seq
				if take(api.LogLine{Attempt: attempt, Time: l.Time, Stream: l.Stream, Text: strings.ToValidUTF8(l.Text, "\uFFFD"), Partial: l.Partial, Progress: l.Progress}) {
					return true, nil
				}
			}
			from = o.Key
		}
		if !more {
			return false, nil
		}
	}
}

// listLogs lists a page of log objects.
func (c *ControlPlane) listLogs(ctx context.Context, prefix, after string) ([]bucket.Object, bool, error) {
	objects, more, err := c.Options.Logs.List(ctx, prefix, after, 0)
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, false, nil
	}
	return objects, more, err
}

// stepBack is how many lines before the one looked for the search begins. A
// followed log is looked at several times a second: it must not be listed from
// its beginning each time.
const stepBack = 1000

// objectWith returns what to list after so that the object holding the line
// comes first. Lines are numbered without gaps, and an object is named by its
// first one.
func (c *ControlPlane) objectWith(ctx context.Context, prefix string, line int64) (string, error) {
	key := func(n int64) string { return fmt.Sprintf("%s%012d", prefix, n) }
	for back := int64(stepBack); ; back *= 10 {
		start := ""
		if back < line {
			start = key(line - back)
		}
		before, last := start, ""
		for after, more := start, true; more; {
			objects, next, err := c.listLogs(ctx, prefix, after)
			if err != nil {
				return "", err
			}
			more = next && len(objects) > 0
			for _, o := range objects {
				if o.Key > key(line) {
					more = false
					break
				}
				if last != "" {
					before = last
				}
				last, after = o.Key, o.Key
			}
		}
		if last != "" || start == "" {
			return before, nil
		}
	}
}

func (c *ControlPlane) readLines(ctx context.Context, key string) ([]storedLine, error) {
	r, err := c.Options.Logs.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var lines []storedLine
	in := bufio.NewReader(bytes.NewReader(b))
	for {
		raw, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(raw)) > 0 {
			var l storedLine
			if jerr := json.Unmarshal(raw, &l); jerr == nil {
				lines = append(lines, l)
			}
		}
		if err != nil {
			return lines, nil
		}
	}
}
