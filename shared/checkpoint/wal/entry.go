package wal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/zeebo/blake3"
)

// Format is the major version of entries. A reader refuses a newer one.
const Format = 1

// MaxEntry bounds an entry, in bytes: roots of commits are small, and an entry
// that no reader would take must never be written, because it cannot be taken
// back.
const MaxEntry = 16 << 20

var (
	// ErrNewer: the entry was written by a newer program.
	ErrNewer = errors.New("the log was written by a newer version of anycloud: upgrade this one")
	// ErrDamaged: the entry's bytes are not an entry, or not the ones written.
	ErrDamaged = errors.New("damaged log entry")
	// ErrTooLarge: the entry is over MaxEntry. Nothing was written.
	ErrTooLarge = errors.New("log entry too large")
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
	Time    time.Time       `json:"time"`              // the writer's clock, for people
	Commit  json.RawMessage `json:"commit,omitempty"`  // of a commit: its root
	Victims []string        `json:"victims,omitempty"` // of a prune: keys of packs
	// Keeps, of a prune, are the commits before it that stay restorable. Nil:
	// not said; then the victims tell.
	Keeps []int `json:"keeps,omitempty"`
}

// The sum is the last field: `,"sum":"<64 hexadecimal digits>"}`. It is the
// BLAKE3 of the entry as it would be without it.
const (
	sumBegin = `,"sum":"`
	sumSize  = len(sumBegin) + 64 + len(`"}`)
)

// plainEntry is an entry without MarshalJSON.
type plainEntry Entry

// MarshalJSON writes the entry with its sum.
func (e Entry) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(plainEntry(e))
	if err != nil {
		return nil, err
	}
	sum := blake3.Sum256(b)
	b = append(b[:len(b)-1], sumBegin...)
	b = hex.AppendEncode(b, sum[:])
	return append(b, `"}`...), nil
}

func (e Entry) encode() ([]byte, error) {
	// Not json.Marshal: it would go over the bytes once more, and they are what
	// the sum is of.
	b, err := e.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode log entry: %w", err)
	}
	if len(b) >= MaxEntry {
		return nil, fmt.Errorf("%w: %d bytes, and %d are allowed", ErrTooLarge, len(b), MaxEntry)
	}
	return append(b, '\n'), nil
}

// checkSum says whether the bytes are the ones that were written.
func checkSum(b []byte) bool {
	b = bytes.TrimSuffix(b, []byte("\n"))
	at := len(b) - sumSize
	if at < 1 || string(b[at:at+len(sumBegin)]) != sumBegin {
		return false
	}
	h := blake3.New()
	h.Write(b[:at])      //nolint:errcheck // never fails
	h.Write([]byte("}")) //nolint:errcheck // never fails
	var sum [32]byte
	return hex.EncodeToString(h.Sum(sum[:0])) == string(b[at+len(sumBegin):at+len(sumBegin)+64])
}

func decode(b []byte) (Entry, error) {
	var e Entry
	if len(b) > MaxEntry {
		return e, fmt.Errorf("%w: over %d bytes", ErrDamaged, MaxEntry)
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if e.Format > Format {
		return e, ErrNewer
	}
	switch {
	case !checkSum(b):
		return e, fmt.Errorf("%w: its sum is another", ErrDamaged)
	case e.Format < 1, e.Number < 1, e.Attempt < 1, e.Nonce == "":
		return e, fmt.Errorf("%w: a field is missing", ErrDamaged)
	case e.Kind == KindCommit && len(e.Commit) == 0:
		return e, fmt.Errorf("%w: a commit without a root", ErrDamaged)
	case e.Kind != KindCommit && e.Kind != KindFence && e.Kind != KindPrune:
		return e, fmt.Errorf("%w: kind %q is unknown", ErrDamaged, e.Kind)
	}
	return e, nil
}
