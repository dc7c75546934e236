package bucket

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrBadKey: the key is none that every store could hold. The call did nothing.
var ErrBadKey = errors.New("invalid key")

const (
	// MaxKey is the longest key in bytes: S3's and GCS's limit.
	MaxKey = 1024
	// MaxKeyElement is the longest part between two slashes: a file name's limit.
	MaxKeyElement = 255
)

// CheckKey refuses, with ErrBadKey, what some store could not hold: a key must
// be valid UTF-8 without control characters, relative, and without empty, "."
// or ".." elements.
func CheckKey(key string) error {
	if key == "" || len(key) > MaxKey {
		return fmt.Errorf("%w: length %d is not 1 to %d", ErrBadKey, len(key), MaxKey)
	}
	if !utf8.ValidString(key) {
		return fmt.Errorf("%w: %q is not UTF-8", ErrBadKey, key)
	}
	for i := range len(key) {
		if key[i] < 0x20 || key[i] == 0x7f {
			return fmt.Errorf("%w: %q has a control character", ErrBadKey, key)
		}
	}
	for rest, more := key, true; more; {
		var e string
		e, rest, more = strings.Cut(rest, "/")
		if e == "" || e == "." || e == ".." || len(e) > MaxKeyElement {
			return fmt.Errorf("%w: %q has an empty, dotted or too long element", ErrBadKey, key)
		}
	}
	return nil
}

// CheckName refuses, with ErrBadKey, a bucket name that some cloud refuses: 3
// to 63 lower case letters, digits and hyphens, with a letter or digit at both
// ends (the rules that S3, GCS and Azure's containers share).
func CheckName(name string) error {
	if len(name) < 3 || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return fmt.Errorf("%w: bucket name %q", ErrBadKey, name)
	}
	for _, c := range []byte(name) {
		if c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return fmt.Errorf("%w: bucket name %q", ErrBadKey, name)
		}
	}
	return nil
}
