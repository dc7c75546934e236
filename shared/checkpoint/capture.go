package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// capture is the directories at one moment (clean), or each file by itself.
type capture struct {
	trees    map[string][]node
	clean    bool
	at       time.Time
	pause    time.Duration
	warnings []string
	walked   time.Time // start of the walk that the stats are of
}

const (
	// restTries is how often a tree that does not rest is looked at before it is
	// frozen.
	restTries = 3
	// mixedTries is how often one file of a mixed commit is read until it rests.
	mixedTries = 5
	// racy is how old a timestamp must be to tell the next change: file systems
	// count in ticks of some milliseconds.
	racy = 50 * time.Millisecond
	// manyWarnings are too many to name.
	manyWarnings = 10
)

// cached is the capture as the cache remembers it.
func (c capture) cached() map[string][]cached {
	out := map[string][]cached{}
	safe := c.walked.Add(-racy).UnixNano()
	for name, t := range c.trees {
		cs := make([]cached, len(t))
		for i, n := range t {
			cs[i] = cached{n.store(), n.stat.MTime < safe && n.stat.CTime < safe}
		}
		out[name] = cs
	}
	return out
}

// chunks remembers what was read of a file with a given look.
type readMemo struct {
	mu sync.Mutex
	m  map[string]node // root and path: as it was read
}

// capture reads what changed until nothing changed while it was read.
func (s *Saver) capture(ctx context.Context, p *packer, r SaveRequest) (capture, error) {
	memo := &readMemo{m: map[string]node{}}
	trees, walked, skipped, err := s.walkAll()
	if err != nil {
		return capture{}, err
	}
	warnings := skippedWarning(skipped)
	for range restTries {
		if err := s.readChanged(ctx, p, trees, memo); err != nil {
			return capture{}, err
		}
		again, at, _, err := s.walkAll()
		if err != nil {
			return capture{}, err
		}
		if sameTrees(trees, again) && s.fill(trees, memo) && s.stillThere(ctx, p, trees) {
			return capture{trees: trees, clean: true, at: s.wall(at), warnings: warnings, walked: walked}, nil
		}
		trees, walked = again, at
	}
	if s.o.Freezer != nil && s.o.MaxPause > 0 && !r.Stopped {
		cap, err := s.frozen(ctx, p, memo)
		if err == nil {
			cap.warnings = append(warnings, cap.warnings...)
			return cap, nil
		}
		if ctx.Err() != nil {
			return capture{}, ctx.Err()
		}
		s.o.Logger.Debug("no clean view within the pause", "err", err)
	}
	return s.mixed(ctx, p, memo, warnings)
}

// wall turns a moment of this process's clock into the options' clock.
func (s *Saver) wall(at time.Time) time.Time { return s.o.Now().Add(-time.Since(at)) }

func skippedWarning(skipped []string) []string {
	if len(skipped) == 0 {
		return nil
	}
	named := skipped[:min(len(skipped), manyWarnings)]
	return []string{fmt.Sprintf("%d sockets, devices or pipes are not saved: %q", len(skipped), named)}
}

func (s *Saver) walkAll() (map[string][]node, time.Time, []string, error) {
	at := time.Now()
	trees := map[string][]node{}
	var skipped []string
	for name, dir := range s.o.Roots {
		t, err := walk(dir)
		if err != nil {
			return nil, at, nil, err
		}
		trees[name] = t.nodes
		skipped = append(skipped, t.skipped...)
	}
	return trees, at, skipped, nil
}

func sameTrees(a, b map[string][]node) bool {
	for name := range a {
		if !slices.EqualFunc(a[name], b[name], sameNode) {
			return false
		}
	}
	return true
}

