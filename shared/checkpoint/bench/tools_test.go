package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cost of one run of a program.
type cost struct {
	took     time.Duration
	cpu      time.Duration
	rss      int64 // bytes, at most
	sent     int64 // bytes to the server, all of HTTP included
	requests int
}

// tool saves directories into a bucket of its own, and restores them.
type tool struct {
	name          string
	begin         func(home string) []string // before the first save; nil: nothing
	save, restore func(home, dir string) []string
	env           []string
}

// tools are ours, and those of the others that are there.
func tools(t *testing.T, s *server) []tool {
	t.Helper()
	agent, err := agentBinary()
	if err != nil {
		t.Fatal(err)
	}
	bucket := func(home string) string { return filepath.Base(home) }
	all := []tool{{
		name: "anycloud",
		save: func(home, dir string) []string {
			return []string{agent, "checkpoint", "save", dir, ours(home, bucket(home)), "--state", filepath.Join(home, "state")}
		},
		restore: func(home, dir string) []string {
			return []string{agent, "checkpoint", "restore", ours(home, bucket(home)), dir}
		},
	}}
	if path := cached("rclone"); path != "" {
		call := func(from, to string) []string {
			return []string{path, "sync", from, to, "--transfers", "16", "--checkers", "16", "--config", "/dev/null", "--s3-no-check-bucket"}
		}
		all = append(all, tool{
			name:    "rclone",
			save:    func(home, dir string) []string { return call(dir, "b:"+bucket(home)) },
			restore: func(home, dir string) []string { return call("b:"+bucket(home), dir) },
			env:     []string{"RCLONE_CONFIG_B_TYPE=s3", "RCLONE_CONFIG_B_PROVIDER=Other", "RCLONE_CONFIG_B_ENV_AUTH=true", "RCLONE_CONFIG_B_ENDPOINT=http://" + s.addr},
		})
	} else {
		t.Log("rclone is not there: `make bench-checkpoint` builds it")
	}
	if path, err := exec.LookPath("restic"); err == nil {
		call := func(home string, more ...string) []string {
			return append([]string{path, "-r", "s3:http://" + s.addr + "/" + bucket(home), "--cache-dir", filepath.Join(home, "cache"), "--quiet"}, more...)
		}
		all = append(all, tool{
			name:    "restic",
			begin:   func(home string) []string { return call(home, "init") },
			save:    func(home, dir string) []string { return call(home, "backup", dir) },
			restore: func(home, dir string) []string { return call(home, "restore", "latest", "--target", dir) },
			env:     []string{"RESTIC_PASSWORD=bench"},
		})
	} else {
		t.Log("restic is not there: `make setup` installs it")
	}
	return all
}

// ours is the URL of our bucket.
func ours(home, bucket string) string {
	if *store == "file" {
		return "file://" + filepath.Join("/dev/shm", "anycloud-bench-"+filepath.Base(filepath.Dir(home))+bucket)
	}
	return "s3://" + bucket
}

// agentBinary builds ours as a release is built, once.
var agentBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "anycloud-bench-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "anycloud-agent")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "anycloud/cmd/anycloud-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the agent: %w\n%s", err, out)
	}
	return path, nil
})

// runMost is how long one run may take.
const runMost = 30 * time.Minute

// measure runs a program.
func (s *server) measure(t *testing.T, tl tool, args []string) cost {
	t.Helper()
	// What others left dirty is not this program's to write.
	unix.Sync()
	if _, _, err := s.traffic(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), runMost)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(append(os.Environ(), s.env()...), tl.env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err := cmd.Run()
	c := cost{took: time.Since(began)}
	if err != nil {
		t.Fatalf("%s: %v\n%s", tl.name, err, out.Bytes())
	}
	c.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.rss = u.Maxrss << 10
	}
	if c.sent, c.requests, err = s.traffic(); err != nil {
		t.Fatal(err)
	}
	return c
}
