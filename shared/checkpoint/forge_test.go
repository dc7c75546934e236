package checkpoint

import (
	"context"
	"encoding/json"

	"anycloud/shared/bucket"
)

// Forge commits dir with trees that change has been over, hashes and all as they
// should be: what somebody who may write the bucket could put there.
func Forge(ctx context.Context, objects bucket.Objects, dir string, change func(tree []byte) []byte) error {
	s, err := NewSaver(Options{Objects: objects, Attempt: 1, Roots: map[string]string{"checkpoint": dir}})
	if err != nil {
		return err
	}
	if err := s.loadNewest(ctx); err != nil {
		return err
	}
	p := s.newPacker(ctx)
	c, err := s.capture(ctx, p, SaveRequest{})
	if err != nil {
		return err
	}
	es := make([]entry, len(c.trees["checkpoint"]))
	for i, n := range c.trees["checkpoint"] {
		es[i] = n.entry
	}
	plain, err := json.Marshal(es)
	if err != nil {
		return err
	}
	segment := p.add(change(plain))
	top := p.add(encodeList([]Hash{segment}))
	root := Root{Version: Version, Clean: true, Trees: []Tree{{Name: "checkpoint", Segments: top}}}
	_, err = s.commit(ctx, p, c, root, []Hash{segment, top}, Result{})
	return err
}
