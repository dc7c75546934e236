package bucketsync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"anycloud/shared/bucket"
)

// Options of a mirror.
type Options struct {
	Dir   string
	To    bucket.Objects
	State string // a file on the VM: what is mirrored already
	// Delete removes objects whose files are gone, but only those that Journal
	// says this job made: an output place may hold what others put there.
	Delete  bool
	Journal bucket.Objects // the job's own bucket; nil: only this VM's objects are known
	// WriteOnce mirrors a file once it rests, and never looks at it again.
	WriteOnce bool
	Attempt   int
}

// restFor is how long a file must not have changed to count as written, in
// WriteOnce.
const restFor = 5 * time.Second

// Mirror brings a directory's regular files to a bucket, each under its path.
// Nothing is ever read back. It is safe for concurrent use.
type Mirror struct {
	o Options

	syncing sync.Mutex
	mu      sync.Mutex
	done    map[string]look // mirrored as they looked then
	known   map[string]bool // keys that the journal holds; nil: not read yet
	journal int             // journal objects of this attempt
}

// look tells whether a file changed.
type look struct {
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"`
	CTime int64  `json:"ctime"`
	Ino   uint64 `json:"ino"`
}

// Result of one Sync.
type Result struct {
	Files, Deleted int
	Bytes          int64
	Skipped        []string // cannot be objects: no regular files, or names that no store takes
	Restless       []string // changed while they were read: the next Sync has them
}

// Open reads what an earlier agent of this VM mirrored. Another VM begins anew:
// what a lost VM mirrored after its last commit is written over.
func Open(o Options) (*Mirror, error) {
	m := &Mirror{o: o, done: map[string]look{}}
	b, err := os.ReadFile(o.State)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read the mirror's state: %w", err)
	case json.Unmarshal(b, &m.done) != nil:
		m.done = map[string]look{} // everything is mirrored again
	}
	return m, nil
}

// Mirrored says whether a file, as it looks now, is in the output already: with
// WriteOnce, such a file need not be in commits.
func (m *Mirror) Mirrored(path string) bool {
	fi, err := os.Lstat(filepath.Join(m.o.Dir, filepath.FromSlash(path)))
	if err != nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.done[path]
	return ok && l == lookOf(fi)
}

func lookOf(fi fs.FileInfo) look {
	st := fi.Sys().(*syscall.Stat_t)
	return look{Size: fi.Size(), MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano(), Ino: st.Ino}
}

var errChanged = errors.New("the file changed while it was read")

// Sync mirrors what changed since the last time. last: nothing writes any more,
// so that WriteOnce need not wait for files to rest. An error leaves the rest to
// the next Sync.
func (m *Mirror) Sync(ctx context.Context, last bool) (Result, error) {
	m.syncing.Lock()
	defer m.syncing.Unlock()
	var r Result
	files, skipped, err := m.walk()
	if err != nil {
		return r, err
	}
	r.Skipped = skipped
	todo := m.changed(files, last)
	if m.o.Delete {
		if err := m.note(ctx, todo); err != nil {
			return r, err
		}
	}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(Parallel)
	for _, path := range todo {
		g.Go(func() error {
			l, err := m.put(gctx, path)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, errChanged):
				r.Restless = append(r.Restless, path)
				return nil
			case err != nil:
				return fmt.Errorf("mirror %s: %w", path, err)
			}
			r.Files++
			r.Bytes += l.Size
			m.mu.Lock()
			m.done[path] = l
			m.mu.Unlock()
			return nil
		})
	}
	err = g.Wait()
	if err == nil && m.o.Delete {
		r.Deleted, err = m.deleteGone(ctx, files)
	}
	slices.Sort(r.Restless)
	return r, errors.Join(err, m.keep())
}

func (m *Mirror) walk() (files map[string]look, skipped []string, err error) {
	files = map[string]look{}
	err = filepath.WalkDir(m.o.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) && path != m.o.Dir {
				return nil
			}
			return err
		}
		if d.IsDir() {
			return nil
		}
		rel, err := filepath.Rel(m.o.Dir, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if !d.Type().IsRegular() || bucket.CheckKey(rel) != nil {
			skipped = append(skipped, rel)
			return nil
		}
		fi, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		files[rel] = lookOf(fi)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("walk the output: %w", err)
	}
	return files, skipped, nil
}

// changed lists the files to be mirrored, in order.
func (m *Mirror) changed(files map[string]look, last bool) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now().UnixNano()
	var todo []string
	for path, l := range files {
		was, had := m.done[path]
		switch {
		case had && (was == l || m.o.WriteOnce):
		case m.o.WriteOnce && !last && now-max(l.MTime, l.CTime) < int64(restFor):
		default:
			todo = append(todo, path)
		}
	}
	slices.Sort(todo)
	return todo
}

