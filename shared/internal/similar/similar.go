// Package similar guesses what a mistyped name means.
package similar

import (
	"strings"

	"github.com/agext/levenshtein"
)

// enough is the least similarity of a name that is worth proposing.
const enough = 0.5

// Nearest is the known name that a mistyped one most likely means (itself, if it
// is one), or "" if none is near. Capitals do not matter.
func Nearest(name string, known []string) string {
	best, at := "", enough
	for _, k := range known {
		if s := levenshtein.Similarity(strings.ToLower(name), strings.ToLower(k), nil); s > at {
			best, at = k, s
		}
	}
	return best
}
