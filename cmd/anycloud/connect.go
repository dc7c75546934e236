package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"anycloud/shared/api"
	"anycloud/shared/setup/local"
)

// home is where everything local lies.
func (a *app) home() (string, error) {
	if h := a.getenv("ANYCLOUD_HOME"); h != "" {
		return filepath.Abs(h)
	}
	return local.DefaultHome()
}

// connect finds the control plane: the one that ANYCLOUD_ENDPOINT names, or this
// home's, which is started if none runs.
func (a *app) connect(ctx context.Context) (*api.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	if e := a.getenv("ANYCLOUD_ENDPOINT"); e != "" {
		if !strings.HasPrefix(e, "http://") && !strings.HasPrefix(e, "https://") {
			return nil, usagef("ANYCLOUD_ENDPOINT %q is no URL: write for example http://127.0.0.1:8080", e)
		}
		return api.NewClient(e, a.getenv("ANYCLOUD_TOKEN"), nil), nil
	}
	home, err := a.home()
	if err != nil {
		return nil, err
	}
	if c, err := running(ctx, home); c != nil || err != nil {
		return c, err
	}
	if runtime.GOOS != "linux" {
		return nil, fmt.Errorf("no control plane runs here, and %s cannot run one: set ANYCLOUD_ENDPOINT to one that runs on Linux or in a cloud", runtime.GOOS)
	}
	return a.start(ctx, home)
}

// running returns a client of the home's control plane if it answers.
func running(ctx context.Context, home string) (*api.Client, error) {
	endpoint, err := local.Endpoint(home)
	if err != nil || endpoint == "" {
		return nil, err
	}
	token, err := local.Token(home)
	if err != nil {
		return nil, err
	}
	c := api.NewClient(endpoint, token, nil)
	pctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if c.Ping(pctx) != nil {
		return nil, nil
	}
	// Something else may have got the port since: ours knows the token.
	if _, err := c.List(pctx, api.ListQuery{Limit: 1}); err != nil {
		return nil, nil
	}
	return c, nil
}

// startFor is how long a control plane may take to answer.
const startFor = 15 * time.Second

// start runs `anycloud serve` in the background and waits until it answers. Two
// commands that start one at the same time end up with the same: the loser finds
// the table taken, and its waiting finds the winner.
func (a *app) start(ctx context.Context, home string) (*api.Client, error) {
	if err := local.MakeHome(home); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(home, "serve.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the control plane's log: %w", err)
	}
	defer log.Close()
	from, _ := log.Seek(0, 2) //nolint:errcheck // only trims what is shown of the log
	cmd := exec.Command(self, "serve", "--idle-exit", "10m")
	cmd.Env = append(os.Environ(), "ANYCLOUD_HOME="+home)
	cmd.Stdout, cmd.Stderr = log, log
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the control plane: %w", err)
	}
	died := make(chan error, 1)
	go func() { died <- cmd.Wait() }()
	deadline := time.After(startFor)
	for {
		if c, err := running(ctx, home); c != nil || err != nil {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-died:
			died = nil
			// It may have lost a race: then the other one answers soon.
			if c := a.awaitOther(ctx, home); c != nil {
				return c, nil
			}
			return nil, fmt.Errorf("the control plane did not start: %s", lastLine(log.Name(), from))
		case <-deadline:
			return nil, fmt.Errorf("the control plane does not answer after %s: see %s", startFor, log.Name())
		case <-time.After(30 * time.Millisecond):
		}
	}
}

func (a *app) awaitOther(ctx context.Context, home string) *api.Client {
	for range 20 {
		if c, err := running(ctx, home); c != nil && err == nil {
			return c
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// lastLine is what the log ends with, after an offset.
func lastLine(path string, from int64) string {
	b, err := os.ReadFile(path)
	if err != nil || int64(len(b)) <= from {
		return "see " + path
	}
	lines := strings.Split(strings.TrimSpace(string(b[from:])), "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "anycloud: ")
}

// agentBinary is the anycloud-agent that belongs to this program.
func (a *app) agentBinary() (string, error) {
	if p := a.getenv("ANYCLOUD_AGENT"); p != "" {
		return p, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	p := filepath.Join(filepath.Dir(self), "anycloud-agent")
	if _, err := os.Stat(p); err != nil {
		return "", errors.New("anycloud-agent does not lie beside this program: build it with make build, or set ANYCLOUD_AGENT")
	}
	return p, nil
}
