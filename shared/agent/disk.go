package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"anycloud/shared/api"
)

// diskFormat is the version of what the agent keeps on its VM's disk.
const diskFormat = 1

// state is what an agent that was killed leaves to the next one on its VM.
type state struct {
	Format   int             `json:"format"`
	Armed    time.Time       `json:"armed"` // first boot: the dead-man switch counts from here
	Secret   string          `json:"secret,omitempty"`
	Claim    *api.ClaimReply `json:"claim,omitempty"`   // the first answered claim
	Report   api.Report      `json:"report"`            // facts that a restarted agent repeats
	Started  bool            `json:"started,omitempty"` // a start of the container was intended: never again
	Ending   *ending         `json:"ending,omitempty"`  // the container is being stopped by us
	Restored restoredState   `json:"restored,omitzero"`
}

// restoredState is the commit that the container started from.
type restoredState struct {
	Number     int       `json:"number"`
	CapturedAt time.Time `json:"captured_at,omitzero"`
}

// ending is a stop that was decided. It is on the disk before the SIGTERM: a
// restarted agent goes on with it, and takes the container's end for our doing.
type ending struct {
	Why      string    `json:"why"`
	Deadline time.Time `json:"deadline,omitzero"`
	Now      bool      `json:"now,omitempty"` // kill it, and no last commit
}

// disk keeps the state in a file that is always whole.
type disk struct {
	dir  string
	path string
	mu   sync.Mutex
	s    state
}

func openDisk(dir string) (*disk, error) {
	d := &disk{dir: dir, path: filepath.Join(dir, "state", "agent.json")}
	if err := os.MkdirAll(filepath.Dir(d.path), 0o700); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		d.s.Format = diskFormat
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &d.s); err != nil {
		return nil, fmt.Errorf("read %s: %w", d.path, err)
	}
	if d.s.Format > diskFormat {
		return nil, fmt.Errorf("%s was written by a newer agent", d.path)
	}
	return d, nil
}

func (d *disk) get() state {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.s
}

// put changes the state; when it returns nil, the change survives a crash.
func (d *disk) put(change func(*state)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.s
	change(&s)
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := writeWhole(d.path, b, 0o600); err != nil {
		return fmt.Errorf("write the agent's state: %w", err)
	}
	d.s = s
	return nil
}

// writeWhole replaces a file atomically and durably.
func writeWhole(path string, b []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
