package checkpoint

import (
	"context"
	"fmt"
	"os"
)

const (
	// smallFile is a file that is fetched along with its neighbours.
	smallFile = 4 * ChunkSize
	// batchBytes is how much of small files one worker holds in memory.
	batchBytes = 4 << 20
)

// batches cuts the files into what one worker fetches at a time: one large file,
// or many small ones, which lie side by side in the packs.
func batches(files []*entry) [][]*entry {
	var all [][]*entry
	var small []*entry
	size := int64(0)
	for _, e := range files {
		if e.Size > smallFile || e.Lists != nil {
			all = append(all, []*entry{e})
			continue
		}
		if size+e.Size > batchBytes {
			all = append(all, small)
			small, size = nil, 0
		}
		small = append(small, e)
		// An empty file is not for nothing: a batch is bounded in files, too.
		size += max(e.Size, 512)
	}
	if len(small) > 0 {
		all = append(all, small)
	}
	return all
}

// batch makes small files, from as few requests as their places allow.
func (b *builder) batch(ctx context.Context, root *os.Root, files []*entry) error {
	var hs []Hash
	for _, e := range files {
		hs = append(hs, e.Chunks...)
	}
	pieces := make([][]byte, len(hs))
	if err := b.store.scattered(ctx, hs, func(i int, p []byte) error { pieces[i] = p; return nil }); err != nil {
		return err
	}
	for _, e := range files {
		mine := pieces[:len(e.Chunks)]
		pieces = pieces[len(mine):]
		err := b.write(root, e, func(put func(offset int64, p []byte) error) error {
			for i, p := range mine {
				offset := int64(i) * ChunkSize
				switch {
				case p == nil:
				case int64(len(p)) != min(ChunkSize, e.Size-offset):
					return fmt.Errorf("%w: %q: a chunk has the wrong length", ErrDamaged, e.Path)
				default:
					if err := put(offset, p); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
