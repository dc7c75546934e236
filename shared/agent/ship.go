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

	"anycloud/shared/api"
	"anycloud/shared/bucket"
)

// shipper brings the job's lines, and the agent's own, to the log store. Each
// batch is an object named by the number of its first line, created only if
// absent. Before a batch is sent, it is on the disk whole: a restarted agent
// sends the very same batch again, so that no line is lost or doubled.
type shipper struct {
	a        *agent
	path     string
	heirPath string
	sending  chan struct{} // holds one token: one sender at a time

	mu  sync.Mutex
	pos shipped
	own []logLine // lines of the agent's own, not in a batch yet
}

// shipped is how far the log is cut into batches, and the batches that are not
// known to have arrived. It survives the agent.
type shipped struct {
	Seq     int64   `json:"seq"`    // of the last line in a batch
	Offset  int64   `json:"offset"` // in the runtime's log: what follows is in no batch yet
	Pending []batch `json:"pending,omitempty"`
}

// batch is one object of the log store.
type batch struct {
	Key    string `json:"key"`
	Body   []byte `json:"body"`
	Offset int64  `json:"offset"` // behind its last line
}

// logLine is a line as it is stored.
type logLine struct {
	Seq     int64     `json:"seq"`
	Time    time.Time `json:"time"`
	Stream  string    `json:"stream"`
	Text    string    `json:"text"`
	Partial bool      `json:"partial,omitempty"`

	Progress *api.Progress `json:"progress,omitempty"`
}

const (
	// shipEvery bounds how old a line is when it can be read elsewhere.
	shipEvery = 500 * time.Millisecond
	// batchLines bounds one object.
	batchLines = 2000
	// shipFor bounds the sending of one batch.
	shipFor = 15 * time.Second
	// ownStream marks the agent's lines among the container's.
	ownStream = "anycloud"
)

func newShipper(a *agent) *shipper {
	s := &shipper{a: a, path: a.dir("state/shipped.json"), heirPath: a.dir("state/inherited"), sending: make(chan struct{}, 1)}
	s.sending <- struct{}{}
	if b, err := os.ReadFile(s.path); err == nil {
		if err := json.Unmarshal(b, &s.pos); err != nil {
			a.Logger.Error("shipping state is damaged; beginning anew", "err", err)
		}
	}
	return s
}

// say queues a line of the agent's own.
func (s *shipper) say(text string, progress *api.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own = append(s.own, logLine{Time: s.a.Now().UTC(), Stream: ownStream, Text: text, Progress: progress})
}

func (s *shipper) loop(ctx context.Context) error {
	wait := retryDelays()
	failed := false
	for {
		every := shipEvery
		err := s.flush(ctx)
		if err == nil {
			failed = false
			wait.Reset()
		} else if ctx.Err() == nil {
			if !failed && !errors.Is(err, errNoAccess) {
				s.a.Logger.Warn("log not shipped; again", "err", err)
			}
			failed = true
			every = max(every, wait.NextBackOff())
		}
		if !pause(ctx, every) {
			return ctx.Err()
		}
	}
}

// flush ships every line that is there now.
func (s *shipper) flush(ctx context.Context) error {
	select {
	case <-s.sending:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.sending <- struct{}{} }()
	if err := s.shipHeir(ctx); err != nil {
		return err
	}
	for {
		b, err := s.first(ctx)
		if err != nil || b == nil {
			return err
		}
		if err := s.send(ctx, *b); err != nil {
			return err
		}
	}
}

// first is the batch to send next; nil if there is nothing to send.
func (s *shipper) first(ctx context.Context) (*batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pos.Pending) == 0 {
		if more, err := s.cut(ctx); err != nil || !more {
			return nil, err
		}
	}
	b := s.pos.Pending[0]
	return &b, nil
}

func (s *shipper) send(ctx context.Context, b batch) error {
	pctx, cancel := context.WithTimeout(ctx, shipFor)
	defer cancel()
	err := s.a.access.logStore().PutIfAbsent(pctx, b.Key, b.Body)
	if err != nil && !errors.Is(err, bucket.ErrExists) { // there already: an answer was lost
		return fmt.Errorf("ship log lines: %w", err)
	}
	s.mu.Lock()
	s.pos.Pending = s.pos.Pending[1:]
	if err := s.keep(s.pos); err != nil {
		// Sent again by an agent that reads the old state, and found to be there.
		s.a.Logger.Warn("shipping state not written", "err", err)
	}
	s.mu.Unlock()
	if err := s.a.run.Discard(ctx, b.Offset); err != nil {
		s.a.Logger.Debug("shipped lines not discarded", "err", err)
	}
	return nil
}

func (s *shipper) keep(p shipped) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return writeWhole(s.path, b, 0o600)
}

// cut makes a batch of the agent's own lines and the container's, if there are
// any; it is on the disk before it counts. Called with the lock held.
func (s *shipper) cut(ctx context.Context) (bool, error) {
	prefix := s.a.access.prefix()
	if prefix == "" {
		return false, errNoAccess
	}
	lines, offset, err := s.a.run.ReadLogs(ctx, s.pos.Offset, batchLines)
	if err != nil {
		return false, fmt.Errorf("read the container's log: %w", err)
	}
	if len(lines)+len(s.own) == 0 {
		return false, nil
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
	for _, l := range s.own {
		if err := put(l); err != nil {
			return false, err
		}
	}
	for _, l := range lines {
		if err := put(logLine{Time: l.Time.UTC(), Stream: l.Stream, Text: valid(l.Text), Partial: l.Partial}); err != nil {
			return false, err
		}
	}
	p := shipped{Seq: seq, Offset: offset}
	p.Pending = append(append(p.Pending, s.pos.Pending...), batch{fmt.Sprintf("%s%012d", prefix, s.pos.Seq+1), body.Bytes(), offset})
	if err := s.keep(p); err != nil {
		return false, fmt.Errorf("note a batch of lines: %w", err)
	}
	s.pos, s.own = p, nil
	return true, nil
}

// valid makes text of bytes; JSON cannot carry others.
func valid(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
