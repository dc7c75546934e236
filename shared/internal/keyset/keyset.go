// Package keyset is a set of strings kept in bytewise order, for the in-memory
// drivers: lookups and pages are binary searches over one slice, and adding at
// the end (a log, growing ids) costs nothing.
package keyset

import "slices"

// Set is an ordered set of strings. The zero value is empty. It is not safe
// for concurrent use.
type Set struct{ keys []string }

// Add puts k into the set.
func (s *Set) Add(k string) {
	if n := len(s.keys); n == 0 || s.keys[n-1] < k {
		s.keys = append(s.keys, k)
		return
	}
	if i, found := slices.BinarySearch(s.keys, k); !found {
		s.keys = slices.Insert(s.keys, i, k)
	}
}

// Remove takes k out of the set.
func (s *Set) Remove(k string) {
	if i, found := slices.BinarySearch(s.keys, k); found {
		s.keys = slices.Delete(s.keys, i, i+1)
	}
}

// Has says whether k is in the set.
func (s *Set) Has(k string) bool {
	_, found := slices.BinarySearch(s.keys, k)
	return found
}

// Len is the number of keys.
func (s *Set) Len() int { return len(s.keys) }

// From returns the keys >= k, in order. The slice is valid until the next
// change and must not be written to.
func (s *Set) From(k string) []string {
	i, _ := slices.BinarySearch(s.keys, k)
	return s.keys[i:]
}

// After returns the keys > k, in order, under the same rule as From.
func (s *Set) After(k string) []string {
	i, found := slices.BinarySearch(s.keys, k)
	if found {
		i++
	}
	return s.keys[i:]
}

// Clone returns an independent copy.
func (s *Set) Clone() Set { return Set{slices.Clone(s.keys)} }
