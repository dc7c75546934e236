package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"anycloud/shared/bucket"
)

// The log protocol enumerated: three attempts run the real code, every storage
// call is a step, and every order of steps is played. An attempt that is stalled
// for ever is an order in which it has no step any more, so those are among
// them. States that were met before are not gone into again.

// model is one execution: the bucket, and three attempts at some line each.
type model struct {
	t       *testing.T
	broken  string
	objects map[string][]byte
	tasks   [3]*task
	acked   []Entry         // commits whose writers were told that they are durable
	fenced  [4]int          // entry number of an attempt's fence, once it knows
	bad     string          // what is wrong, if anything
	listed  map[string]bool // packs that a prune entry lists
}

// task is one attempt's script as a coroutine that stops before each call.
type task struct {
	attempt int
	next    func() (struct{}, bool)
	stop    func()
	yield   func(struct{}) bool
	done    bool
	seen    uint64 // hash of every answer so far: its whole local state
	nonce   int
}

var seed = maphash.MakeSeed()

func newModel(t *testing.T, broken string) *model {
	m := &model{t: t, broken: broken, objects: map[string][]byte{}, listed: map[string]bool{}}
	for i := range m.tasks {
		k := &task{attempt: i + 1}
		m.tasks[i] = k
		k.next, k.stop = iter.Pull(func(yield func(struct{}) bool) {
			k.yield = yield
			m.script(k)
		})
		m.step(i) // to its first call
	}
	return m
}

func (m *model) close() {
	for _, k := range m.tasks {
		k.stop()
	}
}

// step lets an attempt make its next call and go on to the one after.
func (m *model) step(i int) {
	if _, more := m.tasks[i].next(); !more {
		m.tasks[i].done = true
	}
}

type stopped struct{}

// script is what an attempt does in its life.
func (m *model) script(k *task) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(stopped); !ok {
				panic(r)
			}
		}
	}()
	ctx := context.Background()
	l := Open(view{m, k}, k.attempt, Options{
		Now: func() time.Time { return time.Unix(0, 0) },
		Nonce: func() string {
			k.nonce++
			return fmt.Sprintf("%d-%d", k.attempt, k.nonce)
		},
	})
	if k.attempt > 1 {
		if m.broken != "fence skipped" {
			e, err := l.Fence(ctx)
			if err != nil {
				return
			}
			m.fenced[k.attempt] = e.Number
		}
		if !m.restore(ctx, k, l) {
			return
		}
	}
	if k.attempt == 3 || !m.commit(ctx, k, l, 1) {
		return // the last one only has to find everything
	}
	if k.attempt == 1 && m.commit(ctx, k, l, 2) {
		m.prune(ctx, k, l)
	}
}

func packOf(attempt, n int) string { return fmt.Sprintf("packs/%d-%d", attempt, n) }

// commit sends a pack and appends its commit.
func (m *model) commit(ctx context.Context, k *task, l *Log, n int) bool {
	pack := packOf(k.attempt, n)
	if (view{m, k}).PutIfAbsent(ctx, pack, []byte("x")) != nil {
		return false
	}
	entry := Entry{Kind: KindCommit, Commit: []byte(`"` + pack + `"`)}
	var e Entry
	var err error
	switch m.broken {
	case "fence skipped":
		e, err = m.blind(ctx, k, entry)
	case "nonce not compared":
		e, err = m.trusting(ctx, k, l, entry)
	default:
		e, err = l.Append(ctx, entry)
	}
	if err != nil {
		return false
	}
	m.acked = append(m.acked, e)
	return true
}

// blind is a writer that looks at no fence.
func (m *model) blind(ctx context.Context, k *task, e Entry) (Entry, error) {
	for n := 1; ; n++ {
		e.Format, e.Number, e.Attempt, e.Nonce = Format, n, k.attempt, fmt.Sprintf("%d-blind-%d", k.attempt, n)
		b, err := e.encode()
		if err != nil {
			return e, err
		}
		if err := (view{m, k}).PutIfAbsent(ctx, Key(n), b); !errors.Is(err, bucket.ErrExists) {
			return e, err
		}
	}
}

