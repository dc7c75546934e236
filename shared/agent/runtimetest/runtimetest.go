// Package runtimetest is the suite that every runtime.Runtime passes. The
// containers run small shell scripts.
package runtimetest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"anycloud/shared/agent/keeper"
	"anycloud/shared/agent/runtime"
)

// Harness brings one runtime.
type Harness struct {
	// New makes the runtime of dir, as an agent would. Its keepers are this test
	// binary: see Main.
	New func(dir string) (runtime.Runtime, error)
	// Image that has sh and the usual small commands.
	Image string
	// OwnPaths: mounts are at their targets.
	OwnPaths bool
	// OwnProc: the container sees no processes but its own.
	OwnProc bool
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for name, test := range map[string]func(*testing.T, Harness){
		"Exit": testExit, "OutputBeforeWait": testOutputBeforeWait, "Environment": testEnvironment,
		"Paths": testPaths, "Workdir": testWorkdir, "SecondAgent": testSecondAgent, "KilledAgent": testKilledAgent, "Shutdown": testShutdown,
		"StopGrace": testStopGrace, "StopIgnored": testStopIgnored, "StopHurried": testStopHurried,
		"StopOfNone": testStopOfNone, "Leftovers": testLeftovers, "Zombies": testZombies, "Remove": testRemove,
		"Freeze": testFreeze, "FreezeBounded": testFreezeBounded, "FreezeOfDeadAgent": testFreezeOfDeadAgent,
		"FreezeAndStop": testFreezeAndStop, "FreezeRefused": testFreezeRefused,
		"CommandNotFound": testCommandNotFound, "NotExecutable": testNotExecutable, "ShellNotFound": testShellNotFound,
		"LongLine": testLongLine, "ManyLines": testManyLines, "NoNewline": testNoNewline,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

// secretEnv is what an agent's environment could hold.
const secretEnv = "ANYCLOUD_AGENT_SECRET"

// Main is a test binary's main: the binary is also the keeper, and an agent
// that gets killed.
func Main(m *testing.M, h Harness, engines ...keeper.Engine) int {
	os.Setenv(secretEnv, "leaked")
	// The tests mostly wait for containers, and not for processors.
	if err := flag.Set("test.parallel", "4"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if len(os.Args) != 3 {
		return m.Run()
	}
	var err error
	switch os.Args[1] {
	case "keeper":
		err = keeper.Run(os.Args[2], engines...)
	case "agent-starts":
		err = agent(h, os.Args[2], func(ctx context.Context, r runtime.Runtime) error {
			return r.Start(ctx, h.Spec(os.Args[2], Ticking))
		})
	case "agent-freezes":
		err = agent(h, os.Args[2], func(ctx context.Context, r runtime.Runtime) error { return r.Freeze(ctx) })
	default:
		return m.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// agent does something, says so and waits to be killed.
func agent(h Harness, dir string, do func(context.Context, runtime.Runtime) error) error {
	r, err := h.New(dir)
	if err != nil {
		return err
	}
	if err := do(context.Background(), r); err != nil {
		return err
	}
	fmt.Println("done")
	select {}
}

// Ticking appends to a file for ever.
const Ticking = `while :; do echo x >> "$ANYCLOUD_CHECKPOINT_DIR/ticks"; sleep 0.01; done`

// maxPause is longer than a test waits.
const maxPause = time.Hour

// Spec is that of a script whose checkpoint directory is dir/checkpoint.
func (h Harness) Spec(dir, script string) runtime.Spec {
	return runtime.Spec{
		JobID: "j-" + filepath.Base(filepath.Dir(dir)) + "-" + filepath.Base(dir), Attempt: 3, VMID: "vm-" + filepath.Base(filepath.Dir(dir)),
		Image: h.Image, Command: []string{"sh", "-c", script}, MaxPause: maxPause,
		Env: map[string]string{"GREETING": "a 'b' \"c\"\n$d"},
		Mounts: []runtime.Mount{
			{Source: filepath.Join(dir, "checkpoint"), Target: runtime.CheckpointDir, Env: map[string]string{"ANYCLOUD_CHECKPOINT_DIR": ""}},
			{Source: filepath.Join(dir, "input"), Target: runtime.InputDir, ReadOnly: true, Env: map[string]string{"ANYCLOUD_INPUT_DIR": ""}},
			{Source: filepath.Join(dir, "run"), Target: runtime.RunDir, Env: map[string]string{"ANYCLOUD_NOTICE_FILE": "notice.json"}},
		},
	}
}
