package similar

import "testing"

func TestNearest(t *testing.T) {
	known := []string{"a100", "a100-80gb", "h100", "persist_bucket"}
	for name, want := range map[string]string{
		"a100": "a100", "A100": "a100", "a10": "a100", "a100-80": "a100-80gb", "persistbucket": "persist_bucket", "xyz": "", "": "",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
