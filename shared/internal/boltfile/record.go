package boltfile

import (
	"bytes"
	"fmt"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Seal puts a checksum before a value: bbolt has none of its own over data.
func Seal(data []byte) []byte {
	return append(fmt.Appendf(make([]byte, 0, len(data)+9), "%08x ", crc32.Checksum(data, castagnoli)), data...)
}

// Unseal checks and removes it. The result is part of sealed.
func Unseal(sealed []byte) ([]byte, error) {
	if len(sealed) < 9 {
		return nil, fmt.Errorf("%w: a value of %d bytes", ErrCorrupt, len(sealed))
	}
	sum, data := sealed[:9], sealed[9:]
	if !bytes.Equal(sum, fmt.Appendf(nil, "%08x ", crc32.Checksum(data, castagnoli))) {
		return nil, fmt.Errorf("%w: a value does not match its checksum", ErrCorrupt)
	}
	return data, nil
}
