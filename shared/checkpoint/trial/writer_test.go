package trial

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// writerEnv tells a writer, in JSON, what to do.
const writerEnv = "ANYCLOUD_TRIAL_WRITER"

type writerConfig struct {
	Dir  string
	Seed uint64
}

// words is a file that is written through a mapping, as 64-bit words.
type words struct{ m []byte }

func mapWords(path string, pages int) (words, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return words{}, err
	}
	defer f.Close()
	if err := f.Truncate(int64(pages) * pageSize); err != nil {
		return words{}, err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, pages*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return words{m}, err
}

// at is a word; the kernel and other processes see stores to it in their order.
func (w words) at(page, word int) *uint64 {
	return (*uint64)(unsafe.Pointer(&w.m[page*pageSize+word*512]))
}

func busyPath(dir string, file int) string {
	return filepath.Join(dir, fmt.Sprintf("d%02d", file%20), fmt.Sprintf("f%04d", file))
}

func clockPath(dir string) string { return filepath.Join(dir, "clock") }
func hotPath(dir string) string   { return filepath.Join(dir, "hot") }

// write is the busy job: operation after operation, its number stored through a
// mapping before and after, in bursts of different speed. A child of it rewrites
// files that name each other.
func write() error {
	var c writerConfig
	if err := json.Unmarshal([]byte(os.Getenv(writerEnv)), &c); err != nil {
		return err
	}
	for i := range 20 {
		if err := os.MkdirAll(filepath.Join(c.Dir, fmt.Sprintf("d%02d", i)), 0o755); err != nil {
			return err
		}
	}
	clock, err := mapWords(clockPath(c.Dir), 1)
	if err != nil {
		return err
	}
	hot, err := mapWords(hotPath(c.Dir), hotPages)
	if err != nil {
		return err
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), roleEnv+"=siblings")
	child.Stdin, child.Stderr = os.Stdin, os.Stderr // both leave when it ends
	if err := child.Start(); err != nil {
		return err
	}
	go leaveWithStdin()
	m := newModel(c.Seed)
	buf := make([]byte, pagesMost*pageSize)
	rng := rand.New(rand.NewPCG(c.Seed, 3))
	for {
		burst := []int{0, 2, 20, 200, 1000}[rng.IntN(5)]
		for end := time.Now().Add(time.Duration(rng.IntN(400)) * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			for range burst {
				o := m.next()
				atomic.StoreUint64(clock.at(0, 0), m.n+1)
				if err := perform(c.Dir, m, o, hot, buf); err != nil {
					return fmt.Errorf("operation %d: %w", m.n+1, err)
				}
				m.apply(o)
				atomic.StoreUint64(clock.at(0, 1), m.n)
			}
		}
	}
}

// perform does the model's next operation on the disk.
func perform(dir string, m *model, o op, hot words, buf []byte) error {
	path := busyPath(dir, o.file)
	first, n, flags := o.page, o.pages, os.O_WRONLY
	switch o.kind {
	case opStore:
		atomic.StoreUint64(hot.at(o.page, o.to), m.n+1)
		return nil
	case opTruncate:
		return os.Truncate(path, int64(o.pages)*pageSize)
	case opRename:
		return os.Rename(path, busyPath(dir, o.to))
	case opDelete:
		return os.Remove(path)
	case opCreate:
		flags |= os.O_CREATE | os.O_EXCL
	case opAppend:
		first, n = len(m.files[o.file]), 1
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for i := range n {
		stampPage(buf[i*pageSize:(i+1)*pageSize], m.stampOf(first+i), 0, 0)
	}
	_, err = f.WriteAt(buf[:n*pageSize], int64(first)*pageSize)
	return err
}

// names is the file that names its siblings' hashes.
type names struct {
	Hashes map[string]string
	Seen   uint64 // the number of the writer's operation that had begun then
}

const siblings = 8

// keepNames rewrites siblings and the file that names them 20 times a second.
// What it names is there at every moment.
func keepNames() error {
	var c writerConfig
	if err := json.Unmarshal([]byte(os.Getenv(writerEnv)), &c); err != nil {
		return err
	}
	clock, err := mapWords(clockPath(c.Dir), 1)
	if err != nil {
		return err
	}
	go leaveWithStdin()
	dir := filepath.Join(c.Dir, "named")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b := make([]byte, 5*pageSize)
	var old []string
	for gen := uint64(1); ; gen++ {
		ns := names{Hashes: map[string]string{}}
		var made []string
		for i := range siblings {
			name := fmt.Sprintf("%d-%d", gen, i)
			stampPage(b, gen, uint64(i), 0)
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				return err
			}
			sum := sha256.Sum256(b)
			ns.Hashes[name] = hex.EncodeToString(sum[:])
			made = append(made, name)
		}
		ns.Seen = atomic.LoadUint64(clock.at(0, 0))
		text, err := json.Marshal(ns)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "names.new"), text, 0o644); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(dir, "names.new"), filepath.Join(dir, "names")); err != nil {
			return err
		}
		for _, name := range old {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		old = made
		time.Sleep(50 * time.Millisecond)
	}
}

// leaveWithStdin ends a child when the trial, which holds the other end, does.
func leaveWithStdin() {
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // any end is one
	os.Exit(0)
}
