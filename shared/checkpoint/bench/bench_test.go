package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var (
	full   = flag.Bool("full", false, "full sizes, and every target held")
	repeat = flag.Int("repeat", 3, "runs of each row of the full form, whose median counts")
	write  = flag.String("write", "", "the document to write the table into")
	store  = flag.String("store", "s3", "where our commits go: s3, or file to measure without a server")
)

// sizes of the work.
type sizes struct {
	files    int // of 16 MiB
	blocks   int // of 16 KiB, rewritten among them
	small    int // files of 4 KiB
	large    int64
	hour     int64 // bytes of the state of the hour
	minutes  int
	repeat   int
	smallRun int
}

func wanted() sizes {
	if *full {
		return sizes{files: 64, blocks: 640, small: 100_000, large: 20 << 30, hour: 5 << 29, minutes: 60, repeat: *repeat, smallRun: 1}
	}
	return sizes{files: 2, blocks: 20, small: 500, large: 256 << 20, hour: 16 << 20, minutes: 3, repeat: 1, smallRun: 1}
}

const fileSize = 16 << 20

// memoryMost of ours, in every row.
const memoryMost = 150 << 20

type bench struct {
	t     *testing.T
	s     *server
	tools []tool
	size  sizes
	work  string
	homes int
	table table
}

// TestBench does every row with every program.
func TestBench(t *testing.T) {
	s := startServer(t)
	b := &bench{t: t, s: s, tools: tools(t, s), size: wanted(), work: t.TempDir()}
	b.large64()
	b.manySmall()
	b.oneLarge()
	idle(t, &b.table, b.size)
	hour(t, &b.table, b.size)
	text := b.table.markdown() + "\nMeasured on " + machine() + ", shared by the programs and the server.\n"
	fmt.Print(text)
	for _, r := range b.table.rows {
		if *full && r.target != "" && !r.met {
			t.Logf("missed: %s: %s", r.work, r.target)
		}
	}
	if *write != "" {
		if err := into(*write, text); err != nil {
			t.Fatal(err)
		}
	}
}

// home is a new place for what a program keeps, and its bucket's name.
func (b *bench) home() string {
	b.t.Helper()
	b.homes++
	home := filepath.Join(b.work, fmt.Sprintf("bench-%03d", b.homes))
	if err := os.MkdirAll(home, 0o755); err != nil {
		b.t.Fatal(err)
	}
	b.s.newBucket(b.t, filepath.Base(home))
	return home
}

// median of runs, by time.
func median(cs []cost) cost {
	slices.SortFunc(cs, func(x, y cost) int { return int(x.took - y.took) })
	return cs[len(cs)/2]
}

// add makes a row of each program's runs, in the order of b.tools.
func (b *bench) add(work string, bytes int64, runs map[string][]cost, target func(ours cost, others map[string]cost) (string, bool)) {
	b.t.Helper()
	others := map[string]cost{}
	var mine cost
	for name, cs := range runs {
		if name == b.tools[0].name {
			mine = median(cs)
		} else {
			others[name] = median(cs)
		}
	}
	for i, tl := range b.tools {
		r := row{work: work, tool: tl.name, cost: mine, bytes: bytes}
		if i > 0 {
			c, ok := others[tl.name]
			if !ok {
				continue
			}
			r.cost, r.times = c, float64(c.took)/float64(mine.took)
		} else {
			r.target, r.met = target(mine, others)
			if mine.rss > memoryMost {
				r.target, r.met = r.target+fmt.Sprintf("; memory ≤ %s", mib(memoryMost)), false
			}
		}
		b.table.rows = append(b.table.rows, r)
		b.t.Logf("%s, %s: %s, cpu %s, sent %s, %d requests, memory %s; %s", work, r.tool, seconds(r.took), seconds(r.cpu), mib(r.sent), r.requests, mib(r.rss), r.target)
	}
}

// faster says whether all others took so many times as long.
func faster(mine cost, others map[string]cost, times float64, names ...string) bool {
	for _, name := range names {
		if c, ok := others[name]; ok && float64(c.took) < times*float64(mine.took) {
			return false
		}
	}
	return true
}

