package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anycloud/shared/internal/suite"
)

const (
	accessKey = "bench"
	secretKey = "bench-secret"
)

// server is a real S3 server, and a pipe before it that counts bytes.
type server struct {
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

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func startServer(t *testing.T) *server {
	t.Helper()
	suite.Need(t, "s3")
	s := &server{data: ram(t), log: filepath.Join(t.TempDir(), "access.log")}
	behind := freeAddr(t)
	cmd := exec.Command(cached("versitygw"), "--port", behind, "--access", accessKey, "--secret", secretKey, "--quiet", "--access-log", s.log, "posix", s.data)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // Wait tells
		cmd.Wait()         //nolint:errcheck // it was killed
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		r, err := http.Get("http://" + behind)
		if err == nil {
			r.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the S3 server does not answer: %v\n%s", err, out.Bytes())
		}
	}
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
			go s.pipe(c, behind)
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
	return []string{
		"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey, "AWS_REGION=us-east-1", "AWS_ENDPOINT_URL=http://" + s.addr,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	}
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
