package wal

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Format is the major version of entries. A reader refuses a newer one.
const Format = 1

// maxEntry bounds what is read of one entry: the root of a commit is small.
const maxEntry = 16 << 20

var (
	// ErrNewer: the entry was written by a newer program.
	ErrNewer = errors.New("the log was written by a newer version of anycloud: upgrade this one")
	// ErrDamaged: the entry's bytes are not an entry.
	ErrDamaged = errors.New("damaged log entry")
)

// Kind of an entry.
type Kind string

const (
	KindCommit Kind = "commit" // the root of a checkpoint
	KindFence  Kind = "fence"  // an attempt took over
	KindPrune  Kind = "prune"  // packs that are gone, whether deleted yet or not
)

// Entry is one object of the log.
type Entry struct {
	Format  int             `json:"format"`
	Number  int             `json:"number"`
	Kind    Kind            `json:"kind"`
	Attempt int             `json:"attempt"`
	Nonce   string          `json:"nonce"`
	Time    time.Time       `json:"time"`
	Commit  json.RawMessage `json:"commit,omitempty"`  // of a commit: its root
	Victims []string        `json:"victims,omitempty"` // of a prune: keys of packs
}

func (e Entry) encode() ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode log entry: %w", err)
	}
	return append(b, '\n'), nil
}

func decode(b []byte) (Entry, error) {
	var e Entry
	if len(b) > maxEntry {
		return e, fmt.Errorf("%w: over %d bytes", ErrDamaged, maxEntry)
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if e.Format > Format {
		return e, ErrNewer
	}
	switch {
	case e.Format < 1, e.Number < 1, e.Attempt < 1, e.Nonce == "":
		return e, fmt.Errorf("%w: a field is missing", ErrDamaged)
	case e.Kind == KindCommit && len(e.Commit) == 0:
		return e, fmt.Errorf("%w: a commit without a root", ErrDamaged)
	case e.Kind != KindCommit && e.Kind != KindFence && e.Kind != KindPrune:
		return e, fmt.Errorf("%w: kind %q is unknown", ErrDamaged, e.Kind)
	}
	return e, nil
}
