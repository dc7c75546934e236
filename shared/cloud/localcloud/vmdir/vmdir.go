// Package vmdir is the directory of one local VM: what the driver in the
// control plane and the machine process tell each other. Neither keeps any of
// it in memory alone, because either may be killed at any line.
//
//	vm.json       Record: written with the directory, never changed
//	lock          held by the machine process for as long as it lives
//	machine.json  Process: which process that is
//	metadata.url  base URL of the VM's metadata service, secret path included
//	heartbeat     touched by the machine process every HeartbeatEvery
//	pids          the VM's processes, where no PID namespace holds them
//	notice.json   Warning: an interruption announced
//	kill.json     Kill: the VM is to end now
//	end.json      End: when and why it did, if somebody saw it
//	console.log   what the machine process and its agent print
//	disk/         the VM's disk
package vmdir

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

// Format of the files. A reader refuses a newer one.
const Format = 1

// HeartbeatEvery bounds how much too early the end of a VM is told whose
// machine process was killed while nobody looked.
const HeartbeatEvery = 250 * time.Millisecond

// MarkerEnv is in the environment of every process of a VM that did not clear
// it; its value is the VM's id.
const MarkerEnv = "ANYCLOUD_VM"

// Exit codes of the machine process, which the driver knows.
const (
	// ExitNoNamespace: this system does not let the VM have a PID namespace.
	ExitNoNamespace = 43
	// ExitTaken: another machine process runs this VM.
	ExitTaken = 44
)

// Record is what was decided at launch.
type Record struct {
	Format       int           `json:"format"`
	ID           string        `json:"id"`
	Stack        string        `json:"stack"`
	Token        string        `json:"token"`
	Job          string        `json:"job"`
	Attempt      int           `json:"attempt"`
	Launch       int           `json:"launch"`
	Placement    job.Placement `json:"placement"`
	CPUs         float64       `json:"cpus"`   // reserved
	Memory       int64         `json:"memory"` // reserved, bytes
	GPU          string        `json:"gpu,omitempty"`
	LaunchedAt   time.Time     `json:"launched_at"`
	BootDelay    job.Duration  `json:"boot_delay"`
	EndpointFile string        `json:"endpoint_file"`
	PretendGPUs  bool          `json:"pretend_gpus,omitempty"`
}

// Process names a process beyond doubt: pids are used again, a pid with a
// start time within one boot of the kernel is not.
type Process struct {
	PID       int    `json:"pid"`
	Start     uint64 `json:"start"` // field 22 of /proc/PID/stat: clock ticks since boot
	Boot      string `json:"boot"`  // /proc/sys/kernel/random/boot_id
	Namespace bool   `json:"namespace"`
}

// Warning is an interruption announced.
type Warning struct {
	Notice      preempt.Notice `json:"notice"`
	HideControl bool           `json:"hide_control,omitempty"` // listings and events lose it
	HideGuest   bool           `json:"hide_guest,omitempty"`   // the VM's own metadata lacks it
	TellTwice   bool           `json:"tell_twice,omitempty"`
}

// Kill says that the VM is to end now.
type Kill struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	Drill  bool      `json:"drill,omitempty"`
}

// End says when and why the VM ended.
type End struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// Tombstone is what is kept of an ended VM, in ended/<id>.json.
type Tombstone struct {
	Record
	EndedAt   time.Time `json:"ended_at"`
	EndReason string    `json:"end_reason"`
	Drill     bool      `json:"drill,omitempty"`
}

// Reasons for an end.
const (
	ReasonTerminated  = "terminated by request"
	ReasonInterrupted = "interrupted (drill)"
	ReasonPowerOff    = "powered off by its agent"
	ReasonShutdown    = "shut down"
	ReasonLost        = "its machine process was killed"
)

// Dir is a VM's directory, by its path.
type Dir string

// ID is the VM's id.
func (d Dir) ID() string { return filepath.Base(string(d)) }

// Path of a file in it.
func (d Dir) Path(name string) string { return filepath.Join(string(d), name) }

// Disk is the VM's disk.
func (d Dir) Disk() string { return d.Path("disk") }

// Record reads vm.json. fs.ErrNotExist: there is no such VM (any more).
func (d Dir) Record() (*Record, error) {
	r, err := Read[Record](d.Path("vm.json"))
	switch {
	case err != nil:
		return nil, err
	case r == nil:
		return nil, fmt.Errorf("vm %s: %w", d.ID(), fs.ErrNotExist)
	case r.Format > Format:
		return nil, fmt.Errorf("vm %s: its format %d is newer than this program knows (%d): update anycloud", d.ID(), r.Format, Format)
	}
	return r, nil
}

// Process reads machine.json; nil: no machine process got so far yet.
func (d Dir) Process() (*Process, error) { return Read[Process](d.Path("machine.json")) }

// Warning reads notice.json; nil: none.
func (d Dir) Warning() (*Warning, error) { return Read[Warning](d.Path("notice.json")) }

// Kill reads kill.json; nil: none.
func (d Dir) Kill() (*Kill, error) { return Read[Kill](d.Path("kill.json")) }

// End reads end.json; nil: none.
func (d Dir) End() (*End, error) { return Read[End](d.Path("end.json")) }

// SetEnd writes end.json if there is none.
func (d Dir) SetEnd(e End) error { return WriteOnce(d.Path("end.json"), e) }

// LastSign is the newest proof of life in the directory.
func (d Dir) LastSign() time.Time {
	for _, name := range []string{"heartbeat", "machine.json", "vm.json"} {
		if fi, err := os.Stat(d.Path(name)); err == nil {
			return fi.ModTime()
		}
	}
	return time.Time{}
}

// Read reads a JSON file; nil without error: it does not exist.
func Read[T any](path string) (*T, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return v, nil
}

// Write replaces a JSON file: readers see the old one or the new one.
func Write(path string, v any) error { return write(path, v, os.Rename) }

// WriteOnce writes a JSON file unless it exists, in which case it stays.
func WriteOnce(path string, v any) error {
	err := write(path, v, os.Link)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func write(path string, v any, publish func(from, to string) error) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return publish(f.Name(), path)
}

// Proof is what the VM presents as its identity: the id under a key that only
// the driver and the machine processes of this home can read.
func Proof(key []byte, id string) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("anycloud local vm\x00" + id))
	return "local:" + id + ":" + hex.EncodeToString(m.Sum(nil))
}

// KeyFile is the key's path, below the VMs' root.
func KeyFile(root string) string { return filepath.Join(root, "identity.key") }

// ErrTaken: another machine process runs this VM.
var ErrTaken = errors.New("another machine process runs this vm")
