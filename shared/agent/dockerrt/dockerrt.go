// Package dockerrt is the runtime of the docker engine. The container runs below
// the engine; its keeper reads the container's output and waits for its end. A
// keeper that dies is replaced, and the container knows nothing of it.
package dockerrt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"anycloud/shared/agent/keeper"
	"anycloud/shared/agent/runtime"
)

const engineName = "docker"

// Labels of our containers.
const (
	LabelVM        = "anycloud.vm"
	LabelJob       = "anycloud.job"
	LabelAttempt   = "anycloud.attempt"
	labelContainer = "anycloud.container" // keeper.Launch.ID
)

// Runtime is the docker runtime.
type Runtime struct {
	*keeper.Client
	cli *client.Client
}

var _ runtime.Runtime = (*Runtime)(nil)

// New makes the runtime of the container whose state is at dir. It does not
// talk to the engine yet, which the usual variables (DOCKER_HOST) name.
func New(dir string, o *keeper.Options) (*Runtime, error) {
	cli, err := client.New(client.FromEnv)
	if err != nil {
		return nil, fmt.Errorf("docker client: %w", err)
	}
	cfg := keeper.Config{Engine: engineName, Levels: []keeper.Level{{Attr: session()}}}
	return &Runtime{keeper.NewClient(dir, cfg, o), cli}, nil
}

// Available says whether an engine answers.
func Available(ctx context.Context) bool {
	cli, err := client.New(client.FromEnv)
	if err != nil {
		return false
	}
	defer cli.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = cli.Ping(ctx, client.PingOptions{})
	return err == nil
}

// Close implements runtime.Runtime.
func (r *Runtime) Close() error {
	return errors.Join(r.Client.Close(), r.cli.Close())
}

// Remove implements runtime.Runtime.
func (r *Runtime) Remove(ctx context.Context) error {
	rec, err := r.Record()
	if err != nil || rec == nil {
		return err
	}
	// Without its keeper's help the engine still kills what it removes.
	killErr := r.Kill(ctx)
	if err := removeAll(ctx, r.cli, labelContainer+"="+rec.ID); err != nil {
		return errors.Join(err, killErr)
	}
	return r.AwaitGone(ctx)
}

// removeAll returns when no container has the label any more.
func removeAll(ctx context.Context, cli *client.Client, label string) error {
	for {
		list, err := cli.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", label)})
		if err != nil {
			return fmt.Errorf("list containers: %w", err)
		}
		if len(list.Items) == 0 {
			return nil
		}
		busy := false
		for _, item := range list.Items {
			_, err := cli.ContainerRemove(ctx, item.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
			switch {
			case err == nil, errdefs.IsNotFound(err):
			case errdefs.IsConflict(err): // somebody is removing it
				busy = true
			default:
				return fmt.Errorf("remove container: %w", err)
			}
		}
		if !busy {
			continue
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove containers: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
