package checkpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/zeebo/blake3"
)

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
	// Of a file: one hash every ChunkSize bytes, or, of a long one, one list of
	// listLength hashes after the other.
	Chunks []Hash `json:"chunks,omitempty"`
	Lists  []Hash `json:"lists,omitempty"`
}

// wireEntry carries names that are no UTF-8 as base64.
type wireEntry struct {
	Path      string `json:"path,omitempty"`
	RawPath   []byte `json:"raw_path,omitempty"`
	Target    string `json:"target,omitempty"`
	RawTarget []byte `json:"raw_target,omitempty"`
	entryAlias
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

// chunkCount of a file of a size.
func chunkCount(size int64) int64 { return size/ChunkSize + min(size%ChunkSize, 1) }

// check refuses entries that no saver writes: hostile or damaged.
func (e *entry) check() error {
	bad := func(what string) error { return fmt.Errorf("%w: entry %q: %s", ErrDamaged, e.Path, what) }
	if !localPath(e.Path) {
		return bad("path leads outside")
	}
	for name := range e.XAttrs {
		if !strings.HasPrefix(name, xattrPrefix) {
			return bad("attribute " + name + " is none of a user")
		}
	}
	if e.Mode&^0o7777 != 0 {
		return bad("mode has unknown bits")
	}
	switch e.Type {
	case typeDir:
	case typeSymlink:
		if e.Target == "" || strings.ContainsRune(e.Target, 0) {
			return bad("link without a target")
		}
	case typeLink:
		if !localPath(e.Target) {
			return bad("link leads outside")
		}
	case typeFile:
		n := chunkCount(max(0, e.Size))
		lists := n/listLength + min(n%listLength, 1)
		if e.Size < 0 || e.Lists == nil && int64(len(e.Chunks)) != n || e.Lists != nil && (len(e.Chunks) > 0 || int64(len(e.Lists)) != lists) {
			return bad("size and chunks disagree")
		}
	default:
		return bad("type " + e.Type + " is unknown")
	}
	if e.Path == "." && e.Type != typeDir {
		return bad("the directory is none")
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
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

// sameEntry says whether two entries restore to the same.
func sameEntry(a, b entry) bool {
	return a.Path == b.Path && a.Type == b.Type && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.MTime == b.MTime &&
		a.Size == b.Size && a.Target == b.Target && slices.Equal(a.Chunks, b.Chunks) && slices.Equal(a.Lists, b.Lists) && sameXAttrs(a.XAttrs, b.XAttrs)
}

func sameXAttrs(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || string(v) != string(w) {
			return false
		}
	}
	return true
}

// segmentMost is when a segment is cut in any case, in entries and in bytes.
const (
	segmentMost  = 4096
	segmentBytes = 1 << 20
)

// segments cuts a tree where a name's hash says so (one of 512), so that one
// changed file changes one segment however many names come or go elsewhere. add
// stores a blob and returns its name.
func segments(es []entry, add func([]byte) Hash) ([]Hash, error) {
	var out []Hash
	var buf bytes.Buffer
	n := 0
	for i, e := range es {
		if e.Type == typeFile && len(e.Chunks) > inlineChunks {
			e.Lists, e.Chunks = lists(e.Chunks, add), nil
		}
		b, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		if n++; n == 1 {
			buf.WriteByte('[')
		} else {
			buf.WriteByte(',')
		}
		buf.Write(b)
		h := blake3.Sum256([]byte(e.Path))
		if h[0] == 0 && h[1]&1 == 0 || n >= segmentMost || buf.Len() >= segmentBytes || i == len(es)-1 {
			buf.WriteByte(']')
			out = append(out, add(buf.Bytes()))
			buf.Reset()
			n = 0
		}
	}
	return out, nil
}

// lists stores a long file's hashes.
func lists(chunks []Hash, add func([]byte) Hash) []Hash {
	var out []Hash
	for part := range slices.Chunk(chunks, listLength) {
		out = append(out, add(encodeList(part)))
	}
	return out
}

// encodeList puts hashes one behind the other.
func encodeList(hs []Hash) []byte {
	b := make([]byte, 0, len(hs)*len(Hash{}))
	for i := range hs {
		b = append(b, hs[i][:]...)
	}
	return b
}

func decodeList(b []byte) ([]Hash, error) {
	if len(b)%len(Hash{}) != 0 {
		return nil, fmt.Errorf("%w: a list of hashes has %d bytes", ErrDamaged, len(b))
	}
	hs := make([]Hash, len(b)/len(Hash{}))
	for i := range hs {
		copy(hs[i][:], b[i*len(Hash{}):])
	}
	return hs, nil
}
