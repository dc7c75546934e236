package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// stateFormat grows when older programs could no longer read the file right.
const stateFormat = 1

// state is a training run at the end of an epoch.
type state struct {
	Seed  uint64
	Epoch int // finished ones
	Net   *net
}

// stateFile is the second line of the file. The first is the SHA-256 of it, in
// hexadecimal: a file cut short or altered is found out.
type stateFile struct {
	Format  int    `json:"format"`
	Seed    uint64 `json:"seed"`
	Epoch   int    `json:"epoch"`
	Weights []byte `json:"weights"` // see net.bytes
}

func statePath(dir string) string { return filepath.Join(dir, "state") }

// open reads the state in dir, or begins a new one if there is none. Anything
// else that is wrong is an error: starting over would throw work away.
func open(dir string, seed uint64) (*state, error) {
	path := statePath(dir)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &state{Seed: seed, Net: newNet(seed)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	s, err := parseState(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove it to start over", path, err)
	}
	if s.Seed != seed {
		return nil, fmt.Errorf("%s belongs to -seed %d, not %d: use that seed, or remove it to start over", path, s.Seed, seed)
	}
	return s, nil
}

func parseState(b []byte) (*state, error) {
	sum, body, _ := bytes.Cut(b, []byte("\n"))
	want := sha256.Sum256(body)
	if string(sum) != hex.EncodeToString(want[:]) {
		return nil, errors.New("the saved state is damaged: its checksum does not match")
	}
	var f stateFile
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, fmt.Errorf("the saved state is damaged: %w", err)
	}
	if f.Format != stateFormat {
		return nil, fmt.Errorf("the saved state has format %d, this program knows %d", f.Format, stateFormat)
	}
	s := &state{Seed: f.Seed, Epoch: f.Epoch, Net: blank()}
	if !s.Net.setBytes(f.Weights) {
		return nil, fmt.Errorf("the saved state is of another network: %d bytes of weights, not %d", len(f.Weights), 8*weights)
	}
	return s, nil
}

func (s *state) save(dir string) error {
	body, err := json.Marshal(stateFile{Format: stateFormat, Seed: s.Seed, Epoch: s.Epoch, Weights: s.Net.bytes()})
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	sum := sha256.Sum256(body)
	b := append([]byte(hex.EncodeToString(sum[:])+"\n"), body...)
	if err := replace(statePath(dir), b); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// result is what result.json holds.
type result struct {
	Epochs   int     `json:"epochs"`
	Seed     uint64  `json:"seed"`
	Accuracy float64 `json:"accuracy"` // Correct / Of
	Correct  int     `json:"correct"`
	Of       int     `json:"of"`
	SHA256   string  `json:"sha256"` // of the final weights
}

func (r result) save(dir string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	if err := replace(filepath.Join(dir, "result.json"), append(b, '\n')); err != nil {
		return fmt.Errorf("save result: %w", err)
	}
	return nil
}

// replace puts b at path so that a reader, and whoever comes after a crash at
// any line of it, finds the old content or the new one. The temporary name is
// always the same, so that a crash leaves at most one such file behind.
func replace(path string, b []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := writeSynced(tmp, b); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	// The rename itself lasts only once the directory is on disk.
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
