// Command demo shows the whole loop on this machine: it starts a control plane
// in a temporary home, submits examples/digits as a spot job, preempts it once
// with a notice and once without a word, waits for its success, and checks in
// the log that no work was lost which must not be. It leaves nothing behind,
// also after Ctrl-C.
//
//	main.go    the story
//	cli.go     runs bin/anycloud
//	image.go   the container image, where a docker daemon answers
//	check.go   reads the epochs out of the log and judges them
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// The demo's measures. Epochs are slowed down so that people can watch; the
// whole takes less than a minute.
const (
	epochs    = 60
	epochTime = 300 * time.Millisecond
	interval  = "2s"
	grace     = "2s"
	notice    = "10s"
)

func main() {
	bin := flag.String("bin", "bin", "directory of anycloud, anycloud-agent and digits")
	runtime := flag.String("runtime", "auto", "docker, exec, or auto: docker where its daemon answers")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *runtime); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted; everything it started is gone")
		}
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, runtime string) (err error) {
	began := time.Now()
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	home, err := os.MkdirTemp("", "anycloud-demo-")
	if err != nil {
		return err
	}
	c := &cli{bin: bin, home: home, out: os.Stdout}
	defer func() { err = errors.Join(err, c.cleanUp()) }()

	image, command, how, drop, err := workload(ctx, bin, runtime)
	if err != nil {
		return err
	}
	defer drop()
	c.say("runtime: %s", how)
	if err := c.serve(ctx); err != nil {
		return err
	}
	command = append(command, "-epochs", fmt.Sprint(epochs), "-epoch-time", epochTime.String())
	id, err := c.submit(ctx, append([]string{"--spot", "--name", "digits", "--checkpoint-interval", interval, "--grace", grace, image, "--"}, command...)...)
	if err != nil {
		return err
	}
	c.say("job %s", id)
	lines := c.follow(ctx, id)

	if err := lines.waitEpoch(ctx, 15); err != nil {
		return err
	}
	c.say("preempting it with a notice of %s", notice)
	if err := c.run(ctx, "preempt", id, "--notice", notice); err != nil {
		return err
	}
	// The second loss comes when attempt 2 has worked for a while.
	if err := lines.waitAttempt(ctx, 2, 8); err != nil {
		return err
	}
	c.say("taking its VM without a word")
	if err := c.run(ctx, "preempt", id, "--notice", "0s"); err != nil {
		return err
	}
	if err := c.run(ctx, "wait", id, "--timeout", "60s"); err != nil {
		return fmt.Errorf("the job did not succeed: %w", err)
	}
	if err := lines.waitDone(ctx); err != nil {
		return err
	}
	if err := c.run(ctx, "status", id); err != nil {
		return err
	}
	if err := judge(c, lines.all()); err != nil {
		return err
	}
	c.say("whole demo: %.0f s", time.Since(began).Seconds())
	return nil
}
