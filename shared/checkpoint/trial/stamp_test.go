package trial

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// pageSize is the unit that carries a stamp.
const pageSize = 4096

// stampPage fills a page with bytes that its file, place and generation decide,
// and nothing compresses.
func stampPage(p []byte, gen, file, page uint64) {
	r := rand.NewPCG(gen, file<<32|page)
	for i := 0; i+8 <= len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], r.Uint64())
	}
	binary.LittleEndian.PutUint64(p, gen)
}

// stampIn reads the stamp at the begin of a page.
func stampIn(p []byte) uint64 { return binary.LittleEndian.Uint64(p) }

// stampFile writes a file of one generation, in place.
func stampFile(path string, gen, file uint64, pages int) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, pages*pageSize)
	for i := range pages {
		stampPage(b[i*pageSize:(i+1)*pageSize], gen, file, uint64(i))
	}
	_, err = f.WriteAt(b, 0)
	return err
}

// readStamps returns the generation of a file, all of whose pages must be it.
func readStamps(path string, file uint64, pages int) (gen uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	got, want := make([]byte, pageSize), make([]byte, pageSize)
	for i := range pages {
		if _, err := io.ReadFull(f, got); err != nil {
			return 0, fmt.Errorf("%s: page %d of %d: %w", path, i, pages, err)
		}
		g := stampIn(got)
		if i == 0 {
			gen = g
		}
		if g != gen {
			return 0, fmt.Errorf("%s: page 0 is of generation %d, page %d of %d: torn", path, gen, i, g)
		}
		if stampPage(want, gen, file, uint64(i)); !bytes.Equal(got, want) {
			return 0, fmt.Errorf("%s: page %d is none that was ever written", path, i)
		}
	}
	if n, err := f.Read(got); n != 0 || err != io.EOF {
		return 0, fmt.Errorf("%s: longer than %d pages", path, pages)
	}
	return gen, nil
}

// stampedTree is a directory whose files are all of one generation.
type stampedTree struct {
	dir          string
	files, pages int
}

func (s stampedTree) path(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprintf("part-%d", i%4), fmt.Sprintf("file-%03d", i))
}

// write makes the directory a generation.
func (s stampedTree) write(t testing.TB, gen uint64) {
	t.Helper()
	for i := range s.files {
		p := s.path(s.dir, i)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := stampFile(p, gen, uint64(i), s.pages); err != nil {
			t.Fatal(err)
		}
	}
}

// read returns the one generation that a restored directory is.
func (s stampedTree) read(dir string) (gen uint64, err error) {
	for i := range s.files {
		g, err := readStamps(s.path(dir, i), uint64(i), s.pages)
		if err != nil {
			return 0, err
		}
		if i == 0 {
			gen = g
		}
		if g != gen {
			return 0, fmt.Errorf("file 0 is of generation %d, file %d of %d: torn", gen, i, g)
		}
	}
	return gen, nil
}

// bytes of one generation.
func (s stampedTree) bytes() int64 { return int64(s.files) * int64(s.pages) * pageSize }
