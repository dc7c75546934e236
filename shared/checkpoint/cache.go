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
	"sync"
)

// memory is what a saver knows of the newest commit.
type memory struct {
	Commit int    // its number; 0: none
	Nonce  string // of its entry: the number alone could be another bucket's
	Clean  bool
	Tops   []Tree
	// Trees are the files with the look they had when they were read. Empty if
	// they are not known: then everything is read.
	Trees  map[string][]cached
	Places map[Hash]place
	Packs  map[string]PackRef
	// Distrusted is the newest commit that was proven damaged; nothing of it or
	// of one before it is reused.
	Distrusted int
}

// cached is a file of the newest commit, and how it looked when it was read.
type cached struct {
	Entry   entryAlias
	Stat    stat
	Trusted bool // the look tells the next change
}

func newMemory() memory {
	return memory{Trees: map[string][]cached{}, Places: map[Hash]place{}, Packs: map[string]PackRef{}}
}

// cache is what a saver remembers between saves, and on its disk between its
// lives: the newest commit, and the packs that the store acknowledged but no
// commit holds yet.
type cache struct {
	dir string

	mu sync.Mutex
	memory
	journal *os.File
	acked   []ackedPack
}

// ackedPack is a line of the journal. It counts only on top of the commit that it
// was sent on top of: later, the pack may have been pruned.
type ackedPack struct {
	Base  int          `json:"base"`
	Ref   PackRef      `json:"ref"`
	Index []indexEntry `json:"index"`
}

func openCache(dir string) (*cache, error) {
	c := &cache{dir: dir, memory: newMemory()}
	if dir == "" {
		return c, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the saver's state: %w", err)
	}
	f, err := os.Open(filepath.Join(dir, "cache"))
	if err == nil {
		m := newMemory()
		// A cache that cannot be read is no loss: everything is hashed again.
		if gob.NewDecoder(bufio.NewReader(f)).Decode(&m) == nil {
			c.memory = m
		}
		f.Close()
	}
	return c, c.openJournal()
}

func (c *cache) openJournal() error {
	path := filepath.Join(c.dir, "journal")
	whole := int64(0) // where the last whole line ends
	if f, err := os.Open(path); err == nil {
		in := bufio.NewReader(f)
		for {
			line, err := in.ReadBytes('\n')
			var p ackedPack
			if err != nil || json.Unmarshal(line, &p) != nil {
				break // cut off by a crash: that pack was not noted
			}
			if p.Base == c.Commit {
				c.acked = append(c.acked, p)
			}
			whole += int64(len(line))
		}
		f.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the saver's journal: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err == nil {
		// Nothing may follow half a line: it would not be read again.
		err = f.Truncate(whole)
	}
	if err != nil {
		return fmt.Errorf("open the saver's journal: %w", err)
	}
	for _, p := range c.acked {
		c.place(p)
	}
	c.journal = f
	return nil
}

// close lets go of the journal's file.
func (c *cache) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.journal == nil {
		return nil
	}
	return c.journal.Close()
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
	p := ackedPack{c.Commit, ref, index}
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

// replace makes a commit that was read from the bucket the one that the cache
// describes. keep: the journal still holds.
func (c *cache) replace(m memory, keep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.Distrusted = c.Distrusted
	c.memory = m
	if !keep {
		c.acked = nil
	}
	for _, p := range c.acked {
		c.place(p)
	}
}

// distrust notes that a commit is damaged, for this life of the saver and others.
func (c *cache) distrust(number int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if number <= c.Distrusted {
		return nil
	}
	c.Distrusted = number
	if c.dir == "" {
		return nil
	}
	return c.write()
}

// forget treats packs as gone, because a prune lists them. True if any was known.
func (c *cache) forget(victims []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := map[string]bool{}
	for _, v := range victims {
		if _, ok := c.Packs[v]; ok {
			gone[v] = true
			delete(c.Packs, v)
		}
	}
	if len(gone) == 0 {
		return false
	}
	for h, p := range c.Places {
		if gone[p.Pack] {
			delete(c.Places, h)
		}
	}
	var rest []ackedPack
	for _, p := range c.acked {
		if !gone[p.Ref.Key] {
			rest = append(rest, p)
		}
	}
	c.acked = rest
	// What lay in them must be read again to be sent again.
	c.Trees = map[string][]cached{}
	return true
}

// committed makes a commit the one that the cache describes. Only its packs stay
// known: what an older commit alone needs may be pruned.
func (c *cache) committed(m memory, packs []PackRef) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	keep := make(map[string]PackRef, len(packs))
	for _, p := range packs {
		keep[p.Key] = p
	}
	for h, p := range c.Places {
		if _, ok := keep[p.Pack]; !ok {
			delete(c.Places, h)
		}
	}
	m.Places, m.Packs, m.Distrusted = c.Places, keep, c.Distrusted
	c.memory, c.acked = m, nil
	if c.journal == nil {
		return nil
	}
	// The commit holds the packs now. A crash before this only keeps lines that
	// do not count any more.
	if err := errors.Join(c.write(), c.journal.Truncate(0)); err != nil {
		return fmt.Errorf("write the saver's cache: %w", err)
	}
	return nil
}

func (c *cache) write() error {
	f, err := os.CreateTemp(c.dir, ".cache-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriterSize(f, 1<<20)
	err = gob.NewEncoder(w).Encode(c.memory)
	if err := errors.Join(err, w.Flush(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(c.dir, "cache"))
}
