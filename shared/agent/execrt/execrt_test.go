//go:build linux

package execrt_test

import (
	"os"
	"testing"

	"anycloud/shared/agent/execrt"
	"anycloud/shared/agent/runtime"
	"anycloud/shared/agent/runtimetest"
	"anycloud/shared/internal/suite"
)

func harness() runtimetest.Harness {
	return runtimetest.Harness{New: func(dir string) (runtime.Runtime, error) { return execrt.New(dir, nil), nil }}
}

func TestMain(m *testing.M) {
	os.Exit(runtimetest.Main(m, harness(), execrt.Engine{}, execrt.WithoutCgroup()))
}

func TestSuite(t *testing.T) {
	suite.Need(t, "linux")
	t.Parallel()
	suite.Need(t, "mountns")
	h := harness()
	h.OwnPaths, h.OwnProc = true, true
	runtimetest.Run(t, h)
}
