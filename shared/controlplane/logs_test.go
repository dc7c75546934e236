package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/bucket/membucket"
	"anycloud/shared/job"
)

// printed puts lines into the log store as an agent does.
func (s *stack) printed(id string, attempt int, first int64, texts ...string) {
	s.t.Helper()
	var b strings.Builder
	for i, text := range texts {
		l, err := json.Marshal(storedLine{Seq: first + int64(i), Time: s.now, Stream: "stdout", Text: text})
		s.must(err)
		b.Write(append(l, '\n'))
	}
	key := fmt.Sprintf("%s%012d", logPrefix(id, attempt), first)
	s.must(s.Options.Logs.PutIfAbsent(s.t.Context(), key, []byte(b.String())))
}

func texts(p api.LogPage) string {
	var out []string
	for _, l := range p.Lines {
		out = append(out, l.Text)
	}
	return strings.Join(out, " ")
}

// TestLogsAcrossAttempts: lines of attempts that write side by side, page by
// page, none missing and none twice.
func TestLogsAcrossAttempts(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	s.printed(id, 1, 1, "a", "b", "c")
	s.cloud.Vanish(s.vm(id))
	s.tick()
	s.must(s.Recover(ctx, id))
	s.printed(id, 2, 1, "x")
	var all []string
	after := ""
	for range 10 {
		p, err := s.Logs(ctx, id, api.LogQuery{After: after, Limit: 2})
		s.must(err)
		if len(p.Lines) > 2 {
			t.Fatalf("a page of %d lines", len(p.Lines))
		}
		for _, l := range p.Lines {
			all = append(all, l.Text)
		}
		if after = p.Next; !p.More {
			break
		}
	}
	if got := strings.Join(all, " "); got != "a b c x" {
		t.Errorf("got %q", got)
	}
	// Both go on writing.
	s.printed(id, 1, 4, "d")
	s.printed(id, 2, 2, "y", "z")
	p, err := s.Logs(ctx, id, api.LogQuery{After: after})
	s.must(err)
	if texts(p) != "d y z" || p.Ended {
		t.Errorf("got %q, ended %v", texts(p), p.Ended)
	}
	// A cursor in the middle of an object goes on behind its line.
	p, err = s.Logs(ctx, id, api.LogQuery{After: "1:2,2:2"})
	s.must(err)
	if texts(p) != "c d z" {
		t.Errorf("got %q", texts(p))
	}
	for q, want := range map[api.LogQuery]string{{Attempt: 2}: "x y z", {Tail: 2}: "y z", {Attempt: 1, Tail: 1}: "d", {Attempt: 7}: ""} {
		p, err := s.Logs(ctx, id, q)
		s.must(err)
		if texts(p) != want {
			t.Errorf("%+v: %q, want %q", q, texts(p), want)
		}
	}
	_, err = s.Logs(ctx, id, api.LogQuery{After: "nonsense"})
	refused(t, err, http.StatusBadRequest, "no cursor")
	_, err = s.Logs(ctx, "ac-none-1", api.LogQuery{})
	refused(t, err, http.StatusNotFound, "list --all")
}

func TestLogsEnd(t *testing.T) {
	s := newStack(t)
	id := s.running(job.Spec{Spot: true})
	s.printed(id, 1, 1, "bad \xff byte")
	s.end(id, 0)
	s.state(id, job.Succeeded)
	p, err := s.Logs(t.Context(), id, api.LogQuery{})
	s.must(err)
	if !p.Ended || p.More || texts(p) != "bad \uFFFD byte" {
		t.Errorf("%+v", p)
	}
}

// TestLogCursor: from every line's own cursor the rest of the log follows, no
// line missing and none twice, however lines are spread over objects.
func TestLogCursor(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	var want []string
	line := int64(1)
	for _, size := range []int{1, 3, 1, 1, 4, 2} {
		var some []string
		for range size {
			some = append(some, fmt.Sprint("l", line+int64(len(some))))
		}
		s.printed(id, 1, line, some...)
		line += int64(size)
		want = append(want, some...)
	}
	s.printed(id, 1, 3, "l3", "l4") // an object that repeats lines, as of an agent that lost its notes
	all, err := s.Logs(ctx, id, api.LogQuery{})
	s.must(err)
	if texts(all) != strings.Join(want, " ") {
		t.Fatalf("got %q", texts(all))
	}
	for i, l := range all.Lines {
		rest, err := s.Logs(ctx, id, api.LogQuery{After: l.Cursor})
		s.must(err)
		if texts(rest) != strings.Join(want[i+1:], " ") || rest.Next != all.Next {
			t.Errorf("after %q: %q, next %q", l.Cursor, texts(rest), rest.Next)
		}
	}
	if p, err := s.Logs(ctx, id, api.LogQuery{After: "1:0"}); err != nil || len(p.Lines) != len(want) {
		t.Errorf("%d lines, %v", len(p.Lines), err)
	}
	for _, bad := range []string{"7:1", "1:-1", "1", ":", "1:1,", "x:1", "1:99999999999999999999"} {
		_, err := s.Logs(ctx, id, api.LogQuery{After: bad})
		refused(t, err, http.StatusBadRequest, "give back what a page's next says")
	}
}

