package checkpoint

import (
	"bufio"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// cache is what a saver remembers between saves, and on its disk between its
// lives: the newest commit's files with their stats, where chunks lie, and the
// packs that the store acknowledged but no commit holds yet.
type cache struct {
	dir string

	mu      sync.Mutex
	loaded  bool
	Commit  int // number of the commit that the rest describes; 0: none
	Trees   map[string][]cached
	Places  map[Hash]place
	Packs   map[string]PackRef
	journal *os.File
	acked   []ackedPack
}

// cached is a file of the newest commit, and how it looked when it was read.
type cached struct {
	Node    node2
	Trusted bool // its timestamps are old enough to tell the next change
}

// node2 is a node that gob can store.
type node2 struct {
	Entry entryAlias
	Stat  stat
}

func (n node) store() node2 { return node2{entryAlias(n.entry), n.stat} }

// ackedPack is a line of the journal.
type ackedPack struct {
	Ref   PackRef      `json:"ref"`
	Index []indexEntry `json:"index"`
}

func openCache(dir string) (*cache, error) {
	c := &cache{dir: dir}
	c.reset()
	if dir == "" {
		return c, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the saver's state: %w", err)
	}
	f, err := os.Open(filepath.Join(dir, "cache"))
	if err == nil {
		var disk struct {
			Commit int
			Trees  map[string][]cached
			Places map[Hash]place
			Packs  map[string]PackRef
		}
		// A cache that cannot be read is no loss: everything is hashed again.
		if gob.NewDecoder(bufio.NewReader(f)).Decode(&disk) == nil && disk.Places != nil {
			c.Commit, c.Trees, c.Places, c.Packs, c.loaded = disk.Commit, disk.Trees, disk.Places, disk.Packs, true
			if c.Trees == nil {
				c.Trees = map[string][]cached{}
			}
			if c.Packs == nil {
				c.Packs = map[string]PackRef{}
			}
		}
		f.Close()
	}
	return c, c.openJournal()
}

func (c *cache) reset() {
	c.Commit, c.Trees, c.Places, c.Packs = 0, map[string][]cached{}, map[Hash]place{}, map[string]PackRef{}
}

func (c *cache) openJournal() error {
	path := filepath.Join(c.dir, "journal")
	if f, err := os.Open(path); err == nil {
		in := bufio.NewScanner(f)
		in.Buffer(nil, 64<<20)
		for in.Scan() {
			var p ackedPack
			if json.Unmarshal(in.Bytes(), &p) != nil {
				break // cut off by a crash: that pack was not noted
			}
			c.acked = append(c.acked, p)
		}
		f.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the saver's journal: %w", err)
	}
	for _, p := range c.acked {
		c.place(p)
	}
	var err error
	c.journal, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return err
}

func (c *cache) place(p ackedPack) {
	c.Packs[p.Ref.Key] = p.Ref
	for _, e := range p.Index {
		c.Places[e.Hash] = place{p.Ref.Key, e.Offset, e.Length}
	}
}

func (c *cache) has(h Hash) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.Places[h]
	return ok
}

// acknowledged notes a pack that the store has.
func (c *cache) acknowledged(ref PackRef, index []indexEntry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := ackedPack{ref, index}
	c.acked = append(c.acked, p)
	c.place(p)
	if c.journal == nil {
		return nil
	}
	b, err := json.Marshal(p)
	if err == nil {
		_, err = c.journal.Write(append(b, '\n'))
	}
	if err == nil {
		err = c.journal.Sync()
	}
	if err != nil {
		return fmt.Errorf("write the saver's journal: %w", err)
	}
	return nil
}

// uncommitted are the keys of packs that only the journal holds.
func (c *cache) uncommitted() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := make([]string, len(c.acked))
	for i, p := range c.acked {
		keys[i] = p.Ref.Key
	}
	return keys
}

// refs lists the packs that hold the chunks, sorted.
func (c *cache) refs(chunks func(yield func(Hash))) ([]PackRef, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	need := map[string]bool{}
	var missing error
	chunks(func(h Hash) {
		p, ok := c.Places[h]
		if !ok {
			missing = fmt.Errorf("chunk %s was never sent", h)
			return
		}
		need[p.Pack] = true
	})
	var out []PackRef
	for key := range need {
		out = append(out, c.Packs[key])
	}
	slices.SortFunc(out, func(a, b PackRef) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return out, missing
}

// committed makes a commit the one that the cache describes. Only its packs stay
// known: what an older commit alone needs may be pruned.
func (c *cache) committed(number int, trees map[string][]cached, packs []PackRef) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	keep := map[string]PackRef{}
	for _, p := range packs {
		keep[p.Key] = p
	}
	for h, p := range c.Places {
		if _, ok := keep[p.Pack]; !ok {
			delete(c.Places, h)
		}
	}
	c.Commit, c.Trees, c.Packs, c.loaded, c.acked = number, trees, keep, true, nil
	if c.journal == nil {
		return nil
	}
	if err := c.write(); err != nil {
		return fmt.Errorf("write the saver's cache: %w", err)
	}
	// The commit holds the packs now; a crash before this only keeps names of
	// packs that are committed anyway.
	return c.journal.Truncate(0)
}

func (c *cache) write() error {
	f, err := os.CreateTemp(c.dir, ".cache-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriterSize(f, 1<<20)
	err = gob.NewEncoder(w).Encode(struct {
		Commit int
		Trees  map[string][]cached
		Places map[Hash]place
		Packs  map[string]PackRef
	}{c.Commit, c.Trees, c.Places, c.Packs})
	if err := errors.Join(err, w.Flush(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(c.dir, "cache"))
}
