package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// cli runs bin/anycloud against the demo's own home.
type cli struct {
	bin, home string
	out       io.Writer
	server    *exec.Cmd
	id        string
}

func (c *cli) say(format string, args ...any) {
	fmt.Fprintf(c.out, "\n=== "+format+"\n", args...)
}

func (c *cli) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "anycloud"), args...)
	cmd.Env = append(os.Environ(), "ANYCLOUD_HOME="+c.home, "ANYCLOUD_ENDPOINT=", "ANYCLOUD_TOKEN=")
	cmd.Stderr = os.Stderr
	// Ctrl-C reaches the whole foreground group; the demo decides what to end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

func (c *cli) run(ctx context.Context, args ...string) error {
	cmd := c.command(ctx, args...)
	cmd.Stdout = c.out
	return cmd.Run()
}

// serve starts the control plane and waits until it answers.
func (c *cli) serve(ctx context.Context) error {
	log, err := os.Create(filepath.Join(c.home, "serve.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	c.server = c.command(context.Background(), "serve")
	c.server.Stdout, c.server.Stderr = log, log
	if err := c.server.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(15 * time.Second); ; {
		// Not by a command: it would start a control plane of its own.
		if text, err := os.ReadFile(log.Name()); err == nil && strings.Contains(string(text), "anycloud serves") {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("the control plane does not answer; its log says: %s", text)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *cli) submit(ctx context.Context, args ...string) (string, error) {
	out, err := c.command(ctx, append([]string{"submit"}, args...)...).Output()
	if err != nil {
		return "", fmt.Errorf("submit: %w", err)
	}
	c.id = strings.TrimSpace(string(out))
	return c.id, nil
}

// follow streams the job's log to the terminal and keeps it.
func (c *cli) follow(ctx context.Context, id string) *log {
	l := &log{changed: make(chan struct{})}
	cmd := c.command(ctx, "logs", id, "-f", "--json")
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		l.end(err)
		return l
	}
	go func() {
		in := bufio.NewScanner(pipe)
		for in.Scan() {
			var e line
			if json.Unmarshal(in.Bytes(), &e) != nil {
				continue
			}
			fmt.Fprintf(c.out, "  [attempt %d] %s\n", e.Attempt, e.Text)
			l.add(e)
		}
		l.end(cmd.Wait())
	}()
	return l
}

// cleanUp ends the job, the control plane and every VM, and removes the home.
func (c *cli) cleanUp() error {
	if c.server == nil {
		return os.RemoveAll(c.home)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var err error
	if c.id != "" {
		cmd := c.command(ctx, "cancel", "--now", c.id)
		cmd.Stderr = nil
		cmd.Run() //nolint:errcheck // an ended job has nothing to cancel; what matters is checked below
		if werr := c.command(ctx, "wait", c.id, "--timeout", "20s", "--json").Run(); werr != nil {
			var exit *exec.ExitError
			if !errors.As(werr, &exit) || exit.ExitCode() != 1 {
				err = fmt.Errorf("job %s did not end: %w", c.id, werr)
			}
		}
	}
	c.server.Process.Signal(syscall.SIGTERM) //nolint:errcheck // Wait below tells
	done := make(chan struct{})
	go func() { c.server.Wait(); close(done) }() //nolint:errcheck // its exit code says nothing here
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		c.server.Process.Kill() //nolint:errcheck // nothing else is left to try
		<-done
	}
	if left, _ := filepath.Glob(filepath.Join(c.home, "vms", "i-*")); len(left) > 0 {
		return errors.Join(err, fmt.Errorf("VMs are left in %s: %v", c.home, left))
	}
	if os.Getenv("ANYCLOUD_DEMO_KEEP") != "" {
		return err
	}
	return errors.Join(err, os.RemoveAll(c.home))
}

// line is one line of the job's log, as `logs --json` prints it.
type line struct {
	Attempt int    `json:"attempt"`
	Stream  string `json:"stream"`
	Text    string `json:"text"`
}

// log keeps the lines and tells whoever waits for more.
type log struct {
	mu      sync.Mutex
	lines   []line
	ended   bool
	err     error
	changed chan struct{}
}

func (l *log) add(e line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, e)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *log) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended, l.err = true, err
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *log) all() []line {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines
}

// wait blocks until enough says yes of the lines so far.
func (l *log) wait(ctx context.Context, enough func([]line) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	for {
		l.mu.Lock()
		ok, ended, changed := enough(l.lines), l.ended, l.changed
		l.mu.Unlock()
		switch {
		case ok:
			return nil
		case ended:
			return fmt.Errorf("the log ended too early: %w", errors.Join(l.err, io.ErrUnexpectedEOF))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the log: %w", ctx.Err())
		}
	}
}

func (l *log) waitEpoch(ctx context.Context, n int) error {
	return l.wait(ctx, func(ls []line) bool {
		e := epochsOf(ls)
		return len(e) > 0 && e[len(e)-1].number >= n
	})
}

// waitAttempt waits until the attempt has printed n epochs.
func (l *log) waitAttempt(ctx context.Context, attempt, n int) error {
	return l.wait(ctx, func(ls []line) bool {
		for _, e := range epochsOf(ls) {
			if e.attempt == attempt {
				n--
			}
		}
		return n <= 0
	})
}

func (l *log) waitDone(ctx context.Context) error {
	return l.wait(ctx, func([]line) bool { return l.ended })
}
