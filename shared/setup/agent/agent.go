// Package agent composes the agent's binary: what runs on a VM, and on this
// machine what stands for a VM.
//
//	agent.go   the agent with its runtimes, buckets and metadata
//	engine.go  the checkpoint engine as the agent uses it
//	vm.go      the machine process and its reap, the keeper
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	core "anycloud/shared/agent"
	"anycloud/shared/agent/dockerrt"
	"anycloud/shared/agent/execrt"
	"anycloud/shared/agent/runtime"
	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/bucket/bucketurl"
	"anycloud/shared/cloud/localcloud"
	"anycloud/shared/preempt/metadata"
)

// Config is what the VM's environment tells the agent.
type Config struct {
	Dir      string // ANYCLOUD_VM_DIR: the VM's disk
	VMID     string // ANYCLOUD_VM_ID
	Metadata string // ANYCLOUD_METADATA: base URL of the VM's metadata service
	Version  string
	Logger   *slog.Logger
}

// FromEnv reads the configuration; what is missing is named.
func FromEnv(getenv func(string) string) (Config, error) {
	c := Config{Dir: getenv("ANYCLOUD_VM_DIR"), VMID: getenv("ANYCLOUD_VM_ID"), Metadata: getenv("ANYCLOUD_METADATA")}
	var missing []string
	for name, v := range map[string]string{"ANYCLOUD_VM_DIR": c.Dir, "ANYCLOUD_VM_ID": c.VMID, "ANYCLOUD_METADATA": c.Metadata} {
		if v == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return c, fmt.Errorf("%s not set: the agent runs on a VM that anycloud launched", strings.Join(missing, ", "))
	}
	if !filepath.IsAbs(c.Dir) {
		return c, fmt.Errorf("ANYCLOUD_VM_DIR %q is not an absolute path", c.Dir)
	}
	return c, nil
}

// Buckets are those that the agent and its engine can open.
func Buckets() bucketurl.Registry { return bucketurl.Registry{"file": bucketurl.File} }

// Run is the agent's life. PowerOff tells what its error means for the VM.
func Run(ctx context.Context, c Config) error {
	hc := &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: time.Minute,
	}}
	buckets := Buckets()
	return core.Run(ctx, core.Options{
		Dir: c.Dir, VMID: c.VMID, Cloud: localcloud.Name, Version: c.Version, Logger: c.Logger,
		Metadata: metadata.Local(c.Metadata),
		Connect:  func(endpoint string) api.AgentService { return api.NewClient(endpoint, "", hc) },
		Runtime:  newRuntime,
		Open: func(ctx context.Context, a bucket.Access) (bucket.Objects, error) {
			return buckets.Open(ctx, a.URL, a.Env)
		},
		Engine: newEngine,
		Listen: core.ListenUnix,
	})
}

// PowerOff says whether an error of Run asks for the VM's end.
func PowerOff(err error) bool { return errors.Is(err, core.ErrPowerOff) }

// execImage begins the image of a job that runs on the VM itself.
const execImage = "exec:"

func newRuntime(image, dir string) (runtime.Runtime, error) {
	if strings.HasPrefix(image, execImage) {
		return execrt.New(dir, nil), nil
	}
	return dockerrt.New(dir, nil)
}
