package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"anycloud/shared/bucket"
)

// shipper brings the job's lines, and the agent's own, to the log store. Each
// batch is an object named by the number of its first line, created only if
// absent. Before a batch is sent, its bounds are on the disk: a restarted agent
// sends the very same batch again, so that no line is lost or doubled.
type shipper struct {
	a    *agent
	mu   sync.Mutex // one batch at a time
	path string
	pos  shipped

	ownMu sync.Mutex
	own   []logLine // lines of the agent's own, not in a batch yet
	heir  []byte    // what a predecessor's last commit carried
}

// shipped is how far the log is shipped; it survives the agent.
type shipped struct {
	Seq    int64  `json:"seq"`    // of the last line shipped
	Offset int64  `json:"offset"` // in the runtime's log: what follows is not shipped
	Next   *batch `json:"next,omitempty"`
}

// batch is sent next, whatever happens.
type batch struct {
	Key    string `json:"key"`
	Body   []byte `json:"body"`
	Seq    int64  `json:"seq"`    // of its last line
	Offset int64  `json:"offset"` // behind its last line
}

// logLine is a line as it is stored.
type logLine struct {
	Seq     int64     `json:"seq"`
	Time    time.Time `json:"time"`
	Stream  string    `json:"stream"`
	Text    string    `json:"text"`
	Partial bool      `json:"partial,omitempty"`
}

const (
	// shipEvery bounds how old a line is when it can be read elsewhere.
	shipEvery = 500 * time.Millisecond
	// batchLines bounds one object.
	batchLines = 2000
	// attachMost bounds the lines that travel in a commit.
	attachMost = 1 << 20
)

func newShipper(a *agent) *shipper {
	s := &shipper{a: a, path: a.dir("state/shipped.json")}
	if b, err := os.ReadFile(s.path); err == nil {
		if err := json.Unmarshal(b, &s.pos); err != nil {
			a.Logger.Error("shipping state is damaged; beginning anew", "err", err)
		}
	}
	return s
}

// say queues a line of the agent's own.
func (s *shipper) say(text string) {
	s.ownMu.Lock()
	defer s.ownMu.Unlock()
	s.own = append(s.own, logLine{Time: s.a.Now().UTC(), Stream: "anycloud", Text: text})
}

// inherit takes over lines that a predecessor could not ship.
func (s *shipper) inherit(attachment []byte) {
	s.ownMu.Lock()
	defer s.ownMu.Unlock()
	s.heir = attachment
}

func (s *shipper) loop(ctx context.Context) error {
	failed := false
	for {
		if err := s.flush(ctx); err != nil && ctx.Err() == nil {
			if !failed && !errors.Is(err, errNoAccess) {
				s.a.Logger.Warn("log not shipped; again", "err", err)
			}
			failed = true
			if !pause(ctx, 2*time.Second) {
				return ctx.Err()
			}
		} else {
			failed = false
		}
		if !pause(ctx, shipEvery) {
			return ctx.Err()
		}
	}
}

// flush ships every line that is there now.
func (s *shipper) flush(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.a.access.prefix() == "" {
		return errNoAccess
	}
	if err := s.shipHeir(ctx); err != nil {
		return err
	}
	for {
		more, err := s.one(ctx)
		if err != nil || !more {
			return err
		}
	}
}

// one ships one batch; false if there was nothing to ship.
func (s *shipper) one(ctx context.Context) (bool, error) {
	if s.pos.Next == nil {
		b, err := s.next(ctx)
		if err != nil || b == nil {
			return false, err
		}
		s.pos.Next = b
		if err := s.keep(); err != nil {
			return false, err
		}
	}
	b := s.pos.Next
	err := s.a.access.logStore(s.a).PutIfAbsent(ctx, b.Key, b.Body)
	if err != nil && !errors.Is(err, bucket.ErrExists) { // there already: an answer was lost
		return false, fmt.Errorf("ship log lines: %w", err)
	}
	s.pos = shipped{Seq: b.Seq, Offset: b.Offset}
	if err := s.keep(); err != nil {
		return false, err
	}
	if err := s.a.run.Discard(ctx, b.Offset); err != nil {
		s.a.Logger.Debug("shipped lines not discarded", "err", err)
	}
	return true, nil
}

func (s *shipper) keep() error {
	b, err := json.Marshal(s.pos)
	if err != nil {
		return err
	}
	return writeWhole(s.path, b, 0o600)
}

// next makes a batch of the container's lines and the agent's own.
func (s *shipper) next(ctx context.Context) (*batch, error) {
	lines, offset, err := s.a.run.ReadLogs(ctx, s.pos.Offset, batchLines)
	if err != nil {
		return nil, fmt.Errorf("read the container's log: %w", err)
	}
	s.ownMu.Lock()
	own := s.own
	s.own = nil
	s.ownMu.Unlock()
	if len(lines)+len(own) == 0 {
		return nil, nil
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	seq := s.pos.Seq
	put := func(l logLine) error {
		seq++
		l.Seq = seq
		return enc.Encode(l)
	}
	for _, l := range own {
		if err := put(l); err != nil {
			return nil, err
		}
	}
	for _, l := range lines {
		if err := put(logLine{Time: l.Time, Stream: l.Stream, Text: valid(l.Text), Partial: l.Partial}); err != nil {
			return nil, err
		}
	}
	return &batch{Key: fmt.Sprintf("%s%012d", s.a.access.prefix(), s.pos.Seq+1), Body: body.Bytes(), Seq: seq, Offset: offset}, nil
}

// valid makes text of bytes; JSON cannot carry others.
func valid(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// beforeAppend ships what was printed before a commit's capture. What cannot be
// shipped travels in the commit, for whoever restores it: a line whose work
// survived is never lost.
func (s *shipper) beforeAppend(ctx context.Context) ([]byte, error) {
	fctx, cancel := context.WithTimeout(ctx, flushFor)
	defer cancel()
	err := s.flush(fctx)
	if err == nil {
		return nil, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pos.Next == nil {
		b, nerr := s.next(ctx)
		if nerr != nil {
			return nil, nerr
		}
		if b == nil {
			return nil, nil
		}
		s.pos.Next = b
		if err := s.keep(); err != nil {
			return nil, err
		}
	}
	if len(s.pos.Next.Body) > attachMost {
		return nil, fmt.Errorf("log store does not take lines: %w", err)
	}
	return json.Marshal(heirloom{Key: s.pos.Next.Key, Body: s.pos.Next.Body})
}

// heirloom is a batch that travels in a commit.
type heirloom struct {
	Key  string `json:"key"`
	Body []byte `json:"body"`
}

// shipHeir ships what a predecessor left in its commit, under its own name.
func (s *shipper) shipHeir(ctx context.Context) error {
	s.ownMu.Lock()
	raw := s.heir
	s.ownMu.Unlock()
	if len(raw) == 0 {
		return nil
	}
	var h heirloom
	if err := json.Unmarshal(raw, &h); err != nil || !strings.HasPrefix(h.Key, "logs/"+s.a.claim.JobID+"/") {
		s.a.Logger.Error("lines in the restored commit are damaged", "err", err)
	} else if err := s.a.access.logStore(s.a).PutIfAbsent(ctx, h.Key, h.Body); err != nil && !errors.Is(err, bucket.ErrExists) {
		return fmt.Errorf("ship a predecessor's lines: %w", err)
	}
	s.ownMu.Lock()
	s.heir = nil
	s.ownMu.Unlock()
	return nil
}

// prefix of this attempt's log objects.
func (x *access) prefix() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.creds.LogPrefix
}
