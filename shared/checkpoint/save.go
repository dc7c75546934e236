package checkpoint

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint/wal"
)

// Freezer stops everything that writes to the directories, for a moment.
type Freezer interface {
	Freeze(ctx context.Context) error
	// Thaw returns an error if the freeze had ended before.
	Thaw(ctx context.Context) error
}

// Options of a saver.
type Options struct {
	Objects  bucket.Objects
	Attempt  int
	Roots    map[string]string // name in commits: directory
	StateDir string            // survives the saver; "" keeps nothing
	MaxPause time.Duration     // longest freeze; 0: never
	Freezer  Freezer           // nil: never
	// BeforeAppend runs after a commit's capture and before its entry; what it
	// returns travels in the commit. May be nil.
	BeforeAppend func(ctx context.Context) ([]byte, error)
	Parallel     int // uploads at once; default DefaultParallel
	Now          func() time.Time
	Logger       *slog.Logger
}

// DefaultParallel uploads keep a VM's link busy, at PackSize of memory each.
const DefaultParallel = 4

// Saver commits the state of directories, as one attempt. One at a time per
// StateDir.
type Saver struct {
	o   Options
	log *wal.Log
	// cacheIsNewest: the cache was held against the log in this life.
	cacheIsNewest bool
	cache         *cache
	mu            sync.Mutex // one save at a time

	statsMu  sync.Mutex
	speed    float64       // bytes per second of the last uploads
	walk     time.Duration // of the last walk and read
	appended time.Duration // of the last append
	sent     int64         // by the last save
	estimate Estimate
	looked   time.Time
}

// NewSaver opens the saver's state. It makes no request.
func NewSaver(o Options) (*Saver, error) {
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if len(o.Roots) == 0 || o.Attempt < 1 {
		return nil, errors.New("a saver needs directories and an attempt")
	}
	c, err := openCache(o.StateDir)
	if err != nil {
		return nil, err
	}
	return &Saver{o: o, log: wal.Open(o.Objects, o.Attempt, wal.Options{Now: o.Now}), cache: c}, nil
}

// TakeOver appends this attempt's fence: nothing of a lower attempt can follow.
func (s *Saver) TakeOver(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.log.Fence(ctx)
	return err
}

// SaveRequest says what kind of commit is wanted.
type SaveRequest struct {
	Stopped bool  // nothing writes any more: no freeze is needed
	Sealed  bool  // the last commit of this attempt: made even if nothing changed
	Exit    *Exit // the container ended by itself: likewise
}

// Result of a save.
type Result struct {
	Number     int
	Committed  bool // false: nothing changed; Number is the newest commit
	Clean      bool
	CapturedAt time.Time
	Files      int64
	Bytes      int64
	SentBytes  int64
	Pause      time.Duration
	Warnings   []string
}

// Save commits what the directories hold at one moment. An error means that no
// commit is known to exist; what was sent is not sent again.
func (s *Saver) Save(ctx context.Context, r SaveRequest) (Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	began := time.Now()
	if err := s.loadNewest(ctx); err != nil {
		return Result{}, err
	}
	p := s.newPacker(ctx)
	cap, err := s.capture(ctx, p, r)
	if err != nil {
		p.group.Wait() //nolint:errcheck // the capture's error is the cause
		return Result{}, err
	}
	s.note(func() { s.walk = time.Since(began) })
	res := Result{Clean: cap.clean, CapturedAt: cap.at, Pause: cap.pause, Warnings: cap.warnings}
	for _, t := range cap.trees {
		for i := range t {
			if t[i].Type == typeFile {
				res.Files++
				res.Bytes += t[i].Size
			}
		}
	}
	if !r.Sealed && r.Exit == nil && s.cache.Commit > 0 && s.unchanged(cap) {
		s.refresh(cap)
		res.Number = s.cache.Commit
		return res, p.flush()
	}
	return s.commit(ctx, p, cap, r, res)
}

// commit sends what is missing and appends the entry.
func (s *Saver) commit(ctx context.Context, p *packer, cap capture, r SaveRequest, res Result) (Result, error) {
	root := Root{
		Version: Version, Clean: cap.clean, Sealed: r.Sealed, Exit: r.Exit, CapturedAt: cap.at.UTC(), Files: res.Files, Bytes: res.Bytes,
	}
	for _, name := range sortedNames(s.o.Roots) {
		es := make([]entry, len(cap.trees[name]))
		for i, n := range cap.trees[name] {
			es[i] = n.entry
		}
		segs, err := segments(es)
		if err != nil {
			return Result{}, fmt.Errorf("encode the tree: %w", err)
		}
		t := Tree{Name: name, Segments: []Hash{}}
		for _, b := range segs {
			t.Segments = append(t.Segments, p.add(b))
		}
		root.Trees = append(root.Trees, t)
	}
	uploading := time.Now()
	if err := p.flush(); err != nil {
		return Result{}, err
	}
	s.note(func() {
		if p.sent > 0 {
			s.speed = float64(p.sent) / max(time.Since(uploading), p.took/time.Duration(s.o.Parallel), time.Millisecond).Seconds()
		}
		s.sent = p.sent
	})
	var err error
	if root.Packs, err = s.cache.refs(func(yield func(Hash)) { eachChunk(root, cap.trees, yield) }); err != nil {
		return Result{}, err
	}
	if s.o.BeforeAppend != nil {
		if root.Attachment, err = s.o.BeforeAppend(ctx); err != nil {
			return Result{}, fmt.Errorf("before the commit: %w", err)
		}
	}
	body, err := json.Marshal(root)
	if err != nil {
		return Result{}, err
	}
	appending := time.Now()
	e, err := s.append(ctx, body)
	if err != nil {
		return Result{}, err
	}
	s.note(func() { s.appended = time.Since(appending) })
	if err := s.cache.committed(e.Number, cap.cached(), root.Packs); err != nil {
		// The commit exists; only the next save is slower.
		s.o.Logger.Warn("saver's cache not written", "err", err)
	}
	res.Number, res.Committed, res.SentBytes = e.Number, true, p.sent
	return res, nil
}

