package checkpoint

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zeebo/blake3"

	"anycloud/shared/checkpoint/wal"
)

// Version is the major version of what commits hold. Readers refuse newer ones.
const Version = 1

// Sizes. Deduplicate finely, store coarsely: a rewritten page costs one chunk,
// and requests cost by the pack. docs/checkpoint-format.md has the numbers.
const (
	// ChunkSize of files, in bytes; the last chunk of a file is shorter.
	ChunkSize = 64 << 10
	// PackSize at which a pack is sent, in bytes.
	PackSize = 8 << 20
	// listLength is how many chunks one list of a large file names.
	listLength = 1024
	// inlineChunks is how many chunks a file names in its tree entry; a longer
	// one has lists, so that one changed chunk rewrites one list.
	inlineChunks = 32
	// blobMost bounds what is read of one chunk, list or segment, in bytes.
	blobMost = 64 << 20
)

var (
	// ErrNewer: the commit was written by a newer program.
	ErrNewer = errors.New("the checkpoint was written by a newer version of anycloud: upgrade this one")
	// ErrDamaged: what the bucket holds is provably not what was committed.
	ErrDamaged = errors.New("damaged checkpoint")
	// ErrNoRestorable: the log has commits and none restores.
	ErrNoRestorable = errors.New("no commit can be restored")
	// ErrBehind: the log shows less than the record acknowledges. Tried again,
	// never taken for an empty log.
	ErrBehind = errors.New("the log does not show the newest acknowledged commit yet")
)

// Hash names bytes by their content: BLAKE3, 32 bytes. The zero hash is a hole.
type Hash [32]byte

func hashOf(b []byte) Hash { return blake3.Sum256(b) }

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads hexadecimal.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) != 64 {
		return fmt.Errorf("%w: hash of %d characters", ErrDamaged, len(b))
	}
	if _, err := hex.Decode(h[:], b); err != nil {
		return fmt.Errorf("%w: hash: %v", ErrDamaged, err)
	}
	return nil
}

// Root of a commit. It lies in the log, which is never pruned, so it is small
// however large the trees are.
type Root struct {
	Version    int       `json:"version"`
	Clean      bool      `json:"clean"`
	Sealed     bool      `json:"sealed,omitempty"`
	Exit       *Exit     `json:"exit,omitempty"`
	CapturedAt time.Time `json:"captured_at"`
	Trees      []Tree    `json:"trees"`
	Table      TableRef  `json:"table"` // the packs that hold all of it
	Attachment []Hash    `json:"attachment,omitempty"`
	Files      int64     `json:"files"`
	Bytes      int64     `json:"bytes"`
}

// Exit of the container that ended by itself.
type Exit struct {
	Code      int       `json:"code"`
	OOM       bool      `json:"oom,omitempty"`
	StoppedAt time.Time `json:"stopped_at"`
}

// Tree is one saved directory: the list of its segments.
type Tree struct {
	Name     string `json:"name"`
	Segments Hash   `json:"segments"`
}

// PackRef says where a pack's index begins.
type PackRef struct {
	Key   string `json:"key"`
	Index int64  `json:"index"` // offset of its index: the chunks end here
	Size  int64  `json:"size"`
}

func (p PackRef) check() error {
	if !strings.HasPrefix(p.Key, packPrefix) || p.Index < 0 || p.Index > packMost || p.Size < p.Index || p.Size-p.Index > indexMost {
		return fmt.Errorf("%w: pack %q: sizes make no sense", ErrDamaged, p.Key)
	}
	return nil
}

// TableRef says where the table of packs is: JSON, an array of PackRef. The pack
// that it lies in belongs to the commit too, and is not in the table.
type TableRef struct {
	Pack   PackRef `json:"pack"`
	Offset int64   `json:"offset"`
	Length int64   `json:"length"`
	Hash   Hash    `json:"hash"`
}

// openRoot reads a commit's root out of its entry.
func openRoot(e wal.Entry) (commit, error) {
	var probe struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(e.Commit, &probe); err != nil {
		return commit{}, fmt.Errorf("%w: commit %d: %v", ErrDamaged, e.Number, err)
	}
	if probe.Version > Version {
		return commit{}, fmt.Errorf("commit %d: %w", e.Number, ErrNewer)
	}
	c := commit{entry: e}
	if err := json.Unmarshal(e.Commit, &c.root); err != nil {
		return commit{}, fmt.Errorf("%w: commit %d: %v", ErrDamaged, e.Number, err)
	}
	t := c.root.Table
	if err := t.Pack.check(); err != nil {
		return commit{}, err
	}
	if t.Offset < 0 || t.Length < 0 || t.Length > blobMost || t.Offset > t.Pack.Index-t.Length {
		return commit{}, fmt.Errorf("%w: commit %d: its table lies nowhere", ErrDamaged, e.Number)
	}
	return c, nil
}

// commit is an entry with its root.
type commit struct {
	entry wal.Entry
	root  Root
}