// TestLongLog: what follows a cursor costs the same, however long the log is,
// and whether its objects hold one line or very many.
func TestLongLog(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	logs := membucket.NewObjects()
	s.Options.Logs = logs
	id := s.running(job.Spec{Spot: true})
	var many []string
	for range 3 * stepBack {
		many = append(many, "m")
	}
	s.printed(id, 1, 1, many...) // one object of very many lines
	n := int64(len(many))
	for range 4 * stepBack {
		n++
		s.printed(id, 1, n, "x")
	}
	calls := 0
	s.Options.Logs = logs.WithHook(func(_ context.Context, c membucket.Call) error {
		if c.When == membucket.Before {
			calls++
		}
		return nil
	})
	p, err := s.Logs(ctx, id, api.LogQuery{After: fmt.Sprintf("1:%d", n-1)})
	s.must(err)
	if texts(p) != "x" || calls > 5 {
		t.Errorf("%d calls for %d lines", calls, len(p.Lines))
	}
	for _, at := range []int{0, 1, stepBack, len(many) - 1} {
		p, err := s.Logs(ctx, id, api.LogQuery{After: fmt.Sprintf("1:%d", at), Limit: 10 * stepBack})
		s.must(err)
		if int64(len(p.Lines)) != n-int64(at) {
			t.Errorf("after line %d: %d lines of %d", at, len(p.Lines), n)
		}
	}
}

// TestFollowEnds: a log has not ended while a VM may still write, nor between
// attempts, nor with another page to read; a resubmitted job's goes on.
func TestFollowEnds(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	id := s.running(job.Spec{Spot: true})
	after, got := "", []string{}
	read := func(limit int) api.LogPage {
		t.Helper()
		p, err := s.Logs(ctx, id, api.LogQuery{After: after, Limit: limit})
		s.must(err)
		after = p.Next
		for _, l := range p.Lines {
			got = append(got, fmt.Sprintf("%d%s", l.Attempt, l.Text))
		}
		return p
	}
	s.printed(id, 1, 1, "a")
	s.cloud.Vanish(s.vm(id))
	if read(0).Ended {
		t.Error("ended while running")
	}
	s.tick()
	if read(0).Ended {
		t.Error("ended between attempts")
	}
	_, err := s.claim(s.vm(id))
	s.must(err)
	s.printed(id, 2, 1, "b", "c")
	_, err = s.report(id, api.Report{Started: &api.ContainerStarted{At: s.now}, Exit: &api.Exit{Attempt: 2, Code: 1}})
	s.must(err)
	if s.state(id, job.Stopping); read(1).Ended {
		t.Error("ended while stopping, with a page to come")
	}
	s.settle(id)
	if p := read(1); p.Ended || !p.More {
		t.Errorf("a full page: %+v", p)
	}
	if p := read(1); !p.Ended || p.More || len(p.Lines) > 0 {
		t.Errorf("the end: %+v", p)
	}
	_, err = s.Resubmit(ctx, id, 0, api.ResubmitRequest{})
	s.must(err)
	if read(0).Ended {
		t.Error("ended although it was resubmitted")
	}
	s.must(s.Recover(ctx, id))
	s.printed(id, 3, 1, "d")
	read(0)
	if strings.Join(got, " ") != "1a 2b 2c 3d" {
		t.Errorf("got %v", got)
	}
}

// TestLogsNotReadable: a store that does not answer is an error, not an end; a
// torn line costs no other.
func TestLogsNotReadable(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	logs := membucket.NewObjects()
	s.Options.Logs = logs
	id := s.running(job.Spec{Spot: true})
	s.printed(id, 1, 1, "a")
	s.must(logs.PutIfAbsent(ctx, logPrefix(id, 1)+"000000000002", []byte("{\"seq\":2,\"te\n{\"seq\":3,\"text\":\"c\"}")))
	if p, err := s.Logs(ctx, id, api.LogQuery{}); err != nil || texts(p) != "a c" {
		t.Errorf("got %q, %v", texts(p), err)
	}
	for _, op := range []membucket.Op{membucket.OpList, membucket.OpGet} {
		s.Options.Logs = logs.WithHook(func(_ context.Context, c membucket.Call) error {
			if c.Op == op {
				return bucket.ErrDenied
			}
			return nil
		})
		for _, after := range []string{"", "1:1"} {
			if _, err := s.Logs(ctx, id, api.LogQuery{After: after}); !errors.Is(err, bucket.ErrDenied) {
				t.Errorf("%s refused: %v", op, err)
			}
		}
	}
	s.Options.Logs = logs.WithHook(func(context.Context, membucket.Call) error { return bucket.ErrNoBucket })
	if p, err := s.Logs(ctx, id, api.LogQuery{}); err != nil || len(p.Lines) > 0 {
		t.Errorf("before any line: %+v, %v", p, err)
	}
}
