// Package testimage makes container images for tests, FROM scratch: no test
// pulls one.
package testimage

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"anycloud/shared/internal/suite"
)

// applets of busybox that the image has.
const applets = "sh cat chmod cp date echo env expr find grep head ln ls mkdir mv pwd rm seq setsid sleep sort stat tail test touch tr true"

// Client speaks to the engine until the test ends.
func Client(t testing.TB) *client.Client {
	t.Helper()
	cli, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	return cli
}

// Busybox makes an image of the machine's static busybox, for the time of the
// test.
func Busybox(t testing.TB, name string) {
	t.Helper()
	suite.Need(t, "docker")
	suite.Need(t, "busybox")
	cli := Client(t)
	out, err := cli.ImageImport(t.Context(), client.ImageImportSource{Source: bytes.NewReader(files(t)), SourceName: "-"}, name,
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
}

// files is the image's file system.
func files(t testing.TB) []byte {
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
		w.Write(body) //nolint:errcheck // Close tells
	}
	for _, dir := range []string{"bin/", "etc/", "tmp/", "mnt/"} {
		add(tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755}, bin)
	add(tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/:/bin/sh\n"))
	for _, name := range strings.Fields(applets) {
		add(tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
