package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// readSize is how much of a file is read and hashed at once, in bytes.
const readSize = 16 * ChunkSize

var zeros = make([]byte, ChunkSize)

// readFile hashes a file. The node that it returns has the look of before the
// reading; whether that still holds, the walk after tells. Holes, and chunks of
// nothing but zeros, are the zero hash. A file that shrinks is errVanished.
func readFile(ctx context.Context, p *packer, k kind, path string, n node) (node, error) {
	return readUpTo(ctx, p, k, path, n, false)
}

// readUpTo reads, if short, a file that shrinks up to the end that it finds.
func readUpTo(ctx context.Context, p *packer, k kind, path string, n node, short bool) (node, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return n, errVanished
	}
	if err != nil {
		return n, fmt.Errorf("read a file to save: %w", err)
	}
	defer f.Close()
	k.writeBack(f)
	n.Chunks = make([]Hash, 0, chunkCount(n.Size))
	buf := make([]byte, min(n.Size, readSize))
	begin, end, more := nextData(f, 0, n.Size)
	for off := int64(0); off < n.Size; {
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		for more && end <= off {
			begin, end, more = nextData(f, end, n.Size)
		}
		if !more || begin >= off+ChunkSize {
			to := n.Size // the hole's end, in whole chunks
			if more {
				to = begin / ChunkSize * ChunkSize
			}
			p.looked(min(to, n.Size) - off)
			for ; off < to; off += ChunkSize {
				n.Chunks = append(n.Chunks, Hash{})
			}
			continue
		}
		size := min(int64(len(buf)), n.Size-off)
		if end < off+size {
			// Not far into the hole behind the data.
			size = min(size, chunkCount(end-off)*ChunkSize)
		}
		got, err := io.ReadFull(io.NewSectionReader(f, off, size), buf[:size])
		switch {
		case err == nil:
		case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return n, fmt.Errorf("read a file to save: %w", err)
		case !short:
			return n, errVanished
		default:
			size, n.Size = int64(got), off+int64(got)
		}
		n.Chunks = append(n.Chunks, p.addData(buf[:size])...)
		p.looked(size)
		off += size
	}
	return n, nil
}

// addData adds a stretch of a file, chunk by chunk.
func (p *packer) addData(b []byte) []Hash {
	var hs []Hash
	for len(b) > 0 {
		// As many chunks as are not all zeros.
		n := 0
		for n < len(b) && !isZero(b[n:min(len(b), n+ChunkSize)]) {
			n = min(len(b), n+ChunkSize)
		}
		hs = append(hs, p.addAll(b[:n], ChunkSize)...)
		b = b[n:]
		if len(b) > 0 {
			hs = append(hs, Hash{})
			b = b[min(len(b), ChunkSize):]
		}
	}
	return hs
}

func isZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }
