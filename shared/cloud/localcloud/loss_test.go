//go:build linux

package localcloud

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anycloud/shared/cloud"
	"anycloud/shared/cloud/localcloud/vmdir"
	"anycloud/shared/internal/suite"
	"anycloud/shared/preempt"
	"anycloud/shared/preempt/metadata"
)

// processes counts this machine's processes with this command line, found by
// what they are and not by how anycloud finds them.
func processes(t *testing.T, args ...string) (pids []int) {
	t.Helper()
	want := strings.Join(args, "\x00") + "\x00"
	err := vmdir.Each(func(pid int) {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && string(b) == want {
			pids = append(pids, pid)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

func sleepers(t *testing.T) int { return len(processes(t, "sleep", sleepArg)) }

func (c *Cloud) diskFile(t *testing.T, id, name string) string {
	t.Helper()
	var b []byte
	until(t, name+" is on the disk", func() bool {
		var err error
		b, err = os.ReadFile(filepath.Join(c.dir(id).Disk(), name))
		return err == nil
	})
	return string(b)
}

// TestSIGKILL: with the machine process everything on the VM dies, and its end
// is told as it was.
func TestSIGKILL(t *testing.T) {
	for _, tt := range []struct {
		name, agent string
		plain       bool
	}{{"daemon in a namespace", "daemon", false}, {"child without one", "child", true}, {"daemon without one", "daemon", true}} {
		t.Run(tt.name, func(t *testing.T) {
			c := open(t, Options{Env: agentEnv(tt.agent, ""), NoNamespace: tt.plain})
			vm := c.launch(t, "a")
			p := c.process(t, vm.ID)
			if !tt.plain && !p.Namespace {
				suite.Need(t, "mount")
				suite.Need(t, "userns")
				t.Fatal("this machine has namespaces, and the VM none")
			}
			pid, err := strconv.Atoi(strings.TrimSpace(c.diskFile(t, vm.ID, tt.agent)))
			if err != nil {
				t.Fatal(err)
			}
			until(t, "the agent left something running", func() bool { return sleepers(t) > 0 })
			if tt.plain && tt.agent == "daemon" {
				until(t, "the machine process noted its daemon", func() bool {
					noted, _ := vmdir.Read[[]vmdir.Process](c.dir(vm.ID).Path("pids"))
					return noted != nil && slices.ContainsFunc(*noted, func(p vmdir.Process) bool { return p.PID == pid })
				})
			}
			killed := time.Now()
			if err := p.Kill(); err != nil {
				t.Fatal(err)
			}
			end := c.await(t, vm.ID, cloud.Terminated)
			if n := sleepers(t); n != 0 {
				t.Errorf("%d processes are left", n)
			}
			if off := end.EndedAt.Sub(killed); off < -2*vmdir.HeartbeatEvery || off > time.Second {
				t.Errorf("its end is told %v beside the truth", off)
			}
			if end.EndReason != vmdir.ReasonLost {
				t.Errorf("reason %q", end.EndReason)
			}
		})
	}
}

func TestAgent(t *testing.T) {
	t.Run("powers off", func(t *testing.T) {
		c := open(t, Options{Env: agentEnv("off", "")})
		if end := c.await(t, c.launch(t, "a").ID, cloud.Terminated); end.EndReason != vmdir.ReasonPowerOff {
			t.Errorf("reason %q", end.EndReason)
		}
	})
	t.Run("is restarted", func(t *testing.T) {
		c := open(t, Options{Env: agentEnv("die-once", "")})
		id := c.launch(t, "a").ID
		env := c.diskFile(t, id, "env")
		for _, want := range []string{"ANYCLOUD_VM_ID=" + id, "ANYCLOUD_VM=" + id, "ANYCLOUD_VM_DIR=" + c.dir(id).Disk(), "ANYCLOUD_METADATA=http://127.0.0.1:"} {
			if !strings.Contains(env, want) {
				t.Errorf("the agent lacks %s", want)
			}
		}
		if got := c.diskFile(t, id, "starts"); got != ".." {
			t.Errorf("starts %q", got)
		}
	})
	t.Run("is killed", func(t *testing.T) {
		c := open(t, Options{Env: agentEnv("child", ""), NoNamespace: true})
		id := c.launch(t, "a").ID
		c.diskFile(t, id, "env")
		until(t, "the first agent's child sleeps", func() bool { return sleepers(t) == 1 })
		os.Remove(filepath.Join(c.dir(id).Disk(), "env"))
		for _, pid := range processes(t, c.o.AgentPath, "run") {
			if stat, err := vmdir.ReadStat(pid); err == nil && stat.Parent == c.process(t, id).PID {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.diskFile(t, id, "env") // a new one is up
		// The children of the first one survived it.
		until(t, "two agents' children sleep", func() bool { return sleepers(t) == 2 })
	})
}

// TestContainers: a VM is terminated only when its containers are gone too.
func TestContainers(t *testing.T) {
	dir := t.TempDir()
	c := open(t, Options{Env: agentEnv("", dir)})
	id := c.launch(t, "a").ID
	stuck := filepath.Join(dir, id, "stuck")
	if err := errors.Join(os.Mkdir(filepath.Dir(stuck), 0o700), os.WriteFile(stuck, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := c.Drill(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	until(t, "a reap has failed", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.failed[id].IsZero()
	})
	if vm, err := c.Describe(t.Context(), id); err != nil || vm.State != cloud.Going {
		t.Errorf("with a container left: %+v, %v", vm, err)
	}
	if err := os.Remove(stuck); err != nil {
		t.Fatal(err)
	}
	c.await(t, id, cloud.Terminated)
	if _, err := os.Stat(filepath.Dir(stuck)); err == nil {
		t.Error("its container is left")
	}
}

// TestDriverRestart: VMs outlive a driver and are found by the next.
func TestDriverRestart(t *testing.T) {
	root := filepath.Join(t.TempDir(), "vms")
	first := open(t, Options{Root: root})
	a, b, lost := first.launch(t, "a"), first.launch(t, "b"), first.launch(t, "c")
	proof := vmdir.Proof(first.key, a.ID)
	first.Close()
	if err := first.process(t, lost.ID).Kill(); err != nil {
		t.Fatal(err)
	}
	second := open(t, Options{Root: root})
	if got := second.launch(t, "a"); got.ID != a.ID || got.State != cloud.Running {
		t.Errorf("replayed: %+v", got)
	}
	if id, err := second.VerifyProof(t.Context(), proof); id != a.ID || err != nil {
		t.Errorf("proof: %q, %v", id, err)
	}
	if vm, err := second.Describe(t.Context(), b.ID); err != nil || vm.State != cloud.Running || !vm.LaunchedAt.Equal(b.LaunchedAt) {
		t.Errorf("found %+v, %v", vm, err)
	}
	second.await(t, lost.ID, cloud.Terminated)
}

// TestDriverKilled: with its whole process group.
func TestDriverKilled(t *testing.T) {
	root := filepath.Join(t.TempDir(), "vms")
	c := open(t, Options{Root: root})
	cmd := exec.Command(c.o.AgentPath, "driver", root)
	cmd.Env = append(os.Environ(), "LC_TEST_SLEEP="+sleepArg)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if out, err := cmd.CombinedOutput(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("the driver ended with %v: %s", err, out)
	}
	vms, _, err := c.List(t.Context(), "")
	if err != nil || len(vms) != 1 || vms[0].State != cloud.Running {
		t.Fatalf("listed %+v, %v", vms, err)
	}
	c.diskFile(t, vms[0].ID, "child")
	if err := c.Terminate(t.Context(), vms[0].ID); err != nil {
		t.Fatal(err)
	}
	c.await(t, vms[0].ID, cloud.Terminated)
	if n := sleepers(t); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

// TestNoAgent: what cannot start is said, and leaves nothing.
func TestNoAgent(t *testing.T) {
	c := open(t, Options{})
	r, agent := c.request(t, "a"), c.o.AgentPath
	c.o.AgentPath = filepath.Join(t.TempDir(), "none")
	if _, err := c.Launch(t.Context(), r); !errors.Is(err, cloud.ErrDenied) || !strings.Contains(err.Error(), "make build") {
		t.Errorf("no agent: %v", err)
	}
	if vms, _, err := c.List(t.Context(), ""); err != nil || len(vms) != 0 {
		t.Errorf("left %+v, %v", vms, err)
	}
	c.o.AgentPath = "/bin/false"
	if _, err := c.Launch(t.Context(), r); err == nil || !strings.Contains(err.Error(), "ended at once") {
		t.Errorf("a broken agent: %v", err)
	}
	c.o.AgentPath = agent // repaired: the repetition starts it
	c.await(t, c.launch(t, "a").ID, cloud.Running)
}

// TestCutLaunch: a driver that died between directory and process.
func TestCutLaunch(t *testing.T) {
	c := open(t, Options{})
	for _, token := range []string{"replayed", "terminated", "left alone"} {
		vm, err := c.intend(vmID("stack", token), c.request(t, token), Faults{})
		if err != nil || vm.State != cloud.Pending {
			t.Fatalf("%s: %+v, %v", token, vm, err)
		}
		if token == "left alone" { // but listed, as the sweep does
			until(t, "its start", func() bool {
				_, _, err := c.List(t.Context(), "")
				p, perr := c.dir(vm.ID).Process()
				return err == nil && perr == nil && p != nil
			})
			c.await(t, vm.ID, cloud.Running)
			continue
		}
		if token == "replayed" {
			if got := c.launch(t, token); got.ID != vm.ID {
				t.Errorf("replayed as %s", got.ID)
			}
			c.await(t, vm.ID, cloud.Running)
			c.process(t, vm.ID)
		} else if err := c.Terminate(t.Context(), vm.ID); err != nil {
			t.Error(err)
		} else if end := c.await(t, vm.ID, cloud.Terminated); end.EndReason != vmdir.ReasonTerminated {
			t.Errorf("ended as %+v", end)
		}
	}
}

// TestNotice: what the VM hears, and that it ends itself without a driver.
func TestNotice(t *testing.T) {
	c := open(t, Options{})
	id := c.launch(t, "a").ID
	url, err := os.ReadFile(c.dir(id).Path("metadata.url"))
	if err != nil {
		t.Fatal(err)
	}
	src := metadata.Local(string(url))
	if n, err := src.Notice(t.Context(), 0); n != nil || err != nil {
		t.Fatalf("notice before: %+v, %v", n, err)
	}
	p := c.process(t, id)
	var n *preempt.Notice
	var wg sync.WaitGroup
	wg.Go(func() { n, err = src.Notice(t.Context(), 20*time.Second) })
	if err := c.Drill(t.Context(), id, 400*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err != nil || n == nil || n.VMID != id || !n.Drill || n.Deadline.Sub(n.At) != 400*time.Millisecond {
		t.Errorf("notice %+v, %v", n, err)
	}
	if !p.AwaitDead(5 * time.Second) { // nobody looks at the driver meanwhile
		t.Fatal("it lives on")
	}
	if end := c.await(t, id, cloud.Terminated); end.EndedAt.Before(n.Deadline) || end.EndedAt.After(n.Deadline.Add(time.Second)) || end.EndReason != vmdir.ReasonInterrupted {
		t.Errorf("ended %+v, deadline %v", end, n.Deadline)
	}
}

func TestWatch(t *testing.T) {
	root := filepath.Join(t.TempDir(), "vms")
	c := open(t, Options{Root: root, Faults: Faults{DoubledWarning: true}})
	var mu sync.Mutex
	told := map[string][]string{}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		c.Watch(ctx, func(n preempt.Notice) {
			mu.Lock()
			defer mu.Unlock()
			if n.Kind != preempt.Going { // may be skipped where the end is quick
				told[n.VMID] = append(told[n.VMID], fmt.Sprint(n.Kind, " ", n.Drill))
			}
		})
	})
	defer wg.Wait()
	defer cancel()
	warned, shot, lost, hidden := c.launch(t, "a").ID, c.launch(t, "b").ID, c.launch(t, "c").ID, c.launch(t, "d").ID
	until(t, "the watch looked", func() bool {
		return c.Drill(t.Context(), warned, 200*time.Millisecond) == nil
	})
	setFaults(t, root, Faults{LostWarning: LostToControl})
	if err := errors.Join(c.Drill(t.Context(), hidden, 100*time.Millisecond), c.Drill(t.Context(), shot, 0), c.process(t, lost).Kill()); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		warned: {"interruption true", "interruption true", "gone true"},
		shot:   {"gone true"},
		lost:   {"gone false"},
		hidden: {"gone true"},
	}
	until(t, "all was told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for _, l := range told {
			n += len(l)
		}
		return n >= 6
	})
	mu.Lock()
	defer mu.Unlock()
	for id, w := range want {
		if !slices.Equal(told[id], w) {
			t.Errorf("%s: told %q, want %q", id, told[id], w)
		}
	}
}
