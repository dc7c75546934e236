package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// mixedTries is how often one file of a mixed commit is read until it rests.
const mixedTries = 5

// mixed reads each file until it rests by itself: every file is consistent, the
// set may not be. A file that never rests is saved as it was read last, and
// named.
func (s *Saver) mixed(ctx context.Context, p *packer, memo *memo, warnings []string) (capture, error) {
	trees, walked, _, err := s.walkAll(ctx)
	if err != nil {
		return capture{}, err
	}
	at := s.wall(walked)
	var restless []string
	for name, t := range trees {
		kept := t[:0]
		first := map[[2]uint64]string{} // the name that has an inode's content
		for _, n := range t {
			id := [2]uint64{n.stat.Dev, n.stat.Ino}
			if n.Type == typeLink {
				if to, ok := first[id]; ok {
					n.Target = to
					kept = append(kept, n)
					continue
				}
				// Its first name went away meanwhile, so it is the first now.
				n.Type, n.Target, n.Size = typeFile, "", n.stat.Size
			}
			if n.Type == typeFile {
				got, rested, err := s.restOne(ctx, p, name, n, memo)
				if err != nil {
					return capture{}, err
				}
				if got.Type == "" {
					continue // gone
				}
				if !rested {
					restless = append(restless, n.Path)
				}
				n = got
				first[id] = n.Path
			}
			kept = append(kept, n)
		}
		trees[name] = kept
	}
	if len(restless) > 0 {
		warnings = append(warnings, fmt.Sprintf("%d files never rested and are saved as they were read: %q",
			len(restless), restless[:min(len(restless), manyWarnings)]))
	}
	return capture{trees: trees, at: at, warnings: warnings, walked: walked}, nil
}

// restOne reads a file until it looks the same before and after. An empty type:
// it is gone.
func (s *Saver) restOne(ctx context.Context, p *packer, name string, n node, memo *memo) (got node, rested bool, err error) {
	path := fullPath(s.o.Roots[name], n.Path)
	k := kindOf(s.o.Roots[name])
	if got, ok := memo.get(name + "/" + n.Path); ok && got.stat == n.stat && !k.always {
		n.Chunks = got.Chunks
		return n, true, nil
	}
	var last node
	for try := range mixedTries {
		now, err := look(path, n.Path)
		if errors.Is(err, errVanished) || err == nil && now.Type != typeFile {
			return node{}, true, nil
		}
		if err != nil {
			return node{}, false, err
		}
		if err := waitOutTick(ctx, []changed{{node: now}}, time.Now()); err != nil {
			return node{}, false, err
		}
		got, err := readUpTo(ctx, p, k, path, now, try == mixedTries-1)
		if errors.Is(err, errVanished) {
			continue
		}
		if err != nil {
			return node{}, false, err
		}
		if after, err := look(path, n.Path); err == nil && after.stat == got.stat {
			if !k.always || last.Type != "" && slices.Equal(last.Chunks, got.Chunks) {
				return got, true, nil
			}
		}
		last = got
	}
	if last.Type != "" {
		// A file that never rests is never skipped by the next save.
		last.dirty = true
	}
	return last, false, nil
}
