//go:build !linux

package localcloud

import (
	"testing"

	"anycloud/shared/internal/suite"
)

func TestElsewhere(t *testing.T) {
	if c, err := New(Options{Root: t.TempDir(), Stack: "stack", AgentPath: "x"}); err == nil {
		t.Errorf("made %v", c)
	}
	suite.Need(t, "linux")
}
