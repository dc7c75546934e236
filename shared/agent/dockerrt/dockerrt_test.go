package dockerrt_test

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"anycloud/shared/agent/dockerrt"
	"anycloud/shared/agent/runtime"
	"anycloud/shared/agent/runtimetest"
	"anycloud/shared/internal/testimage"
)

// imageEnv hands the image's name to the processes that play agents.
const imageEnv = "ANYCLOUD_TEST_IMAGE"

func harness() runtimetest.Harness {
	return runtimetest.Harness{
		New:      func(dir string) (runtime.Runtime, error) { return dockerrt.New(dir, nil) },
		Image:    os.Getenv(imageEnv),
		OwnPaths: true,
		OwnProc:  true,
	}
}

func TestMain(m *testing.M) {
	os.Exit(runtimetest.Main(m, harness(), dockerrt.Engine{}))
}

// needImage makes an image of busybox for the time of a test.
func needImage(t *testing.T) runtimetest.Harness {
	t.Helper()
	name := "anycloud-test/busybox:" + strings.ToLower(rand.Text())
	testimage.Busybox(t, name)
	t.Setenv(imageEnv, name)
	return harness()
}

func TestSuite(t *testing.T) {
	h := needImage(t)
	runtimetest.Run(t, h)
}
