package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/moby/client"
)

// workload says what to submit: an image built here from nothing but the
// training program, where a docker daemon answers, else the program itself on
// the exec runtime. drop removes the image.
func workload(ctx context.Context, bin, runtime string) (image string, command []string, how string, drop func(), err error) {
	program := filepath.Join(bin, "digits")
	noDrop := func() {}
	if runtime == "exec" {
		return "exec:", []string{program}, "exec (asked for)", noDrop, nil
	}
	docker, err := client.New(client.FromEnv)
	if err == nil {
		pctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err = docker.Ping(pctx, client.PingOptions{NegotiateAPIVersion: true})
	}
	if err != nil {
		if runtime == "docker" {
			return "", nil, "", nil, fmt.Errorf("no docker daemon answers: %w", err)
		}
		return "exec:", []string{program}, "exec (no docker daemon answers)", noDrop, nil
	}
	image = fmt.Sprintf("anycloud-demo-digits:%d", os.Getpid())
	archive, err := tarOf(program)
	if err != nil {
		return "", nil, "", nil, err
	}
	reply, err := docker.ImageImport(ctx, client.ImageImportSource{Source: archive, SourceName: "-"}, image,
		client.ImageImportOptions{Changes: []string{`ENTRYPOINT ["/digits"]`}})
	if err != nil {
		return "", nil, "", nil, fmt.Errorf("build the image: %w", err)
	}
	io.Copy(io.Discard, reply) //nolint:errcheck // a failed import shows as a missing image
	reply.Close()
	drop = func() {
		docker.ImageRemove(context.Background(), image, client.ImageRemoveOptions{Force: true}) //nolint:errcheck // best effort
	}
	return image, nil, "docker, image " + image + " FROM scratch", drop, nil
}

func tarOf(program string) (io.Reader, error) {
	b, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "digits", Mode: 0o755, Size: int64(len(b))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	return &buf, w.Close()
}
