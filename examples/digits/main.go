package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// exitTerminated is what a shell reports for a program that SIGTERM ended: 128
// and the signal's number.
const exitTerminated = 143

// errStopped says that the run ended early because it was asked to.
var errStopped = errors.New("stopped by SIGTERM")

// options are the flags and the two directories, read once in main.
type options struct {
	epochs    int
	epochTime time.Duration // shortest time from the start of an epoch to its line
	seed      uint64

	checkpointDir string
	outputDir     string // empty: no result.json
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:], os.Getenv, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "digits:", err)
		os.Exit(2)
	}
	switch err := run(ctx, o, os.Stdout); {
	case err == nil:
	case errors.Is(err, errStopped):
		fmt.Fprintln(os.Stderr, "digits:", err)
		os.Exit(exitTerminated)
	default:
		fmt.Fprintln(os.Stderr, "digits:", err)
		os.Exit(1)
	}
}

func parse(args []string, getenv func(string) string, usage io.Writer) (options, error) {
	o := options{checkpointDir: getenv("ANYCLOUD_CHECKPOINT_DIR"), outputDir: getenv("ANYCLOUD_OUTPUT_DIR")}
	if o.checkpointDir == "" {
		o.checkpointDir = "/mnt/checkpoint"
	}
	fs := flag.NewFlagSet("digits", flag.ContinueOnError)
	fs.SetOutput(usage)
	fs.IntVar(&o.epochs, "epochs", 60, "how often to go through the training images")
	fs.DurationVar(&o.epochTime, "epoch-time", 0, "least time that an epoch takes, so that a demo has something to interrupt")
	fs.Uint64Var(&o.seed, "seed", 1, "seed of the first weights and of each epoch's order")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if o.epochs < 1 || o.epochTime < 0 {
		return o, errors.New("-epochs must be at least 1 and -epoch-time not negative")
	}
	return o, nil
}

// run trains to the last epoch and reports. It returns errStopped if ctx ended
// first.
func run(ctx context.Context, o options, out io.Writer) error {
	train, test, err := load()
	if err != nil {
		return fmt.Errorf("read the images: %w", err)
	}
	s, err := open(o.checkpointDir, o.seed)
	if err != nil {
		return err
	}
	switch {
	case s.Epoch > o.epochs:
		return fmt.Errorf("the saved state is of epoch %d, beyond -epochs %d: ask for more, or remove %s",
			s.Epoch, o.epochs, statePath(o.checkpointDir))
	case s.Epoch > 0:
		fmt.Fprintf(out, "going on after epoch %d\n", s.Epoch)
	default:
		fmt.Fprintf(out, "training on %d images, testing on %d others\n", len(train), len(test))
	}

	for s.Epoch < o.epochs {
		if ctx.Err() != nil {
			return errStopped
		}
		rest := time.After(o.epochTime)
		loss := s.Net.trainEpoch(train, o.seed, s.Epoch+1)
		s.Epoch++
		select {
		case <-rest:
		case <-ctx.Done():
			// The epoch is learnt; only its line and its state are left to write.
		}
		right := s.Net.correct(test)
		fmt.Fprintf(out, "epoch %d/%d loss %.4f accuracy %.1f%%\n", s.Epoch, o.epochs, loss, percent(right, len(test)))
		if err := s.save(o.checkpointDir); err != nil {
			return err
		}
	}

	r := result{Epochs: s.Epoch, Seed: o.seed, Correct: s.Net.correct(test), Of: len(test), SHA256: s.Net.sum()}
	r.Accuracy = float64(r.Correct) / float64(r.Of)
	if o.outputDir != "" {
		if err := r.save(o.outputDir); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "done: %d epochs, test accuracy %.1f%% (%d of %d)\n", r.Epochs, percent(r.Correct, r.Of), r.Correct, r.Of)
	fmt.Fprintf(out, "weights sha256 %s\n", r.SHA256)
	return nil
}

func percent(n, of int) float64 { return 100 * float64(n) / float64(of) }