// large64 is a state of large files: saved in full, scattered blocks rewritten,
// one file grown, nothing changed, restored.
func (b *bench) large64() {
	t, n := b.t, b.size.files
	dir := filepath.Join(b.work, "large")
	state := int64(n) * fileSize
	runs := map[string]map[string][]cost{}
	note := func(what string, tl tool, c cost) {
		if runs[what] == nil {
			runs[what] = map[string][]cost{}
		}
		runs[what][tl.name] = append(runs[what][tl.name], c)
	}
	for range b.size.repeat {
		for i, tl := range b.tools {
			// Every program meets the same bytes.
			os.RemoveAll(dir)
			files(t, dir, n, fileSize)
			r := source(9)
			home := b.home()
			if tl.begin != nil {
				b.s.measure(t, tl, tl.begin(home))
			}
			note("full", tl, b.s.measure(t, tl, tl.save(home, dir)))
			rewrite(t, dir, r, b.size.blocks, n, fileSize)
			note("blocks", tl, b.s.measure(t, tl, tl.save(home, dir)))
			grow(t, nth(dir, n-1), 1<<20)
			note("grown", tl, b.s.measure(t, tl, tl.save(home, dir)))
			note("nothing", tl, b.s.measure(t, tl, tl.save(home, dir)))
			into := filepath.Join(b.work, "restored")
			note("restore", tl, b.s.measure(t, tl, tl.restore(home, into)))
			os.RemoveAll(into)
			if i == 0 && *store == "file" {
				os.RemoveAll(ours(home, filepath.Base(home))[len("file://"):])
			}
			os.RemoveAll(home)
			b.s.empty(t)
		}
	}
	os.RemoveAll(dir)
	b.add(fmt.Sprintf("full save, %d × 16 MiB", n), state, runs["full"], func(m cost, o map[string]cost) (string, bool) {
		perGiB := m.cpu.Seconds() / (float64(state) / (1 << 30))
		return "1.5× faster than rclone, ≤ 2.0 CPU-s per GiB", faster(m, o, 1.5, "rclone") && perGiB <= 2
	})
	b.add(fmt.Sprintf("%d scattered blocks of 16 KiB rewritten", b.size.blocks), 0, runs["blocks"], func(m cost, o map[string]cost) (string, bool) {
		return "≤ 60 MiB sent, 3× faster than both", m.sent <= 60<<20 && faster(m, o, 3, "rclone", "restic")
	})
	b.add("one file grown by 1 MiB", 0, runs["grown"], func(m cost, _ map[string]cost) (string, bool) {
		// The tree's changed segment, the lists, tables and the headers come on top.
		return "≤ tail + one chunk (64 KiB) sent", m.sent <= 1<<20+64<<10+64<<10
	})
	b.add("nothing changed, a process of its own", 0, runs["nothing"], func(cost, map[string]cost) (string, bool) { return "", true })
	b.add(fmt.Sprintf("restore of %d × 16 MiB", n), state, runs["restore"], func(m cost, o map[string]cost) (string, bool) {
		return "1.2× faster than rclone", faster(m, o, 1.2, "rclone")
	})
}

func grow(t *testing.T, path string, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, n)
	noise(source(uint64(n)), p)
	if _, err := f.Write(p); err != nil {
		t.Fatal(err)
	}
}

// manySmall is a state of many small files.
func (b *bench) manySmall() {
	t, n := b.t, b.size.small
	dir := filepath.Join(b.work, "small")
	files(t, dir, n, 4096)
	first, second, back := map[string][]cost{}, map[string][]cost{}, map[string][]cost{}
	homes := map[string]string{}
	for _, tl := range b.tools {
		homes[tl.name] = b.home()
		if tl.begin != nil {
			b.s.measure(t, tl, tl.begin(homes[tl.name]))
		}
		first[tl.name] = []cost{b.s.measure(t, tl, tl.save(homes[tl.name], dir))}
	}
	r := source(4)
	page := make([]byte, 4096)
	for i := 0; i < n; i += 100 {
		noise(r, page)
		if err := os.WriteFile(nth(dir, i), page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tl := range b.tools {
		second[tl.name] = []cost{b.s.measure(t, tl, tl.save(homes[tl.name], dir))}
	}
	for _, tl := range b.tools {
		into := filepath.Join(b.work, "restored")
		back[tl.name] = []cost{b.s.measure(t, tl, tl.restore(homes[tl.name], into))}
		os.RemoveAll(into)
	}
	b.s.empty(t)
	state := int64(n) * 4096
	both := func(m cost, o map[string]cost) (string, bool) {
		return "faster than both, few requests", faster(m, o, 1, "rclone", "restic") && (*store == "file" || m.requests < n/100)
	}
	b.add(fmt.Sprintf("%d files of 4 KiB, full", n), state, first, both)
	b.add(fmt.Sprintf("%d files of 4 KiB, 1%% changed", n), 0, second, both)
	b.add(fmt.Sprintf("restore of %d files of 4 KiB", n), state, back, func(m cost, o map[string]cost) (string, bool) {
		return "1.2× faster than rclone", faster(m, o, 1.2, "rclone")
	})
}

// oneLarge is one file, a tenth of it data, and then the same with other data.
func (b *bench) oneLarge() {
	t := b.t
	tl, home, dir := b.tools[0], b.home(), filepath.Join(b.work, "one")
	sparse(t, filepath.Join(dir, "large"), b.size.large)
	target := func(m cost, _ map[string]cost) (string, bool) { return "memory ≤ 150 MiB", m.rss <= memoryMost }
	name := fmt.Sprintf("one file of %d MiB, sparse (a tenth is data)", b.size.large>>20)
	b.add(name, 0, map[string][]cost{tl.name: {b.s.measure(t, tl, tl.save(home, dir))}}, target)
	into := filepath.Join(b.work, "restored")
	b.add("restore of it", 0, map[string][]cost{tl.name: {b.s.measure(t, tl, tl.restore(home, into))}}, target)
	os.RemoveAll(into)
	os.RemoveAll(dir)
	b.s.empty(t)
}

// elapsed since a moment, at least something.
func elapsed(since time.Time) time.Duration { return max(time.Since(since), time.Microsecond) }
