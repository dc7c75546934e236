package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
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
	// Skip leaves a file out of commits; asked at every look. May be nil.
	Skip     func(root, path string) bool
	MaxPause time.Duration // longest freeze; 0: never
	Freezer  Freezer       // nil: never
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
	o     Options
	cache *cache

	mu  sync.Mutex // one save, prune or take-over at a time
	log *wal.Log
	// settled is the newest entry that the cache takes into account. 0 with
	// loaded false: the log was not looked at in this life.
	settled int
	loaded  bool

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

// Close lets go of the saver's files; the saver is not used after it.
func (s *Saver) Close() error { return s.cache.close() }

// TakeOver appends this attempt's fence: nothing of a lower attempt can follow.
// It may be repeated.
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
	// Progress is called with the bytes of files read so far, and to be read; by
	// several goroutines. May be nil.
	Progress func(done, total int64)
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

// errReused: a prune lists packs that the commit would have reused.
var errReused = errors.New("packs to be reused were pruned")

// saveTries is how often a save begins again after errReused: each time it
// knows fewer packs, and none in the end.
const saveTries = 4

// Save commits what the directories hold at one moment. An error means that no
// commit is known to exist; what was sent is not sent again. wal.ErrFenced: a
// newer attempt owns the log, for good. Any other may be tried again.
func (s *Saver) Save(ctx context.Context, r SaveRequest) (Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for try := 1; ; try++ {
		res, err := s.save(ctx, r)
		if !errors.Is(err, errReused) || try == saveTries {
			return res, err
		}
	}
}

func (s *Saver) save(ctx context.Context, r SaveRequest) (Result, error) {
	began := time.Now()
	if err := s.loadNewest(ctx); err != nil {
		return Result{}, err
	}
	// Uploads of a save that fails end with it.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := s.newPacker(ctx)
	p.progress = r.Progress
	c, err := s.capture(ctx, p, r)
	if err != nil {
		cancel()
		if sent := p.group.Wait(); sent != nil && !errors.Is(sent, context.Canceled) {
			err = sent // an upload that failed is why the capture was cancelled
		}
		return Result{}, err
	}
	s.note(func() { s.walk = time.Since(began) })
	res := Result{Number: s.cache.Commit, Clean: c.clean, CapturedAt: c.at, Pause: c.pause, Warnings: c.warnings}
	for _, t := range c.trees {
		for i := range t {
			if t[i].Type == typeFile {
				res.Files++
				res.Bytes += t[i].Size
			}
		}
	}
	// A mixed commit of the very same is made again, clean.
	may := !r.Sealed && r.Exit == nil && s.cache.Commit > 0 && (s.cache.Clean || !c.clean)
	if may && s.unchanged(c) {
		s.refresh(c)
		return res, p.drop()
	}
	tops, chunks, err := s.encodeTrees(c, p)
	if err != nil {
		return Result{}, fmt.Errorf("encode the trees: %w", err)
	}
	if may && slices.Equal(tops, s.cache.Tops) {
		s.refresh(c)
		return res, p.drop()
	}
	root := Root{
		Version: Version, Clean: c.clean, Sealed: r.Sealed, Exit: r.Exit, CapturedAt: c.at.UTC(), Trees: tops, Files: res.Files, Bytes: res.Bytes,
	}
	return s.commit(ctx, p, c, root, chunks, res)
}

// encodeTrees adds the trees, and returns their tops and all chunks that they
// are made of.
func (s *Saver) encodeTrees(c capture, p *packer) (tops []Tree, meta []Hash, err error) {
	add := func(b []byte) Hash {
		h := p.add(b)
		meta = append(meta, h)
		return h
	}
	for _, name := range sortedNames(s.o.Roots) {
		es := make([]entry, len(c.trees[name]))
		for i, n := range c.trees[name] {
			es[i] = n.entry
		}
		segs, err := segments(es, add)
		if err != nil {
			return nil, nil, err
		}
		tops = append(tops, Tree{Name: name, Segments: add(encodeList(segs))})
	}
	return tops, meta, nil
}

