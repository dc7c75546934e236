package dockerrt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"
)

// engineWithin is how long an engine may take to answer at all.
const engineWithin = 10 * time.Second

// RemoveByVM removes all containers of a VM, running or not, with their
// volumes. Nil: none is left. Without an engine on this machine there is none;
// an engine that does not answer is an error, because its containers may run.
func RemoveByVM(ctx context.Context, vmID string) error {
	cli, err := client.New(client.FromEnv)
	if err != nil {
		return fmt.Errorf("docker client: %w", err)
	}
	defer cli.Close()
	ping, cancel := context.WithTimeout(ctx, engineWithin)
	defer cancel()
	if _, err := cli.Ping(ping, client.PingOptions{}); err != nil {
		if noEngine(cli.DaemonHost()) {
			return nil
		}
		return fmt.Errorf("container engine does not answer: %w", err)
	}
	return removeAll(ctx, cli, LabelVM+"="+vmID)
}

// noEngine says for sure that we have no container here: there is no socket; or
// we may not use it, and never might; or nobody listens on it and nothing runs
// that an engine could have left when it was killed.
func noEngine(host string) bool {
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		return false
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	switch err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return true
	case errors.Is(err, syscall.ECONNREFUSED):
		return !shimRuns()
	}
	return false
}

// shimRuns looks for the process that containerd has beside each container, and
// that outlives the engine. It carries the engine's namespace, moby, in its
// command line.
func shimRuns() bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false // no /proc: no containers of this system either
	}
	for _, e := range entries {
		b, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err == nil && bytes.Contains(b, []byte("containerd-shim")) && bytes.Contains(b, []byte("moby")) {
			return true
		}
	}
	return false
}
