package local

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// DefaultHome is where everything local lies unless ANYCLOUD_HOME says otherwise.
func DefaultHome() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "anycloud"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a home: %w: set ANYCLOUD_HOME", err)
	}
	return filepath.Join(home, ".local", "state", "anycloud"), nil
}

// MakeHome makes the directory, for its owner alone.
func MakeHome(home string) error {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return fmt.Errorf("make the home: %w: set ANYCLOUD_HOME to a directory that you may write", err)
	}
	return nil
}

func endpointFile(home string) string { return filepath.Join(home, "endpoint") }

// Endpoint reads where the home's control plane listens; "" if none ever did.
func Endpoint(home string) (string, error) {
	b, err := os.ReadFile(endpointFile(home))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// Token reads the home's bearer token, making it the first time.
func Token(home string) (string, error) {
	path := filepath.Join(home, "token")
	b, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(b))) >= 32 {
		return strings.TrimSpace(string(b)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the token: %w", err)
	}
	var raw [32]byte
	rand.Read(raw[:]) //nolint:errcheck // never fails
	if err := writeFile(path, hex.EncodeToString(raw[:])+"\n"); err != nil {
		return "", fmt.Errorf("write the token: %w", err)
	}
	return Token(home)
}

// writeFile replaces a file whole, readable by its owner alone.
func writeFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
