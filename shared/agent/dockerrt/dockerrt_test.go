package dockerrt_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"anycloud/shared/agent/dockerrt"
	"anycloud/shared/agent/runtime"
	"anycloud/shared/agent/runtimetest"
	"anycloud/shared/internal/suite"
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

func newClient(t testing.TB) *client.Client {
	t.Helper()
	cli, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	return cli
}

// needImage makes an image of busybox for the time of a test.
func needImage(t *testing.T) runtimetest.Harness {
	t.Helper()
	suite.Need(t, "docker")
	suite.Need(t, "busybox")
	cli := newClient(t)
	name := "anycloud-test/busybox:" + strings.ToLower(rand.Text())
	out, err := cli.ImageImport(t.Context(), client.ImageImportSource{Source: bytes.NewReader(busybox(t)), SourceName: "-"}, name,
		client.ImageImportOptions{Changes: []string{"ENV PATH=/bin"}})
	if err == nil {
		_, err = io.Copy(io.Discard, out)
		out.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := cli.ImageRemove(context.Background(), name, client.ImageRemoveOptions{Force: true, PruneChildren: true}); err != nil {
			t.Error(err)
		}
	})
	t.Setenv(imageEnv, name)
	return harness()
}

// busybox is a file system with the machine's static busybox under its names.
func busybox(t *testing.T) []byte {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	bin, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, body []byte) {
		h.Size = int64(len(body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		w.Write(body)
	}
	for _, dir := range []string{"bin/", "etc/", "tmp/", "mnt/"} {
		add(tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755}, bin)
	add(tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/:/bin/sh\n"))
	for _, name := range strings.Fields("sh cat echo env grep head pwd seq setsid sleep test tr true") {
		add(tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSuite(t *testing.T) {
	h := needImage(t)
	runtimetest.Run(t, h)
}
