package checkpoint

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zeebo/blake3"
)

// Version is the major version of what commits hold. Readers refuse newer ones.
const Version = 1

// Sizes. Deduplicate finely, store coarsely: a rewritten page costs one chunk,
// and requests cost by the pack.
const (
	// ChunkSize of files, in bytes; the last chunk of a file is shorter.
	ChunkSize = 64 << 10
	// PackSize at which a pack is sent.
	PackSize = 8 << 20
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

// Hash names a chunk by its content: BLAKE3, 32 bytes.
type Hash [32]byte

func hashOf(b []byte) Hash { return blake3.Sum256(b) }

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

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

// Root of a commit: small, in the log's entry.
type Root struct {
	Version    int       `json:"version"`
	Clean      bool      `json:"clean"`
	Sealed     bool      `json:"sealed,omitempty"`
	Exit       *Exit     `json:"exit,omitempty"`
	CapturedAt time.Time `json:"captured_at"`
	Trees      []Tree    `json:"trees"`
	Packs      []PackRef `json:"packs"` // all that the trees need
	Attachment []byte    `json:"attachment,omitempty"`
	Files      int64     `json:"files"`
	Bytes      int64     `json:"bytes"`
}

// Exit of the container that ended by itself.
type Exit struct {
	Code      int       `json:"code"`
	OOM       bool      `json:"oom,omitempty"`
	StoppedAt time.Time `json:"stopped_at"`
}

// Tree is one saved directory: its entries, in segments that are chunks.
type Tree struct {
	Name     string `json:"name"`
	Segments []Hash `json:"segments"`
}

// PackRef says where a pack's index begins.
type PackRef struct {
	Key   string `json:"key"`
	Index int64  `json:"index"` // offset of its index
	Size  int64  `json:"size"`
}

// Types of tree entries.
const (
	typeDir     = "dir"
	typeFile    = "file"
	typeSymlink = "symlink"
	typeLink    = "link" // hard link to the earlier entry Target
)

// entry is one name in a tree.
type entry struct {
	Path   string            `json:"-"` // relative, slash separated; "." is the directory itself
	Type   string            `json:"type"`
	Mode   uint32            `json:"mode"` // permission bits with setuid, setgid, sticky
	UID    int               `json:"uid"`
	GID    int               `json:"gid"`
	MTime  int64             `json:"mtime"` // ns since 1970
	Size   int64             `json:"size,omitempty"`
	Target string            `json:"-"` // of a symlink or hard link
	XAttrs map[string][]byte `json:"xattrs,omitempty"`
	Chunks []Hash            `json:"chunks,omitempty"` // every ChunkSize bytes; a zero hash is a hole
}

// wireEntry carries names that are no UTF-8 as base64.
type wireEntry struct {
	entryAlias
	Path      string `json:"path,omitempty"`
	RawPath   []byte `json:"raw_path,omitempty"`
	Target    string `json:"target,omitempty"`
	RawTarget []byte `json:"raw_target,omitempty"`
}

type entryAlias entry

func (e entry) MarshalJSON() ([]byte, error) {
	w := wireEntry{entryAlias: entryAlias(e)}
	w.Path, w.RawPath = split(e.Path)
	w.Target, w.RawTarget = split(e.Target)
	return json.Marshal(w)
}

func split(s string) (string, []byte) {
	if utf8.ValidString(s) {
		return s, nil
	}
	return "", []byte(s)
}

func (e *entry) UnmarshalJSON(b []byte) error {
	var w wireEntry
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*e = entry(w.entryAlias)
	e.Path, e.Target = w.Path, w.Target
	if w.RawPath != nil {
		e.Path = string(w.RawPath)
	}
	if w.RawTarget != nil {
		e.Target = string(w.RawTarget)
	}
	return nil
}

// check refuses entries that no saver writes: hostile or damaged.
func (e *entry) check() error {
	bad := func(what string) error { return fmt.Errorf("%w: entry %q: %s", ErrDamaged, e.Path, what) }
	if !localPath(e.Path) {
		return bad("path leads outside")
	}
	switch e.Type {
	case typeDir, typeSymlink:
	case typeLink:
		if !localPath(e.Target) {
			return bad("link leads outside")
		}
	case typeFile:
		if e.Size < 0 || int64(len(e.Chunks)) != (e.Size+ChunkSize-1)/ChunkSize {
			return bad("size and chunks disagree")
		}
	default:
		return bad("type " + e.Type + " is unknown")
	}
	return nil
}

// localPath says whether a path stays below its directory.
func localPath(p string) bool {
	if p == "." {
		return true
	}
	if p == "" || strings.HasPrefix(p, "/") || strings.ContainsRune(p, 0) {
		return false
	}
	for _, part := range strings.Split(p, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

// segments cuts a sorted tree where a name's hash says so, so that one changed
// file changes one segment however many names come or go elsewhere.
func segments(es []entry) ([][]byte, error) {
	var out [][]byte
	begin := 0
	flush := func(end int) error {
		b, err := json.Marshal(es[begin:end])
		if err == nil {
			out = append(out, b)
			begin = end
		}
		return err
	}
	for i := range es {
		h := blake3.Sum256([]byte(es[i].Path))
		if h[0] == 0 && h[1]&1 == 0 && i+1 > begin || i-begin >= 4096 {
			if err := flush(i + 1); err != nil {
				return nil, err
			}
		}
	}
	if begin < len(es) {
		if err := flush(len(es)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// indexEntry places a chunk in its pack.
type indexEntry struct {
	Hash   Hash  `json:"h"`
	Offset int64 `json:"o"`
	Length int64 `json:"l"`
}
