package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStateRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "if", "absent")
	s := &state{Seed: 3, Epoch: 12, Net: newNet(3)}
	if err := s.save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := open(dir, 3)
	if err != nil {
		t.Fatal(err)
	}
	if got.Epoch != 12 || got.Seed != 3 || got.Net.sum() != s.Net.sum() {
		t.Errorf("epoch %d, seed %d", got.Epoch, got.Seed)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := open(dir, 4); err == nil || !strings.Contains(err.Error(), "-seed 3") {
		t.Errorf("another seed: %v", err)
	}
}

func TestNoStateBeginsAnew(t *testing.T) {
	s, err := open(t.TempDir(), 5)
	if err != nil || s.Epoch != 0 || s.Net.sum() != newNet(5).sum() {
		t.Errorf("got %+v, %v", s, err)
	}
	if newNet(5).sum() == newNet(6).sum() {
		t.Error("two seeds began with the same weights")
	}
}

func TestDamagedStateIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := (&state{Seed: 1, Epoch: 1, Net: newNet(1)}).save(dir); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(statePath(dir))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for name, bad := range map[string][]byte{
		"empty": {}, "cut short": good[:len(good)-1], "cut to its checksum": good[:64],
		"a flipped bit": flipped, "more behind it": append(bytes.Clone(good), 'x'),
	} {
		if err := os.WriteFile(statePath(dir), bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := open(dir, 1); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnreadableStateIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(statePath(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := open(dir, 1); err == nil {
		t.Error("a directory passed for no state")
	}
	if err := newState().save(dir); err == nil {
		t.Error("saved over a directory")
	}
}

func newState() *state { return &state{Seed: 1, Net: newNet(1)} }
