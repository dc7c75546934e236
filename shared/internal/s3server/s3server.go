// Package s3server starts a real S3 server on loopback for tests: versitygw, as
// the setup builds it, over a directory.
package s3server

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"anycloud/shared/internal/suite"
)

const (
	accessKey = "test"
	secretKey = "test-secret"
)

// Server is one that runs until the test ends.
type Server struct {
	Addr string // host:port
	Dir  string // a bucket is a directory in it
}

// Start starts one. dir may be "", for a directory of its own.
func Start(t testing.TB, dir string, flags ...string) *Server {
	t.Helper()
	suite.Need(t, "s3")
	if dir == "" {
		dir = t.TempDir()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: l.Addr().String(), Dir: dir}
	l.Close()
	args := append([]string{"--port", s.Addr, "--access", accessKey, "--secret", secretKey, "--quiet"}, flags...)
	cmd := exec.Command(suite.Tool("versitygw"), append(args, "posix", s.Dir)...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // Wait tells
		cmd.Wait()         //nolint:errcheck // it was killed
	})
	for deadline := time.Now().Add(20 * time.Second); !s.answers(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the S3 server does not answer:\n%s", said.Bytes())
		}
	}
	return s
}

func (s *Server) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL(), nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	io.Copy(io.Discard, resp.Body) //nolint:errcheck // an answer is an answer
	resp.Body.Close()
	return true
}

// URL is its endpoint.
func (s *Server) URL() string { return "http://" + s.Addr }

// Bucket makes an empty bucket.
func (s *Server) Bucket(t testing.TB, name string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(s.Dir, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

// Env is what a client needs to use it, in the SDK's names.
func (s *Server) Env() map[string]string {
	return map[string]string{
		"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": s.URL(),
	}
}
