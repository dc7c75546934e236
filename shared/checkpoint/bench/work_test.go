package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// noise fills with bytes that nothing compresses.
func noise(r *rand.ChaCha8, p []byte) {
	r.Read(p) //nolint:errcheck // never fails
}

func source(seed uint64) *rand.ChaCha8 {
	var s [32]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	return rand.NewChaCha8(s)
}

// files makes n files of a size.
func files(t *testing.T, dir string, n int, size int64) {
	t.Helper()
	r := source(1)
	b := make([]byte, min(size, 1<<20))
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("%03d", i%500), fmt.Sprintf("file-%06d", i))
		if i < 500 {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(0); at < size; at += int64(len(b)) {
			noise(r, b)
			if _, err := f.Write(b[:min(int64(len(b)), size-at)]); err != nil {
				t.Fatal(err)
			}
		}
		f.Close()
	}
}

// nth is the path of a file.
func nth(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprintf("%03d", i%500), fmt.Sprintf("file-%06d", i))
}

// rewrite writes n blocks of 16 KiB at random into files, in place.
func rewrite(t *testing.T, dir string, r *rand.ChaCha8, n, count int, size int64) {
	t.Helper()
	const block = 16 << 10
	b := make([]byte, block)
	for range n {
		f, err := os.OpenFile(nth(dir, int(r.Uint64()%uint64(count))), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		noise(r, b)
		if _, err := f.WriteAt(b, int64(r.Uint64()%uint64(size/block))*block); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}

// sparse makes one file of which a tenth is data, in stretches.
func sparse(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	r := source(2)
	b := make([]byte, 1<<20)
	for at := int64(0); at < size; at += 10 * int64(len(b)) {
		noise(r, b)
		if _, err := f.WriteAt(b[:min(int64(len(b)), size-at)], at); err != nil {
			t.Fatal(err)
		}
	}
}