// commit sends what is missing and appends the entry.
func (s *Saver) commit(ctx context.Context, p *packer, c capture, root Root, meta []Hash, res Result) (Result, error) {
	uploading := time.Now()
	if s.o.BeforeAppend != nil {
		attachment, err := s.o.BeforeAppend(ctx)
		if err != nil {
			return Result{}, fmt.Errorf("before the commit: %w", err)
		}
		root.Attachment = p.addAll(attachment, ChunkSize)
		meta = append(meta, root.Attachment...)
	}
	var packs []PackRef
	var err error
	if root.Table, packs, err = p.finish(func(yield func(Hash)) { eachChunk(meta, c.trees, yield) }); err != nil {
		return Result{}, err
	}
	sent := p.sent.Load()
	s.note(func() {
		took := max(time.Since(uploading), time.Duration(p.took.Load())/time.Duration(s.o.Parallel), time.Millisecond)
		s.speed, s.sent = float64(sent)/took.Seconds(), sent
	})
	body, err := json.Marshal(root)
	if err != nil {
		return Result{}, err
	}
	appending := time.Now()
	e, err := s.append(ctx, body, packs)
	if err != nil {
		return Result{}, err
	}
	s.note(func() { s.appended = time.Since(appending) })
	m := memory{Commit: e.Number, Nonce: e.Nonce, Clean: root.Clean, Tops: root.Trees, Trees: c.cached()}
	if err := s.cache.committed(m, packs); err != nil {
		// The commit exists; only a later life of the saver is slower.
		s.o.Logger.Warn("saver's cache not written", "err", err)
	}
	res.Number, res.Committed, res.SentBytes = e.Number, true, sent
	return res, nil
}

// appendTries of an entry whose answer does not come.
const appendTries = 4

// append adds the commit's entry behind everything that was taken into account.
// What is found there may be a prune by another process of this attempt: a
// commit never needs a pack that an entry before it lists as gone.
func (s *Saver) append(ctx context.Context, body []byte, packs []PackRef) (wal.Entry, error) {
	e := wal.Entry{Kind: wal.KindCommit, Commit: body, Nonce: wal.NewNonce()}
	for try := 1; ; {
		got, mine, err := s.log.AppendAt(ctx, s.settled+1, e)
		switch {
		case err == nil:
			s.settled++
			if mine {
				return got, nil
			}
			if s.cache.forget(got.Victims) && slices.ContainsFunc(packs, func(p PackRef) bool { return slices.Contains(got.Victims, p.Key) }) {
				return wal.Entry{}, errReused
			}
			continue
		case errors.Is(err, wal.ErrFenced), errors.Is(err, wal.ErrTooLarge), errors.Is(err, wal.ErrNewer), errors.Is(err, wal.ErrDamaged), hopeless(err), try == appendTries:
			return wal.Entry{}, err
		}
		select {
		case <-ctx.Done():
			return wal.Entry{}, err
		case <-time.After(time.Duration(100<<try) * time.Millisecond):
			try++
		}
	}
}

func eachChunk(meta []Hash, trees map[string][]node, yield func(Hash)) {
	for _, h := range meta {
		yield(h)
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
func (s *Saver) unchanged(c capture) bool {
	for name, t := range c.trees {
		old, ok := s.cache.Trees[name]
		if !ok || len(old) != len(t) {
			return false
		}
		for i := range t {
			if !sameEntry(t[i].entry, entry(old[i].Entry)) {
				return false
			}
		}
	}
	return len(c.trees) == len(s.cache.Trees)
}

// refresh notes newer looks of files that turned out to be the same.
func (s *Saver) refresh(c capture) {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	s.cache.Trees = c.cached()
}

func sortedNames(roots map[string]string) []string {
	return slices.Sorted(maps.Keys(roots))
}

// fullPath of a node.
func fullPath(dir, rel string) string { return filepath.Join(dir, filepath.FromSlash(rel)) }
