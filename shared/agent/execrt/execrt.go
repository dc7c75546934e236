// Package execrt is the runtime without a container engine: the command runs on
// the VM itself, as a child of its keeper.
//
// Where the system lets it, keeper and command have mounts and processes of
// their own: the mounts are at the paths that a container would see, nothing of
// the machine's file system is touched, and nothing of the command outlives its
// keeper. Elsewhere the variables name the real directories.
package execrt

import (
	"context"
	"os"
	"strings"

	"anycloud/shared/agent/keeper"
	"anycloud/shared/agent/runtime"
)

const engineName = "exec"

// markerEnv is in the environment of all that the command starts, so that what
// a dead keeper left is found.
const markerEnv = "ANYCLOUD_CONTAINER"

// Runtime is the exec runtime.
type Runtime struct {
	*keeper.Client
}

var _ runtime.Runtime = (*Runtime)(nil)

// New makes the runtime of the container at dir, a directory on the VM's disk.
func New(dir string, o *keeper.Options) *Runtime {
	return &Runtime{keeper.NewClient(dir, keeper.Config{Engine: engineName, Levels: levels(), Bury: bury}, o)}
}

// Pull implements runtime.Runtime: there is nothing to pull.
func (r *Runtime) Pull(context.Context, runtime.Spec, func(done, total int64, note string)) error {
	return nil
}

// Start implements runtime.Runtime.
func (r *Runtime) Start(ctx context.Context, spec runtime.Spec) error {
	spec.Env = environment(spec)
	return r.Client.Start(ctx, spec)
}

// Remove implements runtime.Runtime.
func (r *Runtime) Remove(ctx context.Context) error {
	if err := r.Kill(ctx); err != nil {
		return err
	}
	return r.AwaitGone(ctx)
}

// machineEnv are the machine's variables that a command gets; the agent's other
// variables may hold secrets.
var machineEnv = []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH",
	"ANYCLOUD_VM"} // the last one marks what must end with the VM

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is all but what the keeper knows better: the paths of the mounts.
func environment(spec runtime.Spec) map[string]string {
	env := map[string]string{"PATH": defaultPath}
	for _, name := range machineEnv {
		if v, ok := os.LookupEnv(name); ok {
			env[name] = v
		}
	}
	for _, kv := range os.Environ() {
		if k, v, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "LC_") {
			env[k] = v
		}
	}
	for k, v := range spec.Env {
		env[k] = v
	}
	for k, v := range runtime.JobEnv(spec) {
		env[k] = v
	}
	return env
}