// trusting is a writer that takes "already there" for its own entry.
func (m *model) trusting(ctx context.Context, k *task, l *Log, e Entry) (Entry, error) {
	head, err := l.Head(ctx)
	if err != nil {
		return e, err
	}
	e.Format, e.Number, e.Attempt, e.Nonce = Format, head+1, k.attempt, "n"
	b, err := e.encode()
	if err != nil {
		return e, err
	}
	if err := (view{m, k}).PutIfAbsent(ctx, Key(e.Number), b); err != nil && !errors.Is(err, bucket.ErrExists) {
		return e, err
	}
	return e, nil
}

// restore is what a new writer does: the newest commit's pack must be there, and
// every commit acknowledged before this attempt's fence must be in what it read.
func (m *model) restore(ctx context.Context, k *task, l *Log) bool {
	head, err := l.Head(ctx)
	if err != nil {
		return false
	}
	newest := Entry{}
	for n := head; n > 0 && newest.Kind != KindCommit; n-- {
		if newest, err = l.Read(ctx, n); err != nil {
			return false
		}
	}
	if newest.Kind != KindCommit {
		newest = Entry{}
	}
	for _, a := range m.acked {
		if a.Attempt < k.attempt && a.Number > newest.Number {
			m.fail("attempt %d restores commit %d, and commit %d was acknowledged", k.attempt, newest.Number, a.Number)
		}
	}
	if newest.Number > 0 {
		pack := strings.Trim(string(newest.Commit), `"`)
		if _, err := (view{m, k}).Get(ctx, pack, 0, -1); err != nil {
			m.fail("attempt %d needs %s of commit %d, which is gone", k.attempt, pack, newest.Number)
			return false
		}
	}
	return true
}

// prune lists the first commit's pack, and only then deletes it.
func (m *model) prune(ctx context.Context, k *task, l *Log) {
	victim := packOf(k.attempt, 1)
	if m.broken != "deletes before its entry" {
		if _, err := l.Append(ctx, Entry{Kind: KindPrune, Victims: []string{victim}}); err != nil {
			return
		}
	}
	(view{m, k}).Delete(ctx, victim) //nolint:errcheck // it cannot fail here
}

func (m *model) fail(format string, args ...any) {
	if m.bad == "" {
		m.bad = fmt.Sprintf(format, args...)
	}
}

// check holds the whole bucket to the protocol.
func (m *model) check() {
	highest := 0
	for n := 1; ; n++ {
		b, ok := m.objects[Key(n)]
		if !ok {
			break
		}
		e, err := known(b)
		if err != nil {
			m.fail("entry %d: %v", n, err)
			return
		}
		if e.Attempt < highest {
			m.fail("entry %d of attempt %d follows one of attempt %d", n, e.Attempt, highest)
		}
		highest = max(highest, e.Attempt)
	}
	for _, a := range m.acked {
		e, err := known(m.objects[Key(a.Number)])
		if err != nil || e.Nonce != a.Nonce || e.Attempt != a.Attempt {
			m.fail("commit %d of attempt %d was acknowledged and is not in the log", a.Number, a.Attempt)
		}
	}
}

// decoded entries; there are few, looked at often.
var decoded = map[string]Entry{}

func known(b []byte) (Entry, error) {
	if e, ok := decoded[string(b)]; ok {
		return e, nil
	}
	e, err := decode(b)
	if err == nil {
		decoded[string(b)] = e
	}
	return e, err
}

// state is a hash of everything that decides what can still happen.
func (m *model) state() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	keys := make([]string, 0, len(m.objects))
	for k := range m.objects {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		h.WriteString(k)
		h.Write(m.objects[k])
	}
	for _, k := range m.tasks {
		fmt.Fprint(&h, k.seen, k.done)
	}
	return h.Sum64()
}

// view is the bucket as one attempt sees it: each call is a step.
type view struct {
	m *model
	k *task
}

func (v view) call(op, key string) {
	if !v.k.yield(struct{}{}) {
		panic(stopped{})
	}
	v.note(op, key)
}

// note makes an answer part of the attempt's local state.
func (v view) note(parts ...string) {
	var h maphash.Hash
	h.SetSeed(seed)
	fmt.Fprint(&h, v.k.seen)
	for _, p := range parts {
		h.WriteString(p)
		h.WriteByte(0)
	}
	v.k.seen = h.Sum64()
}

