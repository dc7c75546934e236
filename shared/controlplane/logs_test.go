package controlplane

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"anycloud/shared/api"
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
