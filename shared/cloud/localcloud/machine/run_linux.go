package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"anycloud/shared/cloud/localcloud/vmdir"
)

// vm is the machine process.
type vm struct {
	Options
	dir  vmdir.Dir
	rec  *vmdir.Record
	me   vmdir.Process
	done chan string // the agent's wish to power off

	meta  *metadata
	procs *procs
	lock  *os.File
}

// Run is the life of a VM: it returns when the VM has ended, of which dir then
// holds the record. ctx ends the VM. The calling process must do nothing else:
// its children, also adopted ones, are the VM's.
func Run(ctx context.Context, dir string, o Options) error {
	v, err := boot(dir, o)
	if err != nil {
		return fmt.Errorf("start vm: %w", err)
	}
	reason := v.live(ctx)
	return v.end(reason)
}

func boot(dir string, o Options) (*vm, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	v := &vm{Options: o, dir: vmdir.Dir(abs), done: make(chan string, 1)}
	if v.rec, err = v.dir.Record(); err != nil {
		return nil, err
	}
	if v.Log == nil {
		v.Log = slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("vm", v.rec.ID)
	}
	if len(v.Agent) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		v.Agent = []string{self, "run"}
	}
	if v.lock, err = v.dir.Lock(); err != nil {
		return nil, err
	}
	if end, err := v.dir.End(); err != nil || end != nil {
		return nil, errors.Join(err, errors.New("this vm has ended"))
	}
	// Our name as the driver sees it, before /proc becomes our own.
	if v.me, err = vmdir.Self(); err != nil {
		return nil, err
	}
	if v.me.Namespace = os.Getpid() == 1 && v.me.PID != 1; v.me.Namespace {
		if err := ownProc(); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoNamespace, err)
		}
	} else if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	v.procs = &procs{vm: v}
	key, err := os.ReadFile(vmdir.KeyFile(filepath.Dir(abs)))
	if err != nil {
		return nil, err
	}
	if v.meta, err = newMetadata(v.rec, vmdir.Proof(key, v.rec.ID)); err != nil {
		return nil, err
	}
	if err := os.WriteFile(v.dir.Path("metadata.url"), []byte(v.meta.url), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(v.dir.Path("heartbeat"), nil, 0o600); err != nil {
		return nil, err
	}
	return v, vmdir.Write(v.dir.Path("machine.json"), v.me)
}

// ownProc mounts the PID namespace's own /proc. Mounts of the host still come
// in, ours do not go out.
func ownProc() error {
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// live returns why the VM ends.
func (v *vm) live(ctx context.Context) (reason string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go v.procs.adopt(ctx)
	booted := time.After(time.Until(v.rec.LaunchedAt.Add(v.rec.BootDelay.D())))
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var beaten, noted time.Time
	v.Log.Info("vm started", "pid", v.me.PID, "namespace", v.me.Namespace)
	for {
		select {
		case <-ctx.Done():
			return vmdir.ReasonShutdown
		case reason := <-v.done:
			return reason
		case <-booted:
			go v.meta.serve()
			go v.keepAgent(ctx)
		case now := <-tick.C:
			if reason := v.orders(now); reason != "" {
				return reason
			}
			if now.Sub(beaten) >= vmdir.HeartbeatEvery {
				beaten = now
				// Without its directory a VM has no disk, and nobody would ever end it.
				if err := os.Chtimes(v.dir.Path("heartbeat"), now, now); errors.Is(err, fs.ErrNotExist) {
					return vmdir.ReasonLost
				}
			}
			if !v.me.Namespace && now.Sub(noted) >= time.Second {
				noted = now
				if err := v.procs.note(); err != nil {
					v.Log.Warn("list of processes not written", "error", err)
				}
			}
		}
	}
}

// orders looks for what the driver wrote; it returns why the VM is to end now.
func (v *vm) orders(now time.Time) string {
	k, err := v.dir.Kill()
	if err != nil {
		v.Log.Warn("kill order not readable", "error", err)
	}
	if k != nil {
		return k.Reason
	}
	w, err := v.dir.Warning()
	if err != nil {
		v.Log.Warn("notice not readable", "error", err)
	}
	if w == nil {
		return ""
	}
	if !w.HideGuest {
		v.meta.announce(w.Notice)
	}
	if !now.Before(w.Notice.Deadline) {
		return vmdir.ReasonInterrupted
	}
	return ""
}

// end kills everything on the VM, and writes down when that was done.
func (v *vm) end(reason string) error {
	v.Log.Info("vm ends", "reason", reason)
	if err := v.procs.killAll(10 * time.Second); err != nil {
		v.Log.Error("processes left for the reap", "error", err)
	}
	if v.RemoveContainers != nil {
		ctx, cancel := context.WithTimeout(context.Background(), removeWithin)
		defer cancel()
		if err := v.RemoveContainers(ctx, v.rec.ID); err != nil {
			v.Log.Error("containers left for the reap", "error", err)
		}
	}
	if err := v.dir.SetEnd(vmdir.End{At: time.Now().UTC(), Reason: reason}); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("record the end: %w", err)
	}
	return nil
}