// readChanged reads the files that neither the cache nor the memo knows as they
// look now.
func (s *Saver) readChanged(ctx context.Context, p *packer, trees map[string][]node, memo *readMemo) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, runtime.NumCPU()))
	for name, t := range trees {
		dir := s.o.Roots[name]
		known := byPath(s.cache.Trees[name])
		always := onTmpfs(dir)
		for i := range t {
			n := t[i]
			if n.Type != typeFile {
				continue
			}
			key := name + "/" + n.Path
			memo.mu.Lock()
			got, ok := memo.m[key]
			memo.mu.Unlock()
			if ok && got.stat == n.stat {
				continue
			}
			if old, ok := known[n.Path]; ok && old.Trusted && !always && old.Node.Stat == n.stat && old.Node.Entry.Type == typeFile {
				n.Chunks = old.Node.Entry.Chunks
				memo.put(key, n)
				continue
			}
			g.Go(func() error {
				got, err := readFile(ctx, fullPath(dir, n.Path), n, p.add)
				if errors.Is(err, errVanished) {
					return nil // the walk after tells
				}
				if err == nil {
					memo.put(key, got)
				}
				return err
			})
		}
	}
	return g.Wait()
}

func (m *readMemo) put(key string, n node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.m[key] = n
}

// fill gives every file its chunks; false if one was not read as it looks.
func (s *Saver) fill(trees map[string][]node, memo *readMemo) bool {
	for name, t := range trees {
		for i := range t {
			if t[i].Type != typeFile {
				continue
			}
			got, ok := memo.m[name+"/"+t[i].Path]
			if !ok || got.stat != t[i].stat {
				return false
			}
			t[i].Chunks = got.Chunks
		}
	}
	return true
}

// stillThere reads files on tmpfs once more: stores through a mapping leave no
// trace in their timestamps.
func (s *Saver) stillThere(ctx context.Context, p *packer, trees map[string][]node) bool {
	for name, t := range trees {
		if !onTmpfs(s.o.Roots[name]) {
			continue
		}
		for _, n := range t {
			if n.Type != typeFile {
				continue
			}
			got, err := readFile(ctx, fullPath(s.o.Roots[name], n.Path), n, p.add)
			if err != nil || !slices.Equal(got.Chunks, n.Chunks) {
				return false
			}
		}
	}
	return true
}

// readFile hashes a file. The node that it returns has the look of before the
// reading; whether that still holds, the walk after tells.
func readFile(ctx context.Context, path string, n node, add func([]byte) Hash) (node, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return n, errVanished
	}
	if err != nil {
		return n, fmt.Errorf("read a file to save: %w", err)
	}
	defer f.Close()
	writeBack(f)
	n.Chunks = make([]Hash, 0, (n.Size+ChunkSize-1)/ChunkSize)
	buf := make([]byte, ChunkSize)
	begin, end, more := nextData(f, 0, n.Size)
	for off := int64(0); off < n.Size; off += ChunkSize {
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		size := min(ChunkSize, n.Size-off)
		for more && end <= off {
			begin, end, more = nextData(f, end, n.Size)
		}
		if !more || begin >= off+size {
			n.Chunks = append(n.Chunks, Hash{})
			continue
		}
		if _, err := io.ReadFull(io.NewSectionReader(f, off, size), buf[:size]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return n, errVanished // it shrank
			}
			return n, fmt.Errorf("read a file to save: %w", err)
		}
		n.Chunks = append(n.Chunks, add(buf[:size]))
	}
	return n, nil
}

// frozen stops the job for at most MaxPause and copies what changed since it was
// read; hashing and sending come after.
func (s *Saver) frozen(ctx context.Context, p *packer, memo *readMemo) (capture, error) {
	if err := s.o.Freezer.Freeze(ctx); err != nil {
		return capture{}, fmt.Errorf("freeze: %w", err)
	}
	began := time.Now()
	limit := began.Add(s.o.MaxPause * 8 / 10)
	copies, trees, walked, err := s.copyChanged(ctx, memo, limit)
	thaw := s.o.Freezer.Thaw(context.WithoutCancel(ctx))
	pause := time.Since(began)
	if err != nil {
		return capture{}, err
	}
	if thaw != nil {
		return capture{}, fmt.Errorf("the freeze ended too early: %w", thaw)
	}
	for key, c := range copies {
		n := c.node
		n.Chunks = n.Chunks[:0]
		for off := int64(0); off < n.Size; off += ChunkSize {
			piece := c.data[off:min(n.Size, off+ChunkSize)]
			n.Chunks = append(n.Chunks, p.add(piece))
		}
		memo.put(key, n)
	}
	if !s.fill(trees, memo) {
		return capture{}, errors.New("a file was not captured")
	}
	return capture{trees: trees, clean: true, at: s.wall(began), pause: pause, walked: walked}, nil
}

