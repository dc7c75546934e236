package job

import (
	"encoding/json"
	"testing"
	"time"
)

func TestDurationText(t *testing.T) {
	for text, want := range map[string]Duration{
		`"90s"`: Duration(90 * time.Second), `"7d"`: Duration(7 * 24 * time.Hour), `"1d12h"`: Duration(36 * time.Hour), `90`: Duration(90 * time.Second),
		`"0s"`: 0, `"never"`: Never,
	} {
		var d Duration
		if err := json.Unmarshal([]byte(text), &d); err != nil || d != want {
			t.Errorf("%s: %v, %v", text, d, err)
		}
		back, err := json.Marshal(d)
		var again Duration
		if err != nil || json.Unmarshal(back, &again) != nil || again != want {
			t.Errorf("%s: written as %s: %v", text, back, err)
		}
	}
	for _, text := range []string{`"soon"`, `"xd"`, `"-1d"`, `true`, `[]`} {
		var d Duration
		if json.Unmarshal([]byte(text), &d) == nil {
			t.Errorf("%s: %v", text, d)
		}
	}
}

// TestZeroIsNoDefault: what a user sets to 0 stays 0.
func TestZeroIsNoDefault(t *testing.T) {
	var s Spec
	if s.GraceTime() != DefaultGrace || s.KeepTime() != DefaultKeep {
		t.Errorf("%s, %s", s.GraceTime(), s.KeepTime())
	}
	if err := json.Unmarshal([]byte(`{"grace": "0s", "keep_checkpoint": 0}`), &s); err != nil || s.GraceTime() != 0 || s.KeepTime() != 0 {
		t.Errorf("%s, %s, %v", s.GraceTime(), s.KeepTime(), err)
	}
}
