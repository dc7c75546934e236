package boltfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
)

// The format is bbolt's: internal/common/{page,meta,bucket}.go of
// go.etcd.io/bbolt v1.5. Numbers are in the byte order of the machine.
const (
	pageHeader = 16 // id 8, flags 2, count 2, overflow 4
	elemSize   = 16
	bucketHead = 16 // root page 8, sequence 8
	metaSize   = 64

	branchPage, leafPage, freelistPage = 0x01, 0x02, 0x10
	bucketFlag                         = 0x01

	magic, version = 0xED0CDAED, 2
	noFreelist     = 1<<64 - 1
	maxDepth       = 64 // of a sound tree: far below
)

var order = binary.NativeEndian

// verifier walks everything reachable in a file, trusting nothing it reads.
type verifier struct {
	f        *os.File
	pageSize uint64
	high     uint64 // pages in use are below it
	seen     map[uint64]bool
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// verify checks a bbolt file's structure: pages in bounds, used once, of the
// right kind, keys in order, nothing both free and in use.
func verify(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	meta, err := newestMeta(f, uint64(fi.Size()))
	if err != nil {
		return err
	}
	v := &verifier{f: f, pageSize: uint64(order.Uint32(meta[8:])), high: order.Uint64(meta[40:]), seen: map[uint64]bool{0: true, 1: true}}
	if want := v.high * v.pageSize; want > uint64(fi.Size()) || v.high > 1<<40 {
		return damaged("it is cut off at %d bytes, and has %d pages of %d", fi.Size(), v.high, v.pageSize)
	}
	if err := v.tree(order.Uint64(meta[16:]), nil, nil, 0); err != nil {
		return err
	}
	if id := order.Uint64(meta[32:]); id != noFreelist {
		return v.freelist(id)
	}
	return nil
}

// newestMeta is the one of the first two pages with the higher transaction
// number. bbolt is content with one sound page of the two; that would undo the
// last commit without a word, and a commit cut short does not explain it: a
// meta page is 80 bytes in one sector, so a crash leaves the old or the new one.
func newestMeta(f *os.File, size uint64) ([]byte, error) {
	m0, err := meta(f, 0)
	if err != nil {
		return nil, err
	}
	ps := uint64(order.Uint32(m0[8:]))
	if ps < 512 || 2*ps > size {
		return nil, damaged("pages of %d bytes in a file of %d", ps, size)
	}
	m1, err := meta(f, int64(ps))
	if err != nil {
		return nil, err
	}
	if order.Uint64(m1[48:]) > order.Uint64(m0[48:]) {
		return m1, nil
	}
	return m0, nil
}

func meta(f *os.File, pos int64) ([]byte, error) {
	b := make([]byte, pageHeader+metaSize)
	if _, err := f.ReadAt(b, pos); err != nil {
		return nil, damaged("the meta page at %d: %v", pos, err)
	}
	m := b[pageHeader:]
	h := fnv.New64a()
	h.Write(m[:56])
	if order.Uint32(m) != magic || order.Uint32(m[4:]) != version || order.Uint64(m[56:]) != h.Sum64() {
		return nil, damaged("the meta page at %d is not sound", pos)
	}
	return m, nil
}

// page reads a page with its overflow and marks it used.
func (v *verifier) page(id uint64) ([]byte, error) {
	if id < 2 || id >= v.high {
		return nil, damaged("page %d of %d is referred to", id, v.high)
	}
	head := make([]byte, pageHeader)
	if _, err := v.f.ReadAt(head, int64(id*v.pageSize)); err != nil {
		return nil, err
	}
	overflow := uint64(order.Uint32(head[12:]))
	if order.Uint64(head) != id || id+overflow >= v.high {
		return nil, damaged("page %d has a wrong header", id)
	}
	for i := id; i <= id+overflow; i++ {
		if v.seen[i] {
			return nil, damaged("page %d is used twice", i)
		}
		v.seen[i] = true
	}
	b := make([]byte, (overflow+1)*v.pageSize)
	_, err := v.f.ReadAt(b, int64(id*v.pageSize))
	return b, err
}

// tree checks the page and all below it. Keys are >= lo and < hi, where set.
func (v *verifier) tree(id uint64, lo, hi []byte, depth int) error {
	if depth > maxDepth {
		return damaged("page %d is too deep", id)
	}
	p, err := v.page(id)
	if err != nil {
		return err
	}
	return v.elements(p, id, lo, hi, depth)
}

// elements checks a branch or leaf page's content.
func (v *verifier) elements(p []byte, id uint64, lo, hi []byte, depth int) error {
	flags, count := order.Uint16(p[8:]), int(order.Uint16(p[10:]))
	if flags != branchPage && flags != leafPage {
		return damaged("page %d is of kind %#x", id, flags)
	}
	if flags == branchPage && count == 0 || pageHeader+count*elemSize > len(p) {
		return damaged("page %d has %d elements", id, count)
	}
	keys := make([][]byte, count)
	for i := range count {
		at := pageHeader + i*elemSize
		pos, ksize := uint64(order.Uint32(p[at:])), uint64(order.Uint32(p[at+4:]))
		if flags == leafPage {
			pos, ksize = uint64(order.Uint32(p[at+4:])), uint64(order.Uint32(p[at+8:]))
		}
		start := uint64(at) + pos
		if start < uint64(pageHeader+count*elemSize) || start+ksize > uint64(len(p)) {
			return damaged("page %d, key %d is out of bounds", id, i)
		}
		keys[i] = p[start : start+ksize]
		if i > 0 && bytes.Compare(keys[i-1], keys[i]) >= 0 {
			return damaged("page %d, key %d is out of order", id, i)
		}
		if lo != nil && bytes.Compare(keys[i], lo) < 0 || hi != nil && bytes.Compare(keys[i], hi) >= 0 {
			return damaged("page %d, key %d is in the wrong place", id, i)
		}
	}
	for i := range count {
		at := pageHeader + i*elemSize
		if flags == branchPage {
			next := hi
			if i+1 < count {
				next = keys[i+1]
			}
			if err := v.tree(order.Uint64(p[at+8:]), keys[i], next, depth+1); err != nil {
				return err
			}
			continue
		}
		start := uint64(at) + uint64(order.Uint32(p[at+4:])) + uint64(len(keys[i]))
		vsize := uint64(order.Uint32(p[at+12:]))
		if start+vsize > uint64(len(p)) {
			return damaged("page %d, value %d is out of bounds", id, i)
		}
		switch order.Uint32(p[at:]) {
		case 0:
		case bucketFlag:
			if err := v.bucket(p[start:start+vsize], id, depth); err != nil {
				return err
			}
		default:
			return damaged("page %d, element %d is of kind %#x", id, i, order.Uint32(p[at:]))
		}
	}
	return nil
}

// bucket checks a nested bucket: a tree of its own, or one leaf inline.
func (v *verifier) bucket(val []byte, id uint64, depth int) error {
	if len(val) < bucketHead {
		return damaged("page %d has a short bucket", id)
	}
	if root := order.Uint64(val); root != 0 {
		return v.tree(root, nil, nil, depth+1)
	}
	inline := val[bucketHead:]
	if len(inline) < pageHeader || order.Uint16(inline[8:]) != leafPage || order.Uint64(inline) != 0 || depth > maxDepth {
		return damaged("page %d has a bad inline bucket", id)
	}
	return v.elements(inline, id, nil, nil, depth+1)
}

// freelist checks that what is free is not in use: writes would go there.
func (v *verifier) freelist(id uint64) error {
	p, err := v.page(id)
	if err != nil {
		return err
	}
	if order.Uint16(p[8:]) != freelistPage {
		return damaged("page %d is no list of free pages", id)
	}
	count, ids := uint64(order.Uint16(p[10:])), p[pageHeader:]
	if count == 0xFFFF { // more than fit into the header's two bytes
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return damaged("the list of free pages is too long")
	}
	for i := range count {
		free := order.Uint64(ids[8*i:])
		if free >= v.high || v.seen[free] {
			return damaged("page %d is free and in use", free)
		}
		v.seen[free] = true
	}
	return nil
}
