package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"anycloud/shared/cloud/localcloud/vmdir"
)

// Reap removes what a dead VM left: processes and containers. Nil means that
// nothing of it runs any more. It may be repeated; a VM whose directory is gone
// was reaped before. It kills the machine process itself only if the driver
// wrote that the VM is to end.
func Reap(ctx context.Context, dir string, remove RemoveContainers) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	d := vmdir.Dir(abs)
	rec, err := d.Record()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reap: %w", err)
	}
	if err := reapMachine(d); err != nil {
		return fmt.Errorf("reap %s: %w", rec.ID, err)
	}
	noted, err := vmdir.Read[[]vmdir.Process](d.Path("pids"))
	if err != nil {
		return fmt.Errorf("reap %s: %w", rec.ID, err)
	}
	err = untilNone(15*time.Second, func() ([]vmdir.Process, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		left, err := marked(rec.ID, os.Getpid())
		if noted != nil {
			for _, p := range *noted {
				if p.Alive() {
					left = append(left, p)
				}
			}
		}
		var roots []int
		for _, p := range left {
			roots = append(roots, p.PID)
		}
		below, err2 := descendants(roots...)
		return append(left, below...), errors.Join(err, err2)
	})
	if err != nil {
		return fmt.Errorf("reap %s: %w", rec.ID, err)
	}
	if remove != nil {
		if err := remove(ctx, rec.ID); err != nil {
			return fmt.Errorf("reap %s: remove containers: %w", rec.ID, err)
		}
	}
	return nil
}

func reapMachine(d vmdir.Dir) error {
	p, err := d.Process()
	if err != nil || p == nil || !p.Alive() {
		return err
	}
	k, err := d.Kill()
	if err != nil {
		return err
	}
	if k == nil {
		return fmt.Errorf("its machine process %d runs and nobody ordered its end", p.PID)
	}
	if err := p.Kill(); err != nil {
		return err
	}
	if !p.AwaitDead(10 * time.Second) {
		return fmt.Errorf("its machine process %d does not die", p.PID)
	}
	return nil
}
