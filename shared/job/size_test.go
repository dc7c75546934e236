package job

import (
	"encoding/json"
	"testing"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		`"16GiB"`: 16 << 30, `"16 GiB"`: 16 << 30, `"8g"`: 8 << 30, `"500MB"`: 500e6, `"1.5k"`: 1536, `4096`: 4096, `"4096"`: 4096, `"0"`: 0,
	} {
		var got Size
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{`"16GX"`, `"GiB"`, `""`, `"-1"`, `1.5`, `1e30`, `"9999999TiB"`, `true`, `[]`, `"NaN"`, `"inf"`} {
		var got Size
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s is read as %d", text, got)
		}
	}
}
