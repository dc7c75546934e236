// Package localcloud is the cloud port on this machine: a VM is a process in a
// session of its own that starts and restarts a real agent (package machine).
// Everything the driver knows is in the VMs' directories (package vmdir), so
// VMs outlive the control plane and are found again by the next one.
//
//	localcloud.go  options; the calls
//	launch.go      launch: directory first, then the process
//	spawn.go       starting the machine process, per system
//	look.go        what a directory and its process say of a VM
//	finish.go      from a dead process to a terminated VM
//	watch.go       notices and deaths as they happen
//	inventory.go   what this machine has; offers
//	faults.go      faults on demand
package localcloud

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"anycloud/shared/cloud"
	"anycloud/shared/cloud/localcloud/vmdir"
	"anycloud/shared/preempt"
)

// Name is the driver's word in placements.
const Name = "local"

// MachineType is the only one there is: as much of this machine as was asked.
const MachineType = "local"

// shown is how long an ended VM stays listed: as long as on EC2.
const shown = time.Hour

const pageSize = 100

// Options of the driver. Root, Stack and AgentPath are required.
type Options struct {
	Root         string   // directory of the VMs; made if absent
	Stack        string   // VMs of others are invisible
	AgentPath    string   // anycloud-agent, which has the commands vm, reap and run
	EndpointFile string   // holds the control plane's current URL
	Env          []string // of the VMs; see VMEnv

	Region    string     // pretended; default "local"
	Zones     []string   // pretended; default "local-a", "local-b", "local-c"
	Inventory *Inventory // nil: Detect
	// PretendGPUs says that the inventory's GPUs are not there: agents are told
	// not to ask a container engine for them.
	PretendGPUs bool
	Share       float64 // how often cores, memory and GPUs may be given away; default DefaultShare
	BootDelay   time.Duration
	Prices      Prices // pretended
	Faults      Faults
	// NoNamespace runs VMs without a PID namespace even where one could be had.
	NoNamespace bool

	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // nil: none
}

// Prices are pretended, in USD per hour of any VM.
type Prices struct{ Spot, OnDemand float64 }

// ParsePrices reads SPOT,ON-DEMAND: "0.30,1.00".
func ParsePrices(s string) (p Prices, err error) {
	spot, onDemand, ok := strings.Cut(s, ",")
	if p.Spot, err = strconv.ParseFloat(spot, 64); err == nil && ok {
		p.OnDemand, err = strconv.ParseFloat(onDemand, 64)
	}
	if err != nil || !ok || p.Spot < 0 || p.OnDemand < 0 {
		return Prices{}, fmt.Errorf("invalid prices %q: write spot and on-demand USD per hour, for example 0.30,1.00", s)
	}
	return p, nil
}

// DefaultShare lets a standby fit beside a dying VM, and some jobs beside each
// other. Nothing is reserved for anyone: VMs share the machine as processes do.
const DefaultShare = 4

// Cloud implements cloud.Cloud.
type Cloud struct {
	o         Options
	key       []byte
	inventory Inventory
	faults    faults

	launching sync.Mutex  // from the look at the capacity to the directory
	plain     atomic.Bool // namespaces were refused

	mu      sync.Mutex
	busy    map[string]*sync.Mutex // one start or finish of a VM at a time
	working map[string]bool        // a start or finish is under way in the background
	failed  map[string]time.Time   // its last failure
	closed  bool
	running context.Context // ends with Close
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

var _ cloud.Cloud = (*Cloud)(nil)

// New opens the root.
func New(o Options) (*Cloud, error) {
	if err := vmdir.Supported(); err != nil {
		return nil, err
	}
	for name, v := range map[string]string{"Root": o.Root, "Stack": o.Stack, "AgentPath": o.AgentPath} {
		if v == "" {
			return nil, fmt.Errorf("localcloud: %s is missing", name)
		}
	}
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return nil, err
	}
	o.Root = root
	if o.Region == "" {
		o.Region = "local"
	}
	if len(o.Zones) == 0 {
		o.Zones = []string{"local-a", "local-b", "local-c"}
	}
	if o.Share <= 0 {
		o.Share = DefaultShare
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cloud{
		o: o, busy: map[string]*sync.Mutex{},
		working: map[string]bool{}, failed: map[string]time.Time{},
	}
	c.plain.Store(o.NoNamespace)
	c.running, c.stop = context.WithCancel(context.Background())
	c.faults.base, c.faults.file = o.Faults, filepath.Join(root, "faults.json")
	if o.Inventory != nil {
		c.inventory = *o.Inventory
	} else if c.inventory, err = Detect(); err != nil {
		return nil, fmt.Errorf("look at this machine: %w", err)
	}
	if err := os.MkdirAll(c.endedDir(), 0o700); err != nil {
		return nil, err
	}
	if c.key, err = identityKey(root); err != nil {
		return nil, fmt.Errorf("identity key: %w", err)
	}
	c.sweepTrash()
	return c, nil
}

// Close ends what runs in the background. VMs live on; a reap that was cut off
// is repeated by the next driver.
func (c *Cloud) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.wg.Wait()
}

