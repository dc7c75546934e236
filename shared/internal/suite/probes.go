package suite

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// probes are the suites: what each looks for, and what would enable it.
var probes = map[string]*probe{
	// A container engine that answers on DOCKER_HOST or its usual socket.
	"docker": {enable: "make setup && sudo dockerd", look: lookDocker},
	// The virtual environment that the setup makes for the Python package's tests.
	"python": {enable: "make setup", look: lookPython},
	// A registry of images that tests start themselves.
	"registry": {enable: "make setup", look: lookCommand("docker-registry")},
	// An S3 server that tests start themselves.
	"s3": {enable: "make setup", look: lookTool("versitygw")},
	// A statically linked busybox, from which tests build images.
	"busybox": {enable: "make setup", look: lookCommand("busybox")},
	// ShellCheck, which reads the repository's scripts.
	"shellcheck": {enable: "make setup", look: lookCommand("shellcheck")},
	// Linux: /proc, sessions, namespaces, O_TMPFILE and their like.
	"linux": {enable: "run the tests on Linux", look: lookLinux},
	// Effective user id 0.
	"root": {enable: "sudo make test", look: lookRoot},
	// A user namespace made without privileges.
	"userns": {enable: "sudo sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000", look: lookUserNS},
	// A private mount namespace, by root's right or within a user namespace.
	"mountns": {enable: "sudo make test, or allow user namespaces: sudo sysctl -w kernel.unprivileged_userns_clone=1", look: lookMountNS},
	// The right to mount, say, a small tmpfs, in a private mount namespace or not.
	"mount": {enable: "sudo make test (in a container: with --privileged)", look: lookMount},
	// A cgroup of our own that can be frozen.
	"freezer": {enable: "sudo make test (in a container: with --privileged)", look: lookFreezer},
}

func lookLinux() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("this is %s", runtime.GOOS)
	}
	return nil
}

func lookRoot() error {
	switch id := os.Geteuid(); id {
	case 0:
		return nil
	case -1:
		return errors.New("this system has no root")
	default:
		return fmt.Errorf("running as user %d", id)
	}
}

func lookCommand(name string) func() error {
	return func() error {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("no %s in PATH", name)
		}
		return nil
	}
}

// lookPython looks for pytest in the tree's virtual environment.
func lookPython() error {
	if Tool("../venv/bin/pytest") == "" {
		return errors.New("no virtual environment with pytest in .cache/venv")
	}
	return nil
}

// lookTool looks for what the setup builds.
func lookTool(name string) func() error {
	return func() error {
		if Tool(name) == "" {
			return fmt.Errorf("no %s in .cache/bin", name)
		}
		return nil
	}
}

// Tool is the path of a program that the setup built into .cache/bin, from
// whatever package's directory the tests run in; "" if it is not there.
func Tool(name string) string {
	dir, err := os.Getwd()
	for err == nil {
		path := filepath.Join(dir, ".cache/bin", name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil || dir == filepath.Dir(dir) {
			return ""
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

// lookDocker asks the engine for its ping page. Finding the socket is not
// enough: it outlives a daemon that was killed.
func lookDocker() error {
	host := os.Getenv("DOCKER_HOST")
	if host == "" {
		host = "unix:///var/run/docker.sock"
	}
	if err := pingDocker(host); err != nil {
		return fmt.Errorf("no docker engine answers at %s", host)
	}
	return nil
}

func pingDocker(host string) error {
	u, err := url.Parse(host)
	if err != nil {
		return err
	}
	network, addr := u.Scheme, u.Host
	switch u.Scheme {
	case "unix":
		addr = u.Path
	case "tcp", "http":
		network = "tcp"
	default:
		return fmt.Errorf("scheme %s is not probed", u.Scheme)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		return fmt.Errorf("ping answered %s", resp.Status)
	}
	return nil
}
