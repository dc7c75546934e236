package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

var name = []byte("rows")

func open(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func set(f *File, key, val string) error {
	return f.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(name)
		if err != nil {
			return err
		}
		return b.Put([]byte(key), Seal([]byte(val)))
	})
}

// filled makes a file with branch pages, overflow pages, inline buckets and
// free pages, and returns its bytes and its rows.
func filled(t *testing.T) ([]byte, map[string]string) {
	path := filepath.Join(t.TempDir(), "table.db")
	f, err := Open(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 4 {
		err := f.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(name)
			if err != nil {
				return err
			}
			small, err := tx.CreateBucketIfNotExists([]byte("small"))
			if err != nil {
				return err
			}
			if err := small.Put([]byte("k"), []byte("v")); err != nil {
				return err
			}
			for i := range 150 {
				k := fmt.Sprintf("job-%03d", i)
				v := fmt.Sprintf("%d %d %s", round, i, bytes.Repeat([]byte("x"), r.IntN(700)))
				if i%50 == 0 {
					v += string(bytes.Repeat([]byte("y"), 9000))
				}
				if err := b.Put([]byte(k), Seal([]byte(v))); err != nil {
					return err
				}
				rows[k] = v
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, rows
}

// tryOpen opens the bytes as a file and reads all of it. It fails the test on
// wrong data, and on a refused file that was changed.
func tryOpen(t *testing.T, what string, b []byte, rows map[string]string) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "table.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path, 0)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: refused with %v", what, err)
		}
		if now, rerr := os.ReadFile(path); rerr != nil || !bytes.Equal(now, b) {
			t.Errorf("%s: the refused file was changed: %v", what, rerr)
		}
		return err
	}
	defer f.Close()
	err = f.View(func(tx *bolt.Tx) error {
		bk := tx.Bucket(name)
		if bk == nil {
			return ErrCorrupt
		}
		for k, want := range rows {
			got, err := Unseal(bk.Get([]byte(k)))
			if err != nil {
				return err
			}
			if string(got) != want {
				t.Fatalf("%s: %s is wrong and nobody noticed", what, k)
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrCorrupt) {
		t.Errorf("%s: read: %v", what, err)
	}
	return err
}

func TestSoundFileOpens(t *testing.T) {
	b, rows := filled(t)
	if err := tryOpen(t, "sound", b, rows); err != nil {
		t.Fatal(err)
	}
}

func TestTruncatedFileIsRefused(t *testing.T) {
	b, rows := filled(t)
	high := len(b)
	sizes := []int{0, 1, 100, 512, 4095, 4096, 4097, 8191, 8192, 8193, 12288, 16384, 65536}
	for s := 20000; s < high/2; s += 30011 {
		sizes = append(sizes, s)
	}
	for _, s := range sizes {
		if err := tryOpen(t, fmt.Sprint("cut at ", s), b[:s], rows); err == nil {
			t.Errorf("cut at %d of %d: opened", s, len(b))
		}
	}
}

func TestDamagedPagesAreNoticed(t *testing.T) {
	b, rows := filled(t)
	r := rand.New(rand.NewPCG(3, 4))
	refused := 0
	for round := range 400 {
		bad := bytes.Clone(b)
		page := r.IntN(len(b) / 4096)
		if round%4 == 0 {
			page = r.IntN(8) // the ones that matter most
		}
		p := bad[page*4096 : (page+1)*4096]
		switch round % 5 {
		case 0: // garbage
			for i := range p {
				p[i] = byte(r.Uint32())
			}
		case 1:
			clear(p)
		case 2: // another page's content
			other := r.IntN(len(b) / 4096)
			copy(p, b[other*4096:])
		case 3: // header and elements
			for range 4 {
				p[r.IntN(200)] ^= byte(1 + r.IntN(255))
			}
		case 4:
			p[r.IntN(4096)] ^= 1 << r.IntN(8)
		}
		if tryOpen(t, fmt.Sprintf("round %d, page %d", round, page), bad, rows) != nil {
			refused++
		}
	}
	if refused < 40 {
		t.Errorf("only %d of 400 damages were noticed", refused)
	}
}

func TestFileCutOffWhileOpen(t *testing.T) {
	b, _ := filled(t)
	path := filepath.Join(t.TempDir(), "table.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, path)
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := f.View(func(tx *bolt.Tx) error {
			return tx.Bucket(name).ForEach(func(_, v []byte) error { _, err := Unseal(v); return err })
		})
		if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("read: %v", err)
		}
		if err := set(f, "a", "b"); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("write: %v", err)
		}
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "home", "table.db")
	f := open(t, path)
	if _, err := Open(path, 50*time.Millisecond); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestManyOpenAtOnceMakeOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table.db")
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			f, err := Open(path, 5*time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			err = f.Update(func(tx *bolt.Tx) error {
				b, err := tx.CreateBucketIfNotExists(name)
				if err != nil {
					return err
				}
				_, err = b.NextSequence()
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	open(t, path).View(func(tx *bolt.Tx) error {
		if n := tx.Bucket(name).Sequence(); n != 6 {
			t.Errorf("%d of 6 writes are there", n)
		}
		return nil
	})
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".new-*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestGroupedWritersFailAlone(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "table.db"))
	odd := errors.New("odd")
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			err := f.Update(func(tx *bolt.Tx) error {
				b, err := tx.CreateBucketIfNotExists(name)
				if err != nil {
					return err
				}
				if err := b.Put(fmt.Append(nil, i), Seal(nil)); err != nil {
					return err
				}
				if i%2 == 1 {
					return odd // after it wrote
				}
				return nil
			})
			if (i%2 == 1) != errors.Is(err, odd) {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	f.View(func(tx *bolt.Tx) error {
		for i := range 60 {
			if there := tx.Bucket(name).Get(fmt.Append(nil, i)) != nil; there != (i%2 == 0) {
				t.Errorf("row %d: there %v", i, there)
			}
		}
		return nil
	})
}

func BenchmarkUpdate(b *testing.B) {
	f := open(b, filepath.Join(b.TempDir(), "table.db"))
	for i := 0; b.Loop(); i++ {
		if err := set(f, fmt.Sprint("job-", i%100), string(bytes.Repeat([]byte("x"), 3000))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdateByMany(b *testing.B) {
	f := open(b, filepath.Join(b.TempDir(), "table.db"))
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := set(f, "job", "x"); err != nil {
				b.Error(err)
			}
		}
	})
}