func (v view) PutIfAbsent(_ context.Context, key string, data []byte) error {
	v.call("put", key)
	if _, ok := v.m.objects[key]; ok {
		v.note("exists")
		return bucket.ErrExists
	}
	v.m.objects[key] = data
	if e, err := known(data); err == nil && e.Kind == KindPrune {
		for _, x := range e.Victims {
			v.m.listed[x] = true
		}
	}
	return nil
}

func (v view) Get(_ context.Context, key string, _, _ int64) (io.ReadCloser, error) {
	v.call("get", key)
	b, ok := v.m.objects[key]
	if !ok {
		v.note("missing")
		return nil, bucket.ErrNotFound
	}
	v.note(string(b))
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (v view) List(_ context.Context, prefix, after string, _ int) ([]bucket.Object, bool, error) {
	v.call("list", prefix)
	var page []bucket.Object
	for k := range v.m.objects {
		if strings.HasPrefix(k, prefix) && k > after {
			page = append(page, bucket.Object{Key: k})
		}
	}
	slices.SortFunc(page, func(a, b bucket.Object) int { return strings.Compare(a.Key, b.Key) })
	for _, o := range page {
		v.note(o.Key)
	}
	return page, false, nil
}

func (v view) Delete(_ context.Context, key string) error {
	v.call("delete", key)
	if !v.m.listed[key] {
		v.m.fail("%s is deleted, and no entry lists it", key)
	}
	delete(v.m.objects, key)
	return nil
}

func (v view) Put(context.Context, string, io.Reader, int64) error { panic("not part of the protocol") }

// explorer plays every order of steps.
type explorer struct {
	t      *testing.T
	broken string
	seen   map[uint64]bool
	path   []byte
	bad    string
	most   int // longest log
}

func (x *explorer) replay() *model {
	m := newModel(x.t, x.broken)
	for _, i := range x.path {
		m.step(int(i))
	}
	return m
}

// visit goes on from a model at the end of x.path, which it uses up.
func (x *explorer) visit(m *model) {
	m.check()
	if m.bad != "" && x.bad == "" {
		x.bad = fmt.Sprintf("%s, by the steps %v", m.bad, x.path)
	}
	s := m.state()
	if x.seen[s] || x.bad != "" {
		m.close()
		return
	}
	x.seen[s] = true
	for n := x.most + 1; m.objects[Key(n)] != nil; n++ {
		x.most = n
	}
	var open []int
	for i, k := range m.tasks {
		if !k.done {
			open = append(open, i)
		}
	}
	if len(open) == 0 {
		m.close()
	}
	for n, i := range open {
		next := m
		if n < len(open)-1 {
			next = x.replay() // the last one goes on with the model itself
		}
		next.step(i)
		x.path = append(x.path, byte(i))
		x.visit(next)
		x.path = x.path[:len(x.path)-1]
	}
}

func explore(t *testing.T, broken string) *explorer {
	x := &explorer{t: t, broken: broken, seen: map[uint64]bool{}}
	x.visit(newModel(t, broken))
	return x
}

// TestEnumerate plays every order of the storage calls of three attempts.
func TestEnumerate(t *testing.T) {
	began := time.Now()
	x := explore(t, "")
	if x.bad != "" {
		t.Fatal(x.bad)
	}
	t.Logf("%d states, logs of up to %d entries, %s", len(x.seen), x.most, time.Since(began).Round(time.Millisecond))
	if len(x.seen) < 10_000 || x.most < 6 {
		t.Errorf("%d states and logs of %d entries: the enumeration does not go far", len(x.seen), x.most)
	}
}

// TestEnumerateCatches shows that the enumeration can fail.
func TestEnumerateCatches(t *testing.T) {
	for _, broken := range []string{"fence skipped", "deletes before its entry", "nonce not compared"} {
		if x := explore(t, broken); x.bad == "" {
			t.Errorf("%s: not caught in %d states", broken, len(x.seen))
		} else {
			t.Logf("%s: %s", broken, x.bad)
		}
	}
}