type fileCopy struct {
	node node
	data []byte
}

// copyMost bounds the memory of a frozen copy.
const copyMost = 512 << 20

func (s *Saver) copyChanged(ctx context.Context, memo *readMemo, limit time.Time) (map[string]fileCopy, map[string][]node, time.Time, error) {
	trees, walked, _, err := s.walkAll()
	if err != nil {
		return nil, nil, walked, err
	}
	copies := map[string]fileCopy{}
	var total int64
	for name, t := range trees {
		always := onTmpfs(s.o.Roots[name])
		for _, n := range t {
			key := name + "/" + n.Path
			if got, ok := memo.m[key]; n.Type != typeFile || ok && got.stat == n.stat && !always {
				continue
			}
			if total += n.Size; total > copyMost || time.Now().After(limit) || ctx.Err() != nil {
				return nil, nil, walked, errors.New("too much changes at once for the pause")
			}
			b, err := os.ReadFile(fullPath(s.o.Roots[name], n.Path))
			if err != nil || int64(len(b)) != n.Size {
				return nil, nil, walked, errors.Join(errors.New("a file changed while frozen"), err)
			}
			copies[key] = fileCopy{n, b}
		}
	}
	if time.Now().After(limit) {
		return nil, nil, walked, errors.New("the pause is too short for the copy")
	}
	return copies, trees, walked, nil
}

// mixed reads each file until it rests by itself: every file is consistent, the
// set may not be.
func (s *Saver) mixed(ctx context.Context, p *packer, memo *readMemo, warnings []string) (capture, error) {
	trees, walked, _, err := s.walkAll()
	if err != nil {
		return capture{}, err
	}
	at := s.wall(walked)
	for name, t := range trees {
		kept := t[:0]
		for _, n := range t {
			if n.Type == typeFile {
				got, ok, err := s.restOne(ctx, p, name, n, memo)
				if err != nil {
					return capture{}, err
				}
				if !ok {
					warnings = append(warnings, fmt.Sprintf("%s never rested; it is saved as it was read", n.Path))
				}
				if got.Type == "" {
					continue // gone
				}
				n = got
			}
			kept = append(kept, n)
		}
		trees[name] = withTargets(kept)
	}
	if len(warnings) > manyWarnings {
		warnings = append(warnings[:manyWarnings], fmt.Sprintf("and %d more", len(warnings)-manyWarnings))
	}
	return capture{trees: trees, at: at, warnings: warnings, walked: walked}, nil
}

// withTargets drops hard links whose first name went away meanwhile.
func withTargets(t []node) []node {
	files := map[string]bool{}
	for _, n := range t {
		if n.Type == typeFile {
			files[n.Path] = true
		}
	}
	return slices.DeleteFunc(t, func(n node) bool { return n.Type == typeLink && !files[n.Target] })
}

func (s *Saver) restOne(ctx context.Context, p *packer, name string, n node, memo *readMemo) (node, bool, error) {
	path := fullPath(s.o.Roots[name], n.Path)
	if got, ok := memo.m[name+"/"+n.Path]; ok && got.stat == n.stat {
		n.Chunks = got.Chunks
		return n, true, nil
	}
	var last node
	for range mixedTries {
		now, err := look(path, n.Path)
		if errors.Is(err, errVanished) || err == nil && now.Type != typeFile {
			return node{}, true, nil
		}
		if err != nil {
			return node{}, false, err
		}
		got, err := readFile(ctx, path, now, p.add)
		if errors.Is(err, errVanished) {
			continue
		}
		if err != nil {
			return node{}, false, err
		}
		last = got
		after, err := look(path, n.Path)
		if err == nil && after.stat == got.stat {
			return got, true, nil
		}
	}
	return last, false, nil
}