// append adds the entry, and looks for it again where the answer was lost.
func (s *Saver) append(ctx context.Context, body []byte) (wal.Entry, error) {
	var raw [16]byte
	rand.Read(raw[:]) //nolint:errcheck // never fails
	e := wal.Entry{Kind: wal.KindCommit, Commit: body, Nonce: hex.EncodeToString(raw[:])}
	var err error
	for try := range 4 {
		var got wal.Entry
		if got, err = s.log.Append(ctx, e); err == nil {
			return got, nil
		}
		if errors.Is(err, wal.ErrFenced) || errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrDenied) || errors.Is(err, bucket.ErrFull) {
			return wal.Entry{}, err
		}
		select {
		case <-ctx.Done():
			return wal.Entry{}, err
		case <-time.After(time.Duration(100<<try) * time.Millisecond):
		}
	}
	return wal.Entry{}, err
}

func eachChunk(root Root, trees map[string][]node, yield func(Hash)) {
	for _, t := range root.Trees {
		for _, h := range t.Segments {
			yield(h)
		}
	}
	for _, t := range trees {
		for i := range t {
			for _, h := range t[i].Chunks {
				if h != (Hash{}) {
					yield(h)
				}
			}
		}
	}
}

// unchanged says whether the capture is what the newest commit holds.
func (s *Saver) unchanged(cap capture) bool {
	for name, t := range cap.trees {
		old := s.cache.Trees[name]
		if len(old) != len(t) {
			return false
		}
		for i := range t {
			if !sameEntry(t[i].entry, entry(old[i].Node.Entry)) {
				return false
			}
		}
	}
	return true
}

func sameEntry(a, b entry) bool {
	return a.Path == b.Path && a.Type == b.Type && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.MTime == b.MTime &&
		a.Size == b.Size && a.Target == b.Target && slices.Equal(a.Chunks, b.Chunks) && sameXAttrs(a.XAttrs, b.XAttrs)
}

func sameXAttrs(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || string(v) != string(w) {
			return false
		}
	}
	return true
}

// refresh notes newer stats of files that turned out to be the same.
func (s *Saver) refresh(cap capture) {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	s.cache.Trees = cap.cached()
}

func sortedNames(roots map[string]string) []string {
	names := make([]string, 0, len(roots))
	for n := range roots {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (s *Saver) note(f func()) {
	s.statsMu.Lock()
	defer s.statsMu.Unlock()
	f()
}

// Estimate of a last save.
type Estimate struct {
	DirtyBytes     int64   // to be sent
	BytesPerSecond float64 // measured; 0: not yet
	Walk, Append   time.Duration
}

// estimateFor is how long an estimate holds: it costs a walk.
const estimateFor = 250 * time.Millisecond

// Estimate says what a save would cost now, from a look at the files and from
// the saves before. What a large file's change really sends is taken from those:
// twice the last save, if that is less than the file.
func (s *Saver) Estimate() Estimate {
	s.statsMu.Lock()
	if time.Since(s.looked) < estimateFor {
		defer s.statsMu.Unlock()
		return s.estimate
	}
	sent := s.sent
	s.statsMu.Unlock()
	var dirty int64
	for name, dir := range s.o.Roots {
		t, err := walk(dir)
		if err != nil {
			continue
		}
		s.cache.mu.Lock()
		known := byPath(s.cache.Trees[name])
		s.cache.mu.Unlock()
		for _, n := range t.nodes {
			if n.Type == typeFile {
				if old, ok := known[n.Path]; !ok || old.Node.Stat != n.stat {
					dirty += n.Size
				}
			}
		}
	}
	s.statsMu.Lock()
	defer s.statsMu.Unlock()
	if sent > 0 {
		dirty = min(dirty, 2*sent+1<<20)
	}
	s.estimate = Estimate{DirtyBytes: dirty, BytesPerSecond: s.speed, Walk: s.walk, Append: s.appended}
	s.looked = time.Now()
	return s.estimate
}

func byPath(cs []cached) map[string]cached {
	m := make(map[string]cached, len(cs))
	for _, c := range cs {
		m[c.Node.Entry.Path] = c
	}
	return m
}

// fullPath of a node.
func fullPath(dir, rel string) string { return filepath.Join(dir, filepath.FromSlash(rel)) }
