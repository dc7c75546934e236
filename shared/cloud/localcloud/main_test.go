//go:build linux

package localcloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycloud/shared/cloud"
	"anycloud/shared/cloud/localcloud/machine"
	"anycloud/shared/cloud/localcloud/vmdir"
	"anycloud/shared/internal/suite"
	"anycloud/shared/job"
)

// This test binary is also the agent's binary: started as `vm DIR`, `reap DIR`
// or `run` it does what cmd/anycloud-agent does there. testAgent in its
// environment says how its agent behaves.
const testAgent = "LOCALCLOUD_TEST_AGENT"

func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	var err error
	switch os.Args[1] {
	case "vm":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		err = machine.Run(ctx, os.Args[2], machine.Options{RemoveContainers: removeContainers})
	case "reap":
		err = machine.Reap(context.Background(), os.Args[2], removeContainers)
	case "driver":
		err = runDriver(os.Args[2])
	case "run":
		os.Exit(runAgent(os.Getenv("ANYCLOUD_VM_DIR")))
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(machine.ExitCode(err))
}

// runDriver launches a VM and dies as a control plane may.
func runDriver(root string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c, err := New(Options{Root: root, Stack: "stack", AgentPath: self, Env: agentEnv("child", "")})
	if err != nil {
		return err
	}
	ps, err := c.Offers(context.Background(), cloud.Needs{Machine: machineSpec})
	if err != nil {
		return err
	}
	if _, err := c.Launch(context.Background(), cloud.LaunchRequest{Token: "a", Candidates: ps, Needs: machineSpec}); err != nil {
		return err
	}
	// The group, as Ctrl-C at a terminal would.
	return syscall.Kill(0, syscall.SIGKILL)
}

// removeContainers stands for a container engine: VMs' containers are files,
// and one named "stuck" cannot be removed.
func removeContainers(_ context.Context, vmID string) error {
	dir := os.Getenv("LC_TEST_CONTAINERS")
	if dir == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, vmID, "stuck")); err == nil {
		return errors.New("the engine does not answer")
	}
	return os.RemoveAll(filepath.Join(dir, vmID))
}

// runAgent is the agent of the tests. Words of testAgent, one by one:
func runAgent(disk string) int {
	for word := range strings.FieldsSeq(os.Getenv("LC_" + testAgent)) {
		switch word {
		case "off": // power the VM off
			return machine.ExitPowerOff
		case "die-once", "die-always": // to be restarted
			f, err := os.OpenFile(filepath.Join(disk, "starts"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				return 3
			}
			f.WriteString(".")
			if fi, _ := f.Stat(); word == "die-always" || fi.Size() == 1 {
				return 7
			}
		case "daemon": // a grandchild that hides as well as it can
			cmd := exec.Command("/bin/sh", "-c", `sleep "$1" & echo $! >"$0.tmp"; mv "$0.tmp" "$0"`, filepath.Join(disk, "daemon"), os.Getenv("LC_TEST_SLEEP"))
			cmd.Env = []string{"PATH=/usr/bin:/bin"}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := cmd.Run(); err != nil {
				return 3
			}
		case "child": // one that keeps its environment
			cmd := exec.Command("/bin/sh", "-c", `sleep "$1" & echo $! >"$0.tmp"; mv "$0.tmp" "$0"`, filepath.Join(disk, "child"), os.Getenv("LC_TEST_SLEEP"))
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := cmd.Run(); err != nil {
				return 3
			}
		}
	}
	env := filepath.Join(disk, "env")
	if os.WriteFile(env+".tmp", []byte(strings.Join(os.Environ(), "\n")), 0o600) != nil || os.Rename(env+".tmp", env) != nil {
		return 3
	}
	select {}
}

var machineSpec = job.Machine{CPUs: 1, Memory: 64 << 20, Arch: runtime.GOARCH}

// sleepArg tells our sleeping processes from those of others.
var sleepArg = cmp.Or(os.Getenv("LC_TEST_SLEEP"), strconv.Itoa(100000+os.Getpid()))

// agentEnv is the VMs' environment in a test: how the agent behaves, and where
// its containers are. The names begin so that VMEnv would keep them.
func agentEnv(agent, containers string) []string {
	// The race detector's runtime sleeps a second before its process ends.
	return append(VMEnv(os.Environ()), "GORACE=atexit_sleep_ms=0", "LC_"+testAgent+"="+agent, "LC_TEST_CONTAINERS="+containers, "LC_TEST_SLEEP="+sleepArg)
}

// open makes a driver, whose VMs end with the test.
func open(t *testing.T, o Options) *Cloud {
	t.Helper()
	suite.Need(t, "linux")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.AgentPath = self
	if o.Root == "" {
		o.Root = filepath.Join(t.TempDir(), "vms")
	}
	if o.Stack == "" {
		o.Stack = "stack"
	}
	if o.Env == nil {
		o.Env = agentEnv("", "")
	}
	if o.Inventory == nil {
		o.Inventory = &Inventory{Cores: 4, Memory: 8 << 30}
	}
	o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.faults.base, c.faults.file = Faults{}, os.DevNull+"/none"
		c.endAll(t)
		c.Close()
	})
	return c
}

// endAll leaves nothing of the test's VMs.
func (c *Cloud) endAll(t *testing.T) {
	until(t, "all VMs of the test are terminated", func() bool {
		vms, _, err := c.List(context.Background(), "")
		left := 0
		for _, vm := range vms {
			if vm.State != cloud.Terminated {
				left++
				c.Terminate(context.Background(), vm.ID)
			}
		}
		return err == nil && left == 0
	})
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (c *Cloud) request(t *testing.T, token string) cloud.LaunchRequest {
	t.Helper()
	ps, err := c.Offers(t.Context(), cloud.Needs{Machine: machineSpec, Spot: true})
	if err != nil {
		t.Fatal(err)
	}
	return cloud.LaunchRequest{Token: token, Job: "j", Attempt: 1, Launch: 1, Candidates: ps, Needs: machineSpec}
}

func (c *Cloud) launch(t *testing.T, token string) cloud.VM {
	t.Helper()
	vm, err := c.Launch(t.Context(), c.request(t, token))
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func (c *Cloud) await(t *testing.T, id string, s cloud.State) (vm cloud.VM) {
	t.Helper()
	until(t, id+" is "+string(s), func() bool {
		var err error
		if vm, err = c.Describe(context.Background(), id); err != nil {
			t.Fatal(err)
		}
		return vm.State == s
	})
	return vm
}

// process returns the VM's machine process.
func (c *Cloud) process(t *testing.T, id string) vmdir.Process {
	t.Helper()
	p, err := c.dir(id).Process()
	if err != nil || p == nil {
		t.Fatalf("machine process of %s: %v, %v", id, p, err)
	}
	return *p
}
