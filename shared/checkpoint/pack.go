package checkpoint

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// A pack is chunks one behind the other, then its index, then its foot:
//
//	index  per chunk: hash (32 bytes), length (4), coding (4; 0: as it is)
//	foot   number of chunks (4), 4 zero bytes, "ACPACK01"
//
// Numbers are big endian. The index of a pack can be found from its end, so a
// bucket can be read without its log.
const (
	packPrefix = "packs/"
	packMagic  = "ACPACK01"
	recordSize = 40
	footSize   = 16
	// indexMost and packMost bound what is read of an index and of the chunks
	// before it, in bytes.
	indexMost = 64 << 20
	packMost  = 256 << 20
)

// indexEntry places a chunk in its pack.
type indexEntry struct {
	Hash   Hash  `json:"h"`
	Offset int64 `json:"o"`
	Length int64 `json:"l"`
}

// newPackKey is a name that was never used: of this attempt, with 64 random bits.
func newPackKey(attempt int) string {
	var raw [8]byte
	rand.Read(raw[:]) //nolint:errcheck // never fails
	return fmt.Sprintf("%s%06d-%s", packPrefix, attempt, hex.EncodeToString(raw[:]))
}

// appendIndex closes a pack.
func appendIndex(b []byte, index []indexEntry) []byte {
	for i := range index {
		b = append(b, index[i].Hash[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(index[i].Length))
		b = binary.BigEndian.AppendUint32(b, 0)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(index)))
	b = append(b, 0, 0, 0, 0)
	return append(b, packMagic...)
}

// decodeIndex reads the end of a pack whose chunks take dataSize bytes.
func decodeIndex(b []byte, dataSize int64) ([]indexEntry, error) {
	bad := func(what string) ([]indexEntry, error) {
		return nil, fmt.Errorf("%w: index of a pack: %s", ErrDamaged, what)
	}
	if len(b) < footSize || string(b[len(b)-8:]) != packMagic {
		return bad("it has no foot")
	}
	foot := b[len(b)-footSize:]
	b = b[:len(b)-footSize]
	n := binary.BigEndian.Uint32(foot)
	if uint64(n)*recordSize != uint64(len(b)) {
		return bad("its number is another")
	}
	index := make([]indexEntry, n)
	var offset int64
	for i := range index {
		r := b[i*recordSize:]
		e := &index[i]
		copy(e.Hash[:], r)
		e.Offset, e.Length = offset, int64(binary.BigEndian.Uint32(r[32:]))
		if coding := binary.BigEndian.Uint32(r[36:]); coding != 0 {
			return nil, fmt.Errorf("coding %d of a chunk: %w", coding, ErrNewer)
		}
		if e.Length > blobMost {
			return bad("a chunk is too long")
		}
		offset += e.Length
	}
	if offset != dataSize {
		return bad("its lengths do not add up")
	}
	return index, nil
}