// putTries of a file that changes while it is read.
const putTries = 3

func (m *Mirror) put(ctx context.Context, path string) (look, error) {
	full := filepath.Join(m.o.Dir, filepath.FromSlash(path))
	for try := 1; ; try++ {
		var before look
		err := retry(ctx, func() error {
			f, err := os.Open(full)
			if errors.Is(err, fs.ErrNotExist) {
				return errChanged
			}
			if err != nil {
				return &localError{err}
			}
			defer f.Close()
			fi, err := f.Stat()
			if err != nil {
				return &localError{err}
			}
			before = lookOf(fi)
			r := &reader{f: f, left: before.Size}
			if err := m.o.To.Put(ctx, path, r, before.Size); err != nil {
				if r.short {
					return errChanged
				}
				return err
			}
			return nil
		})
		if err == nil {
			fi, serr := os.Lstat(full)
			if serr == nil && lookOf(fi) == before {
				return before, nil
			}
			err = errChanged
		}
		if !errors.Is(err, errChanged) || try == putTries || ctx.Err() != nil {
			return look{}, err
		}
	}
}

// reader gives the file's first bytes, as many as it had.
type reader struct {
	f     *os.File
	left  int64
	short bool // the file shrank
}

func (r *reader) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.f.Read(b[:min(int64(len(b)), r.left)])
	r.left -= int64(n)
	if errors.Is(err, io.EOF) && r.left > 0 {
		r.short = true
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// journalPrefix of the objects that list what this job mirrored.
const journalPrefix = "mirror/"

// note writes the keys that are about to be made into the journal, before the
// first of them is: the next VM knows them all.
func (m *Mirror) note(ctx context.Context, todo []string) error {
	if m.known == nil {
		if err := m.readJournal(ctx); err != nil {
			return err
		}
	}
	var fresh []string
	for _, path := range todo {
		if !m.known[path] {
			fresh = append(fresh, path)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if m.o.Journal != nil {
		b, err := json.Marshal(fresh)
		if err != nil {
			return err
		}
		err = retry(ctx, func() error {
			err := m.o.Journal.PutIfAbsent(ctx, fmt.Sprintf("%s%06d-%06d", journalPrefix, m.o.Attempt, m.journal+1), b)
			if errors.Is(err, bucket.ErrExists) {
				m.journal++ // an agent before us, or our own unanswered try
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("note what is mirrored: %w", err)
		}
		m.journal++
	}
	for _, path := range fresh {
		m.known[path] = true
	}
	return nil
}

func (m *Mirror) readJournal(ctx context.Context) error {
	known := map[string]bool{}
	for path := range m.done {
		known[path] = true
	}
	for after := ""; m.o.Journal != nil; {
		page, more, err := m.o.Journal.List(ctx, journalPrefix, after, 0)
		if err != nil {
			return fmt.Errorf("list what is mirrored: %w", err)
		}
		for _, o := range page {
			after = o.Key
			in, err := m.o.Journal.Get(ctx, o.Key, 0, -1)
			if err != nil {
				return fmt.Errorf("read what is mirrored: %w", err)
			}
			var keys []string
			err = json.NewDecoder(in).Decode(&keys)
			if err := errors.Join(err, in.Close()); err != nil {
				return fmt.Errorf("read what is mirrored: %w", err)
			}
			for _, k := range keys {
				known[k] = true
			}
		}
		if !more || len(page) == 0 {
			break
		}
	}
	m.known = known
	return nil
}

// deleteGone removes the objects of files that are not there any more. They stay
// known: the directory may be restored to a moment when they were.
func (m *Mirror) deleteGone(ctx context.Context, files map[string]look) (n int, err error) {
	for _, path := range slices.Sorted(maps.Keys(m.known)) {
		if _, there := files[path]; there || m.gone(path) {
			continue
		}
		if err := retry(ctx, func() error { return m.o.To.Delete(ctx, path) }); err != nil {
			return n, fmt.Errorf("delete %s of the output: %w", path, err)
		}
		m.mu.Lock()
		m.done[path] = look{Size: -1}
		m.mu.Unlock()
		n++
	}
	return n, nil
}

// gone says whether this VM deleted the object already.
func (m *Mirror) gone(path string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.done[path].Size == -1
}

// keep writes the state; losing it costs transfers, nothing else.
func (m *Mirror) keep() error {
	m.mu.Lock()
	b, err := json.Marshal(m.done)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	temp := m.o.State + ".new"
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return fmt.Errorf("write the mirror's state: %w", err)
	}
	if err := os.Rename(temp, m.o.State); err != nil {
		return fmt.Errorf("write the mirror's state: %w", err)
	}
	return nil
}