// identityKey returns the key that proofs are made with. Two drivers that make
// it at once agree on the first.
func identityKey(root string) ([]byte, error) {
	path := vmdir.KeyFile(root)
	if b, err := os.ReadFile(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	tmp := path + "." + rand.Text()
	defer os.Remove(tmp)
	if err := os.WriteFile(tmp, []byte(rand.Text()+rand.Text()), 0o600); err != nil {
		return nil, err
	}
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path)
}

func (c *Cloud) dir(id string) vmdir.Dir    { return vmdir.Dir(filepath.Join(c.o.Root, id)) }
func (c *Cloud) endedDir() string           { return filepath.Join(c.o.Root, "ended") }
func (c *Cloud) tombstone(id string) string { return filepath.Join(c.endedDir(), id+".json") }

// validID keeps ids from naming other files.
var validID = regexp.MustCompile(`^i-local-[a-z2-7]{12}$`)

func notFound(id string) error { return fmt.Errorf("vm %q: %w", id, cloud.ErrNotFound) }

// Name implements cloud.Cloud.
func (c *Cloud) Name() string { return Name }

// begin is what every call does first.
func (c *Cloud) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.faults.call()
}

// List implements cloud.Cloud.
func (c *Cloud) List(ctx context.Context, page string) ([]cloud.VM, string, error) {
	if err := c.begin(ctx); err != nil {
		return nil, "", err
	}
	if page != "" && !validID.MatchString(page) {
		return nil, "", fmt.Errorf("list page %q: %w", page, cloud.ErrInvalid)
	}
	ids, err := c.ids(true)
	if err != nil {
		return nil, "", fmt.Errorf("list vms: %w", err)
	}
	var vms []cloud.VM
	for _, id := range ids {
		if id <= page {
			continue
		}
		vm, err := c.look(id)
		if errors.Is(err, cloud.ErrNotFound) {
			continue
		}
		if err != nil { // one spoilt directory must not blind the sweep to all others
			c.o.Log.Error("vm not readable", "vm", id, "error", err)
			continue
		}
		if len(vms) == pageSize {
			return vms, vms[pageSize-1].ID, nil
		}
		vms = append(vms, vm)
	}
	return vms, "", nil
}

// Describe implements cloud.Cloud.
func (c *Cloud) Describe(ctx context.Context, id string) (cloud.VM, error) {
	if err := c.begin(ctx); err != nil {
		return cloud.VM{}, err
	}
	return c.look(id)
}

// Terminate implements cloud.Cloud. The VM's processes are killed by the time
// it returns, or soon after; it is terminated once the reap says so.
func (c *Cloud) Terminate(ctx context.Context, id string) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	vm, err := c.look(id)
	if err != nil || vm.State == cloud.Terminated {
		return err
	}
	return c.kill(id, vmdir.Kill{At: c.o.Now().UTC(), Reason: vmdir.ReasonTerminated})
}

// kill orders the VM's end, kills its machine process, and lets the rest follow.
func (c *Cloud) kill(id string, k vmdir.Kill) error {
	d := c.dir(id)
	if err := vmdir.WriteOnce(d.Path("kill.json"), k); err != nil {
		if errors.Is(err, fs.ErrNotExist) { // it ended meanwhile
			return nil
		}
		return fmt.Errorf("end vm %s: %w", id, err)
	}
	c.finishSoon(id)
	return nil
}

// VerifyProof implements cloud.Cloud.
func (c *Cloud) VerifyProof(ctx context.Context, proof string) (string, error) {
	if err := c.begin(ctx); err != nil {
		return "", err
	}
	rest, _ := strings.CutPrefix(proof, "local:")
	id, _, _ := strings.Cut(rest, ":")
	if validID.MatchString(id) && hmac.Equal([]byte(proof), []byte(vmdir.Proof(c.key, id))) {
		switch _, err := c.look(id); {
		case err == nil:
			return id, nil
		case !errors.Is(err, cloud.ErrNotFound):
			return "", err
		}
	}
	return "", fmt.Errorf("verify proof: %w", cloud.ErrBadProof)
}

// Drill implements cloud.Cloud: any notice can be given. The machine process
// itself takes the VM down at the deadline, with or without a control plane.
func (c *Cloud) Drill(ctx context.Context, id string, notice time.Duration) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	if notice < 0 {
		return fmt.Errorf("drill: negative notice: %w", cloud.ErrInvalid)
	}
	vm, err := c.look(id)
	if err != nil {
		return err
	}
	if vm.State == cloud.Terminated || vm.State == cloud.Going {
		return fmt.Errorf("drill: vm %s has ended or is about to: %w", id, cloud.ErrNotFound)
	}
	now := c.o.Now().UTC()
	if notice == 0 {
		return c.kill(id, vmdir.Kill{At: now, Reason: vmdir.ReasonInterrupted, Drill: true})
	}
	d, f := c.dir(id), c.faults.now()
	deadline := now.Add(notice)
	if w, err := d.Warning(); err != nil || w != nil && !w.Notice.Deadline.After(deadline) {
		return err
	}
	err = vmdir.Write(d.Path("notice.json"), vmdir.Warning{
		Notice:      preempt.Notice{VMID: id, Kind: preempt.Interruption, Deadline: deadline, At: now, Source: Name, Drill: true},
		HideControl: f.LostWarning != "", HideGuest: f.LostWarning == LostEverywhere, TellTwice: f.DoubledWarning,
	})
	if errors.Is(err, fs.ErrNotExist) {
		return notFound(id)
	}
	return err
}
