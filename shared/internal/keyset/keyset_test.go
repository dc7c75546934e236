package keyset

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestSetIsAnOrderedSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Set
		model := map[string]bool{}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			k := rapid.StringMatching(`[a-c/]{0,3}`).Draw(t, "key")
			if rapid.Bool().Draw(t, "add") {
				s.Add(k)
				model[k] = true
			} else {
				s.Remove(k)
				delete(model, k)
			}
		}
		want := slices.Sorted(maps.Keys(model))
		if got := s.From(""); !slices.Equal(got, want) {
			t.Fatalf("have %q, want %q", got, want)
		}
		at := rapid.StringMatching(`[a-c/]{0,3}`).Draw(t, "at")
		after := slices.DeleteFunc(slices.Clone(want), func(k string) bool { return k <= at })
		from := slices.DeleteFunc(slices.Clone(want), func(k string) bool { return k < at })
		if !slices.Equal(s.After(at), after) || !slices.Equal(s.From(at), from) {
			t.Fatalf("after %q: %q; from: %q", at, s.After(at), s.From(at))
		}
		if s.Has(at) != model[at] || s.Len() != len(model) {
			t.Fatalf("has %q: %v, len %d", at, s.Has(at), s.Len())
		}
	})
}

func TestCloneIsIndependent(t *testing.T) {
	var s Set
	s.Add("b")
	c := s.Clone()
	c.Add("a")
	s.Add("c")
	if s.Has("a") || c.Has("c") {
		t.Fatal("clone shares memory")
	}
}
