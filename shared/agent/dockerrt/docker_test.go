package dockerrt_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"anycloud/shared/agent/dockerrt"
	"anycloud/shared/agent/runtime"
	"anycloud/shared/agent/runtimetest"
	"anycloud/shared/internal/testimage"
)

// What only the docker engine has.
func TestDocker(t *testing.T) {
	h := needImage(t)
	for name, test := range map[string]func(*testing.T, runtimetest.Harness){
		"OutOfMemory": testOutOfMemory, "Container": testContainer, "KeeperReplaced": testKeeperReplaced,
		"KeeperDiesFrozen": testKeeperDiesFrozen, "ExitUnseen": testExitUnseen, "RemovedByOthers": testRemovedByOthers,
		"RemoveByVM": testRemoveByVM, "NameTaken": testNameTaken, "StartFails": testStartFails,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

func inspect(t *testing.T, f *runtimetest.Fixture, s runtime.Spec) client.ContainerInspectResult {
	t.Helper()
	i, err := testimage.Client(t).ContainerInspect(f.Ctx, containerName(s), client.ContainerInspectOptions{})
	f.Must(err)
	return i
}

func containerName(s runtime.Spec) string { return fmt.Sprintf("anycloud-%s-%d", s.JobID, s.Attempt) }

func testOutOfMemory(t *testing.T, h runtimetest.Harness) {
	f := runtimetest.SetUp(t, h)
	s := h.Spec(f.Dir, `x=0123456789abcdef; while :; do x="$x$x"; done`)
	s.Memory = 32 << 20
	f.Must(f.R.Start(f.Ctx, s))
	if exit := f.Wait(); !exit.OOM || exit.Code != 137 || !exit.ByItself {
		t.Errorf("exit: %+v", exit)
	}
}

func testContainer(t *testing.T, h runtimetest.Harness) {
	f := runtimetest.SetUp(t, h)
	s := h.Spec(f.Dir, runtimetest.Ticking)
	s.Labels = map[string]string{"anycloud.stack": "s1"}
	s.ShmSize, s.CPUs, s.Memory = 8<<20, 0.5, 64<<20
	f.Must(f.R.Start(f.Ctx, s))
	i := inspect(t, f, s)
	c, host := i.Container.Config, i.Container.HostConfig
	for k, want := range map[string]string{"anycloud.vm": s.VMID, "anycloud.job": s.JobID, "anycloud.attempt": "3", "anycloud.stack": "s1"} {
		if c.Labels[k] != want {
			t.Errorf("label %s is %q, want %q", k, c.Labels[k], want)
		}
	}
	if host.Init == nil || !*host.Init || host.RestartPolicy.Name != "no" && host.RestartPolicy.Name != "" {
		t.Errorf("init %v, restart policy %q", host.Init, host.RestartPolicy.Name)
	}
	if host.ShmSize != s.ShmSize || host.NanoCPUs != 5e8 || host.Memory != s.Memory {
		t.Errorf("limits: %+v", host)
	}
}

// A keeper is replaced, and no line is lost or doubled.
func testKeeperReplaced(t *testing.T, h runtimetest.Harness) {
	f := runtimetest.SetUp(t, h)
	f.Start(`i=0; while ! test -e "$ANYCLOUD_INPUT_DIR/go"; do i=$((i+1)); echo $i; echo e$i >&2; done; echo end $i; exit 6`)
	for range 3 {
		was := len(f.Printed(runtime.Stdout))
		f.Until("it prints", func() bool { return len(f.Printed(runtime.Stdout)) > was+1000 })
		f.KillKeeper()
		if got := f.State(); got != runtime.StateRunning {
			t.Errorf("after the keeper's death: %s", got)
		}
	}
	f.Must(os.WriteFile(filepath.Join(f.Dir, "input", "go"), nil, 0o644))
	if exit := f.Wait(); exit.Code != 6 || !exit.ByItself {
		t.Errorf("exit: %+v", exit)
	}
	out, errs := strings.Split(f.Printed(runtime.Stdout), "\n"), strings.Split(f.Printed(runtime.Stderr), "\n")
	if len(out) != len(errs)+1 {
		t.Errorf("%d lines and %d lines", len(out)-2, len(errs)-1)
	}
	for i, l := range errs[:len(errs)-1] {
		if l != fmt.Sprint("e", i+1) || out[i] != fmt.Sprint(i+1) {
			t.Fatalf("line %d is %q and %q", i+1, out[i], l)
		}
	}
}

func testKeeperDiesFrozen(t *testing.T, h runtimetest.Harness) {
	f := runtimetest.SetUp(t, h)
	f.Start(runtimetest.Ticking)
	f.TicksOn()
	f.Must(f.R.Freeze(f.Ctx))
	f.KillKeeper()
	if got := f.State(); got != runtime.StateRunning { // the look brings a new one
		t.Errorf("state %s", got)
	}
	f.TicksOn()
	if err := f.R.Thaw(f.Ctx); err == nil {
		t.Error("the freeze was not ended by us, and thaw says nothing of it")
	}
}

// It ends while no keeper looks.
func testExitUnseen(t *testing.T, h runtimetest.Harness) {
	f := runtimetest.SetUp(t, h)
	s := h.Spec(f.Dir, `while ! test -e "$ANYCLOUD_INPUT_DIR/go"; do sleep 0.01; done; echo last words; exit 8`)
	f.Must(f.R.Start(f.Ctx, s))
	f.KillKeeper()
	f.Must(os.WriteFile(filepath.Join(f.Dir, "input", "go"), nil, 0o644))
	f.Until("it ends", func() bool { return !inspect(t, f, s).Container.State.Running })
	if exit := f.Wait(); exit.Code != 8 || !exit.ByItself {
		t.Errorf("exit: %+v", exit)
	}
	if out := f.Printed(runtime.Stdout); out != "last words\n" {
		t.Errorf("printed %q", out)
	}
}

func testRemovedByOthers(t *testing.T, h runtimetest.Harness) {
	f := runtimetest.SetUp(t, h)
	f.Start(runtimetest.Ticking)
	_, err := testimage.Client(t).ContainerRemove(f.Ctx, containerName(h.Spec(f.Dir, "")), client.ContainerRemoveOptions{Force: true})
	f.Must(err)
	if exit := f.Wait(); exit.ByItself || exit.Reason != runtime.ReasonRemoved && exit.Code != 137 {
		t.Errorf("exit: %+v", exit)
	}
}

func testRemoveByVM(t *testing.T, h runtimetest.Harness) {
	f := runtimetest.SetUp(t, h)
	s := h.Spec(f.Dir, runtimetest.Ticking)
	s.VMID = "vm-of-" + s.JobID
	f.Must(f.R.Start(f.Ctx, s))
	other := runtimetest.SetUp(t, h)
	other.Start(runtimetest.Ticking)
	f.KillKeeper()
	f.Must(dockerrt.RemoveByVM(f.Ctx, s.VMID))
	f.Still()
	f.Must(dockerrt.RemoveByVM(f.Ctx, s.VMID))
	other.TicksOn()
	if exit := f.Wait(); exit.ByItself {
		t.Errorf("exit: %+v", exit)
	}
}

// A container of the same name that ran is nobody's to remove here.
func testNameTaken(t *testing.T, h runtimetest.Harness) {
	first := runtimetest.SetUp(t, h)
	s := h.Spec(first.Dir, "true")
	first.Must(first.R.Start(first.Ctx, s))
	second := runtimetest.SetUp(t, h)
	s.Mounts = nil
	if err := second.R.Start(second.Ctx, s); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("start under a name that is taken: %v", err)
	}
	if got := second.State(); got != runtime.StateNone {
		t.Errorf("after a start that failed: %s", got)
	}
}

// A start that fails leaves nothing, and may be repeated.
func testStartFails(t *testing.T, h runtimetest.Harness) {
	f := runtimetest.SetUp(t, h)
	s := h.Spec(f.Dir, "exit 9")
	s.Mounts[0].Source += "-missing"
	for range 2 {
		if err := f.R.Start(f.Ctx, s); err == nil {
			t.Fatal("a container started without its checkpoint directory")
		}
		if got := f.State(); got != runtime.StateNone {
			t.Errorf("after a start that failed: %s", got)
		}
	}
	f.Must(f.R.Start(f.Ctx, h.Spec(f.Dir, "exit 9")))
	if exit := f.Wait(); exit.Code != 9 {
		t.Errorf("exit: %+v", exit)
	}
}

func TestNoEngineNoContainers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	if dockerrt.Available(ctx) {
		t.Error("an engine that is not there is available")
	}
	if err := dockerrt.RemoveByVM(ctx, "vm-1"); err != nil {
		t.Errorf("nothing can be there to remove: %v", err)
	}
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
	if err := dockerrt.RemoveByVM(ctx, "vm-1"); err == nil {
		t.Error("an engine elsewhere does not answer, and may have containers")
	}
}
