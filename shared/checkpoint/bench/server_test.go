package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"anycloud/shared/internal/s3server"
	"anycloud/shared/internal/suite"
)

// server is a real S3 server, and a pipe before it that counts bytes.
type server struct {
	s3        *s3server.Server
	data, log string
	addr      string // of the pipe
	sent      atomic.Int64
	open      sync.WaitGroup // connections
}

// cached is a program that the setup built, or that the system has; "" if there
// is none.
func cached(name string) string {
	if path := suite.Tool(name); path != "" {
		return path
	}
	path, _ := exec.LookPath(name) //nolint:errcheck // "" tells
	return path
}

// ram is a directory on a RAM disk.
func ram(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "anycloud-bench-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func startServer(t *testing.T) *server {
	t.Helper()
	s := &server{log: filepath.Join(t.TempDir(), "access.log")}
	s.s3 = s3server.Start(t, ram(t), "--access-log", s.log)
	s.data = s.s3.Dir
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s.addr = l.Addr().String()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.open.Add(1)
			go s.pipe(c, s.s3.Addr)
		}
	}()
	return s
}

// pipe hands bytes on. Between sockets the kernel moves them, so it costs all
// programs little.
func (s *server) pipe(c net.Conn, behind string) {
	defer s.open.Done()
	defer c.Close()
	d, err := net.Dial("tcp", behind)
	if err != nil {
		return
	}
	defer d.Close()
	back := make(chan struct{})
	go func() {
		defer close(back)
		io.Copy(c, d) //nolint:errcheck // either end may close
		c.Close()
	}()
	n, _ := io.Copy(d, c) //nolint:errcheck // either end may close
	s.sent.Add(n)
	d.Close()
	<-back
}

// traffic is what passed since the last call: the programs have ended.
func (s *server) traffic() (sent int64, requests int, err error) {
	s.open.Wait()
	b, err := os.ReadFile(s.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, 0, fmt.Errorf("read the server's log: %w", err)
	}
	return s.sent.Swap(0), strings.Count(string(b), "\n"), os.Truncate(s.log, 0)
}

// env is how all programs find the server.
func (s *server) env() []string {
	vars := s.s3.Env()
	vars["AWS_ENDPOINT_URL"] = "http://" + s.addr
	for name, value := range map[string]string{
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	} {
		vars[name] = value
	}
	env := make([]string, 0, len(vars))
	for name, value := range vars {
		env = append(env, name+"="+value)
	}
	return env
}

// newBucket makes a bucket: to this server, a directory.
func (s *server) newBucket(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(s.data, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

// empty removes buckets, so that memory does for all of them.
func (s *server) empty(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(s.data)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "bench-") {
			os.RemoveAll(filepath.Join(s.data, e.Name()))
		}
	}
}
