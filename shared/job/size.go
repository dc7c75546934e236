package job

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size in bytes. It is written as a number, and read as one or as text ("16GiB").
type Size int64

// units of sizes; letters alone mean powers of two, as they do to docker.
var units = map[string]float64{
	"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
}

// ParseSize reads "16GiB", "16g", "500MB", or bytes.
func ParseSize(s string) (Size, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz ")
	n, err := strconv.ParseFloat(digits, 64)
	unit, known := units[strings.TrimSpace(text[len(digits):])]
	if err != nil || !known || n < 0 || n*unit >= math.MaxInt64 {
		return 0, fmt.Errorf("invalid size %q: write for example 500MB, 16GiB or 2TiB", s)
	}
	return Size(n * unit), nil
}

// UnmarshalJSON reads a number of bytes, or text.
func (z *Size) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case float64:
		if v != math.Trunc(v) || math.Abs(v) >= math.MaxInt64 {
			return fmt.Errorf("a size must be whole bytes, or text such as \"16GiB\"")
		}
		*z = Size(v)
		return nil
	case string:
		p, err := ParseSize(v)
		*z = p
		return err
	}
	return fmt.Errorf("a size must be bytes, or text such as \"16GiB\"")
}
