package trial

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/setup/agent"
)

// agentBinary builds the agent, once.
var agentBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "anycloud-trial-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "anycloud-agent")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "anycloud/cmd/anycloud-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the agent: %w\n%s", err, out)
	}
	return path, nil
})

// program is the agent's command line, as a user calls it.
func program(ctx context.Context, t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	path, err := agentBinary()
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(ctx, path, append([]string{"checkpoint", "--json"}, args...)...)
}

// processMost is how long one call of the program may take.
const processMost = 3 * time.Minute

// run calls the program and decodes what it prints.
func run(t testing.TB, out any, args ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), processMost)
	defer cancel()
	cmd := program(ctx, t, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("checkpoint %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return json.Unmarshal(stdout.Bytes(), out)
}

// saved and restored are what the program prints.
type saved struct {
	Commit    int     `json:"commit"`
	Committed bool    `json:"committed"`
	Clean     bool    `json:"clean"`
	SentBytes int64   `json:"sent_bytes"`
	Pause     float64 `json:"pause_seconds"`
}

type restored struct {
	Commit    int      `json:"commit"`
	Clean     bool     `json:"clean"`
	Fallbacks []string `json:"fallbacks"`
}

// ram is a directory in memory where there is one: what is tried is the engine,
// not the disk.
func ram(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "anycloud-trial-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// newBucket is the URL of an empty bucket.
func newBucket(t testing.TB) string {
	t.Helper()
	return "file://" + ram(t)
}

// open looks into a bucket from this process.
func open(t testing.TB, url string) bucket.Objects {
	t.Helper()
	o, err := agent.Make(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// packBytes is the size of all packs in a bucket.
func packBytes(t testing.TB, o bucket.Objects) (total int64) {
	t.Helper()
	for after := ""; ; {
		page, more, err := o.List(t.Context(), "packs/", after, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page {
			total += p.Size
			after = p.Key
		}
		if !more || len(page) == 0 {
			return total
		}
	}
}
