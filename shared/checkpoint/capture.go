package checkpoint

import (
	"context"
	"errors"
	"fmt"
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
	// racy is how old a timestamp must be to tell the next change. Kernels stamp
	// with a clock that moves every 1 to 10 ms.
	racy = 20 * time.Millisecond
	// manyWarnings are too many to name.
	manyWarnings = 10
	// readersMost read at once; each may hold a pack while uploads are slow.
	readersMost = 8
)

// cached is the capture as the cache remembers it.
func (c capture) cached() map[string][]cached {
	out := map[string][]cached{}
	safe := c.walked.Add(-racy).UnixNano()
	for name, t := range c.trees {
		cs := make([]cached, len(t))
		for i, n := range t {
			cs[i] = cached{entryAlias(n.entry), n.stat, !n.dirty && n.stat.MTime < safe && n.stat.CTime < safe}
		}
		out[name] = cs
	}
	return out
}

// memo remembers files as they were read.
type memo struct {
	known map[string]map[string]cached // the newest commit's, by root and path

	mu sync.Mutex
	m  map[string]node // root and path
}

func (s *Saver) newMemo() *memo {
	m := &memo{known: map[string]map[string]cached{}, m: map[string]node{}}
	for name, cs := range s.cache.Trees {
		m.known[name] = byPath(cs)
	}
	return m
}

func (m *memo) put(key string, n node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.m[key] = n
}

func (m *memo) get(key string) (node, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.m[key]
	return n, ok
}

// capture reads what changed until nothing changed while it was read. Then every
// file was, from the end of the first walk to the start of the second, what was
// read of it: the tree at that moment.
func (s *Saver) capture(ctx context.Context, p *packer, r SaveRequest) (capture, error) {
	memo := s.newMemo()
	trees, walked, skipped, err := s.walkAll(ctx)
	if err != nil {
		return capture{}, err
	}
	warnings := skippedWarning(skipped)
	for range restTries {
		if err := s.readChanged(ctx, p, trees, walked, memo); err != nil {
			return capture{}, err
		}
		again, at, _, err := s.walkAll(ctx)
		if err != nil {
			return capture{}, err
		}
		if sameTrees(trees, again) && fill(trees, memo) && s.stillThere(ctx, p, trees) {
			return capture{trees: trees, clean: true, at: s.wall(at), warnings: warnings, walked: walked}, nil
		}
		trees, walked = again, at
	}
	var pause time.Duration
	if s.o.Freezer != nil && s.o.MaxPause > 0 && !r.Stopped {
		c, err := s.frozen(ctx, p, memo)
		if err == nil {
			c.warnings = warnings
			return c, nil
		}
		if ctx.Err() != nil {
			return capture{}, ctx.Err()
		}
		s.o.Logger.Debug("no clean view within the pause", "err", err)
		pause = c.pause
	}
	c, err := s.mixed(ctx, p, memo, warnings)
	c.pause = pause
	return c, err
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

func (s *Saver) walkAll(ctx context.Context) (map[string][]node, time.Time, []string, error) {
	at := time.Now()
	trees := map[string][]node{}
	var skipped []string
	for _, name := range sortedNames(s.o.Roots) {
		t, err := walk(ctx, s.o.Roots[name])
		if err != nil {
			return nil, at, nil, err
		}
		if s.o.Skip != nil {
			t.nodes = slices.DeleteFunc(t.nodes, func(n node) bool {
				return n.Type == typeFile && n.nlink == 1 && s.o.Skip(name, n.Path) // other names of it need this one
			})
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

// changed is a file that must be read.
type changed struct {
	key, path string
	kind      kind
	node      node
}

// toRead lists the files that neither the cache nor the memo knows as they look
// now, and notes those that the cache knows.
func (s *Saver) toRead(trees map[string][]node, memo *memo) []changed {
	var out []changed
	for name, t := range trees {
		dir := s.o.Roots[name]
		k := kindOf(dir)
		known := memo.known[name]
		for _, n := range t {
			if n.Type != typeFile {
				continue
			}
			key := name + "/" + n.Path
			if !k.always {
				if got, ok := memo.get(key); ok && got.stat == n.stat {
					continue
				}
				if old, ok := known[n.Path]; ok && old.Trusted && old.Stat == n.stat && old.Entry.Type == typeFile {
					n.Chunks = old.Entry.Chunks
					memo.put(key, n)
					continue
				}
			}
			out = append(out, changed{key, fullPath(dir, n.Path), k, n})
		}
	}
	return out
}

// readChanged reads what must be read.
func (s *Saver) readChanged(ctx context.Context, p *packer, trees map[string][]node, walked time.Time, memo *memo) error {
	files := s.toRead(trees, memo)
	if err := waitOutTick(ctx, files, walked); err != nil {
		return err
	}
	for _, c := range files {
		p.toRead.Add(c.node.Size)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(min(readersMost, max(2, runtime.NumCPU())))
	for _, c := range files {
		g.Go(func() error {
			got, err := readFile(gctx, p, c.kind, c.path, c.node)
			if errors.Is(err, errVanished) {
				return nil // the walk after tells
			}
			if err == nil {
				memo.put(c.key, got)
			}
			return err
		})
	}
	return g.Wait()
}

// waitOutTick waits until the clock that stamps files has moved on since the
// newest stamp: a change from then on has another stamp, and so is seen by the
// walk after. Stamps of the future (a clock set back) are not waited for longer.
func waitOutTick(ctx context.Context, files []changed, walked time.Time) error {
	newest := int64(0)
	for _, c := range files {
		newest = max(newest, c.node.stat.CTime)
	}
	wait := min(racy, time.Duration(newest+int64(racy)-time.Now().UnixNano()))
	if wait <= 0 || newest < walked.Add(-2*racy).UnixNano() {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}

// fill gives every file its chunks; false if one was not read as it looks.
func fill(trees map[string][]node, memo *memo) bool {
	for name, t := range trees {
		for i := range t {
			if t[i].Type != typeFile {
				continue
			}
			got, ok := memo.get(name + "/" + t[i].Path)
			if !ok || got.stat != t[i].stat {
				return false
			}
			t[i].Chunks, t[i].dirty = got.Chunks, got.dirty
		}
	}
	return true
}

// stillThere reads files once more where stores through a mapping leave no trace
// in their timestamps.
func (s *Saver) stillThere(ctx context.Context, p *packer, trees map[string][]node) bool {
	for name, t := range trees {
		k := kindOf(s.o.Roots[name])
		if !k.always {
			continue
		}
		for _, n := range t {
			if n.Type != typeFile {
				continue
			}
			got, err := readFile(ctx, p, k, fullPath(s.o.Roots[name], n.Path), n)
			if err != nil || !slices.Equal(got.Chunks, n.Chunks) {
				return false
			}
		}
	}
	return true
}
