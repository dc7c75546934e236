package trial

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// checkClean holds a clean commit against the model: the whole directory as it
// was at one moment between the save's begin and end.
func (b *busyTrial) checkClean(before, after uint64) error {
	t, err := b.read()
	if err != nil {
		return err
	}
	if t.done < before || t.begun > after || t.begun != t.done && t.begun != t.done+1 {
		return fmt.Errorf("operation %d had begun and %d was done; when the save began, %d were done, and %d begun when it ended", t.begun, t.done, before, after)
	}
	for b.model.n < t.done {
		b.model.apply(b.model.next())
	}
	m := *b.model // as it may be too: with the operation that had begun
	var o op
	if t.begun > t.done {
		m.files = slices.Clone(m.files)
		o = m.next()
		m.apply(o)
	}
	for i, got := range t.files {
		was, will := b.model.files[i], m.files[i]
		if same(got, was) || same(got, will) {
			continue
		}
		if o.kind == opCreate && o.file == i && t.begun > t.done && got != nil && len(got) == 0 {
			continue // made, and not written yet
		}
		return fmt.Errorf("at operation %d, file %d must hold %x, and holds %x", t.done, i, was, got)
	}
	if t.hot != b.model.hot && t.hot != m.hot {
		return fmt.Errorf("at operation %d, the mapped file holds %d and not %d", t.done, t.hot, b.model.hot)
	}
	ns, err := b.readNames()
	if err != nil {
		return err
	}
	if ns.Seen > t.begun {
		return fmt.Errorf("a process had seen operation %d begin, of which the commit, at %d, knows nothing", ns.Seen, t.begun)
	}
	return nil
}

// same files, or both none.
func same(a, b []uint64) bool { return (a == nil) == (b == nil) && slices.Equal(a, b) }

// readNames reads the file that names its siblings, and holds them against it.
func (b *busyTrial) readNames() (ns names, err error) {
	dir := filepath.Join(b.into, "named")
	text, err := os.ReadFile(filepath.Join(dir, "names"))
	if err != nil {
		return ns, err
	}
	if err := json.Unmarshal(text, &ns); err != nil {
		return ns, fmt.Errorf("the names: %w", err)
	}
	for name, want := range ns.Hashes {
		c, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return ns, fmt.Errorf("a mix across files: %w", err)
		}
		if sum := sha256.Sum256(c); hex.EncodeToString(sum[:]) != want {
			return ns, fmt.Errorf("a mix across files: %s is not what the names say", name)
		}
	}
	return ns, nil
}

// checkMixed holds each file of a mixed commit against everything that it was
// since the commit before.
func (b *busyTrial) checkMixed(after uint64) error {
	t, err := b.read()
	if err != nil {
		return err
	}
	ok := make([]bool, busyFiles)
	for i, f := range t.files {
		ok[i] = same(f, b.model.files[i])
	}
	for b.model.n < after {
		o := b.model.next()
		b.model.apply(o)
		for _, i := range o.touched() {
			got := t.files[i]
			ok[i] = ok[i] || same(got, b.model.files[i]) || o.kind == opCreate && got != nil && len(got) == 0
		}
	}
	if i := slices.Index(ok, false); i >= 0 {
		return fmt.Errorf("a mixed commit: file %d was never %x", i, t.files[i])
	}
	return nil
}
