package agent

import (
	"context"
	"fmt"
	"os"
	"time"

	"anycloud/shared/checkpoint"
)

// The engine's command line works on these.

// SaveOnce saves a directory into a bucket as an attempt; attempt 0 goes on as
// the newest one in the log, or begins with 1. What state holds of earlier saves
// ("" keeps nothing) is neither read nor sent again; it is for one saver at a
// time.
func SaveOnce(ctx context.Context, dir, url, state string, attempt int, freeze int, pause time.Duration, progress func(done, total int64)) (checkpoint.Result, error) {
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		return checkpoint.Result{}, fmt.Errorf("%s is no directory: name the one to save", dir)
	}
	objects, err := Make(ctx, url)
	if err != nil {
		return checkpoint.Result{}, err
	}
	if attempt == 0 {
		commits, err := checkpoint.List(ctx, objects)
		if err != nil {
			return checkpoint.Result{}, err
		}
		attempt = 1
		for _, c := range commits {
			attempt = max(attempt, c.Attempt)
		}
	}
	o := checkpoint.Options{Objects: objects, Attempt: attempt, Roots: map[string]string{"checkpoint": dir}, StateDir: state}
	if freeze > 0 {
		o.Freezer, o.MaxPause = processTree(freeze), pause
	}
	s, err := checkpoint.NewSaver(o)
	if err != nil {
		return checkpoint.Result{}, err
	}
	defer s.Close() //nolint:errcheck // its journal was synced line by line
	return s.Save(ctx, checkpoint.SaveRequest{Progress: progress})
}

// RestoreOnce restores a commit (0: the newest) into a directory.
func RestoreOnce(ctx context.Context, url, dir string, at int, progress func(done, total int64)) (checkpoint.Restored, error) {
	objects, err := Open(ctx, url, environ())
	if err != nil {
		return checkpoint.Restored{}, err
	}
	return checkpoint.Restore(ctx, checkpoint.RestoreOptions{
		Objects: objects, Into: map[string]string{"checkpoint": dir}, At: at, Progress: progress,
	})
}

// List shows a log's commits.
func List(ctx context.Context, url string) ([]checkpoint.CommitInfo, error) {
	objects, err := Open(ctx, url, environ())
	if err != nil {
		return nil, err
	}
	return checkpoint.List(ctx, objects)
}

// Verify reads everything that commits hold.
func Verify(ctx context.Context, url string) ([]checkpoint.Verified, error) {
	objects, err := Open(ctx, url, environ())
	if err != nil {
		return nil, err
	}
	return checkpoint.Verify(ctx, objects)
}

// Prune lets go of what no commit worth keeping needs. It acts for the newest
// attempt in the log.
func Prune(ctx context.Context, url string) (int, error) {
	objects, err := Open(ctx, url, environ())
	if err != nil {
		return 0, err
	}
	commits, err := checkpoint.List(ctx, objects)
	if err != nil || len(commits) == 0 {
		return 0, err
	}
	s, err := checkpoint.NewSaver(checkpoint.Options{Objects: objects, Attempt: commits[len(commits)-1].Attempt, Roots: map[string]string{"checkpoint": os.TempDir()}})
	if err != nil {
		return 0, err
	}
	return s.Prune(ctx)
}

// environ is nil: drivers' credentials come from their SDK's own variables.
func environ() map[string]string { return nil }
