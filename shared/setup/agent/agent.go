// Package agent composes the VM's binary: the agent on its metadata service,
// the container runtimes, and the buckets.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"anycloud/shared/agent"
	"anycloud/shared/agent/dockerrt"
	"anycloud/shared/agent/execrt"
	"anycloud/shared/agent/keeper"
	"anycloud/shared/agent/runtime"
	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/bucket/bucketurl"
	"anycloud/shared/bucket/s3bucket"
	"anycloud/shared/cloud/localcloud"
	"anycloud/shared/cloud/localcloud/machine"
	"anycloud/shared/preempt/metadata"
)

// buckets are the stores that this binary can open.
var buckets = bucketurl.Registry{"file": bucketurl.File, "s3": s3bucket.Open}

// Open opens a bucket by its URL.
func Open(ctx context.Context, url string, env map[string]string) (bucket.Objects, error) {
	return buckets.Open(ctx, url, env)
}

// Make opens a bucket by its URL, making the directory of a file: one.
func Make(ctx context.Context, url string) (bucket.Objects, error) {
	return bucketurl.Registry{"file": bucketurl.MakeFile, "s3": s3bucket.Open}.Open(ctx, url, nil)
}

// Run is the agent's life on this VM, described by the environment that its
// machine gave it.
func Run(ctx context.Context, version string, getenv func(string) string) error {
	config := map[string]string{}
	for _, name := range []string{"ANYCLOUD_VM_DIR", "ANYCLOUD_VM_ID", "ANYCLOUD_METADATA"} {
		if config[name] = getenv(name); config[name] == "" {
			return fmt.Errorf("%s is not set: the agent is started by its VM, not by hand", name)
		}
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("vm", config["ANYCLOUD_VM_ID"])
	return agent.Run(ctx, agent.Options{
		Dir: config["ANYCLOUD_VM_DIR"], VMID: config["ANYCLOUD_VM_ID"], Cloud: localcloud.Name, Version: version, Logger: log,
		Metadata: metadata.Local(config["ANYCLOUD_METADATA"]),
		Connect:  func(endpoint string) api.AgentService { return api.NewClient(endpoint, "", nil) },
		Runtime:  openRuntime,
		Open: func(ctx context.Context, a bucket.Access) (bucket.Objects, error) {
			return buckets.Open(ctx, a.URL, a.Env)
		},
		Listen: agent.ListenUnix, PretendGPUs: getenv("ANYCLOUD_PRETEND_GPUS") != "",
	})
}

// openRuntime chooses by the image: exec: runs on the VM itself.
func openRuntime(image, dir string) (runtime.Runtime, error) {
	if strings.HasPrefix(image, "exec:") {
		return execrt.New(dir, nil), nil
	}
	return dockerrt.New(dir, nil)
}

// ExitCode is what the agent ends with: powering the VM off is not to be
// restarted.
func ExitCode(err error) int {
	if errors.Is(err, agent.ErrPowerOff) {
		return machine.ExitPowerOff
	}
	return 1
}

// Keep is the keeper of one container.
func Keep(dir string) error { return keeper.Run(dir, execrt.Engine{}, dockerrt.Engine{}) }

// Machine is the local VM's process.
func Machine(ctx context.Context, dir string) int {
	return machine.ExitCode(machine.Run(ctx, dir, machine.Options{RemoveContainers: remove}))
}

// Reap clears away what is left of a dead local VM.
func Reap(ctx context.Context, dir string) (int, error) {
	err := machine.Reap(ctx, dir, remove)
	return machine.ExitCode(err), err
}

// remove removes what a VM's containers leave: the container engine's own, and
// the empty control groups of commands.
func remove(ctx context.Context, vmID string) error {
	return errors.Join(dockerrt.RemoveByVM(ctx, vmID), execrt.RemoveByVM(vmID))
}
