package trial

import (
	"math/rand/v2"
	"slices"
)

// A busy job's operations are numbered, and each is decided by its number and
// what came before. So whoever knows the number knows what the directory must
// hold, and a saved directory that names its number can be held against it.
type model struct {
	seed  uint64
	n     uint64     // operations done
	files [][]uint64 // the stamps of a file's pages; nil: there is none
	hot   [hotPages][hotWords]uint64
}

const (
	busyFiles = 1000
	// pagesMost of a file, so that all files together are below 100 MiB.
	pagesMost = 25
	hotPages  = 32 // of the file that is written through a mapping
	hotWords  = 4  // of each of its pages
)

func newModel(seed uint64) *model { return &model{seed: seed, files: make([][]uint64, busyFiles)} }

// kinds of operations.
const (
	opRewrite  = iota // pages in place
	opAppend          // a page
	opTruncate        // to fewer pages
	opRename          // over another file, which is gone then
	opDelete
	opCreate // with some pages
	opStore  // a word, through the mapping
)

// op is one operation.
type op struct {
	kind, file, to int
	page, pages    int
}

// next is the operation after those that are done.
func (m *model) next() op {
	r := rand.New(rand.NewPCG(m.seed, m.n+1))
	o := op{file: r.IntN(busyFiles)}
	switch p := r.IntN(100); {
	case p < 25:
		o.kind, o.page, o.to = opStore, r.IntN(hotPages), r.IntN(hotWords)
		return o
	case m.files[o.file] == nil:
		o.kind, o.pages = opCreate, 1+r.IntN(pagesMost)
	case p < 80:
		o.kind = opRewrite
	case p < 94:
		o.kind = opAppend
	case p < 95:
		o.kind = opTruncate
	case p < 98:
		o.kind, o.to = opRename, r.IntN(busyFiles)
	default:
		o.kind = opDelete
	}
	has := len(m.files[o.file])
	switch {
	case o.kind == opAppend && has == pagesMost:
		o.kind = opTruncate
	case o.kind == opRename && o.to == o.file:
		o.kind = opDelete
	}
	switch o.kind {
	case opRewrite:
		if has == 0 {
			o.kind = opAppend
			break
		}
		o.page = r.IntN(has)
		o.pages = 1 + r.IntN(min(4, has-o.page))
	case opTruncate:
		o.pages = r.IntN(has + 1)
	}
	return o
}

// stampOf is the stamp of a page that the next operation writes.
func (m *model) stampOf(page int) uint64 { return (m.n+1)<<8 | uint64(page) }

// apply does the next operation.
func (m *model) apply(o op) {
	f := &m.files[o.file]
	switch o.kind {
	case opRewrite:
		*f = slices.Clone(*f)
		for i := range o.pages {
			(*f)[o.page+i] = m.stampOf(o.page + i)
		}
	case opAppend:
		*f = append(slices.Clone(*f), m.stampOf(len(*f)))
	case opTruncate:
		*f = slices.Clone((*f)[:o.pages])
	case opRename:
		m.files[o.to], *f = *f, nil
	case opDelete:
		*f = nil
	case opCreate:
		*f = make([]uint64, o.pages)
		for i := range *f {
			(*f)[i] = m.stampOf(i)
		}
	case opStore:
		m.hot[o.page][o.to] = m.n + 1
	}
	m.n++
}

// touched are the files that an operation changes.
func (o op) touched() []int {
	switch o.kind {
	case opStore:
		return nil
	case opRename:
		return []int{o.file, o.to}
	}
	return []int{o.file}
}
