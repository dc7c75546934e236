package dockerrt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"anycloud/shared/agent/keeper"
	"anycloud/shared/agent/keeper/joblog"
	"anycloud/shared/agent/runtime"
)

// Engine is the keeper's part.
type Engine struct{}

var _ keeper.Engine = Engine{}

// Name implements keeper.Engine.
func (Engine) Name() string { return engineName }

const (
	// The engine's own log is what we have not read yet. A follower of it loses
	// lines when two files are begun while it reads one (dockerd 20.10,
	// daemon/logger/loggerutils/logfile.go), so one file must hold all by which
	// we can ever be behind: minutes of nothing but printing.
	engineLogSize  = "512m"
	engineLogFiles = "2"
	// followWithin is how long the engine may take to end the stream of a
	// container that has ended.
	followWithin = 5 * time.Second
	retryEvery   = 200 * time.Millisecond
)

// Start implements keeper.Engine.
func (Engine) Start(ctx context.Context, l *keeper.Launch, log *joblog.Writer) (keeper.Container, error) {
	cli, err := client.New(client.FromEnv)
	if err != nil {
		return nil, fmt.Errorf("docker client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute) // a machine that just booted reads the image from a cold disk
	defer cancel()
	c := &running{cli: cli, log: log, read: make(chan struct{})}
	c.following, c.unfollow = context.WithCancel(context.Background())
	if l.Attach {
		err = c.find(ctx, l.ID)
	} else {
		c.id, err = create(ctx, cli, l)
	}
	if err == nil && c.id != "" {
		err = c.start(ctx)
	}
	if err != nil {
		cli.Close()
		return nil, err
	}
	go c.follow()
	return c, nil
}

// find takes over what a former keeper created. No id: there is nothing.
func (c *running) find(ctx context.Context, id string) error {
	list, err := c.cli.ContainerList(ctx, client.ContainerListOptions{All: true,
		Filters: client.Filters{}.Add("label", labelContainer+"="+id)})
	if err != nil {
		return fmt.Errorf("find container: %w", err)
	}
	if len(list.Items) > 0 {
		c.id = list.Items[0].ID
	}
	return nil
}

// start starts what was created and never started.
func (c *running) start(ctx context.Context) error {
	s, err := c.state(ctx)
	if err != nil {
		return err
	}
	if s.Status == container.StateCreated {
		if _, err := c.cli.ContainerStart(ctx, c.id, client.ContainerStartOptions{}); err != nil {
			if rmErr := removeOne(ctx, c.cli, c.id); rmErr != nil {
				return errors.Join(startError(err), rmErr)
			}
			return startError(err)
		}
		if s, err = c.state(ctx); err != nil {
			return err
		}
	}
	c.startedAt, err = time.Parse(time.RFC3339Nano, s.StartedAt)
	return err
}

// startError knows the engine's words for a command that cannot run. With an
// init in between, as here, it hears of that only from the exit.
func startError(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "exec: ") && strings.Contains(text, "no such file or directory"):
		return fmt.Errorf("%w: %w", runtime.ErrCommandNotFound, err)
	case strings.Contains(text, "exec: ") && strings.Contains(text, "permission denied"):
		return fmt.Errorf("%w: %w", runtime.ErrNotExecutable, err)
	}
	return fmt.Errorf("start container: %w", err)
}

func removeOne(ctx context.Context, cli *client.Client, id string) error {
	_, err := cli.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// create creates the container. One of the same name that never ran is what an
// earlier try left.
func create(ctx context.Context, cli *client.Client, l *keeper.Launch) (string, error) {
	o := options(l)
	for again := true; ; again = false {
		made, err := cli.ContainerCreate(ctx, o)
		if err == nil {
			return made.ID, nil
		}
		if !again || !errdefs.IsConflict(err) {
			return "", fmt.Errorf("create container: %w", err)
		}
		other, err := cli.ContainerInspect(ctx, o.Name, client.ContainerInspectOptions{})
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("look at container %s: %w", o.Name, err)
		}
		if s := other.Container.State; s == nil || s.Status != container.StateCreated {
			return "", fmt.Errorf("a container %s exists and is not of this directory", o.Name)
		}
		if err := removeOne(ctx, cli, other.Container.ID); err != nil {
			return "", fmt.Errorf("remove container %s: %w", o.Name, err)
		}
	}
}

func options(l *keeper.Launch) client.ContainerCreateOptions {
	s := l.Spec
	vars := maps.Clone(s.Env)
	if vars == nil {
		vars = map[string]string{}
	}
	maps.Copy(vars, runtime.JobEnv(s))
	maps.Copy(vars, runtime.MountEnv(s.Mounts, func(m runtime.Mount) string { return m.Target }))
	var env []string
	for k, v := range vars {
		env = append(env, k+"="+v)
	}
	labels := maps.Clone(s.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, map[string]string{LabelVM: s.VMID, LabelJob: s.JobID, LabelAttempt: strconv.Itoa(s.Attempt), labelContainer: l.ID})

	yes := true
	host := &container.HostConfig{
		Init:    &yes, // SIGTERM reaches the program, and zombies are taken off
		ShmSize: s.ShmSize,
		LogConfig: container.LogConfig{Type: "json-file",
			Config: map[string]string{"max-size": engineLogSize, "max-file": engineLogFiles}},
		Resources: container.Resources{NanoCPUs: int64(s.CPUs * 1e9), Memory: s.Memory, MemorySwap: s.Memory},
	}
	if s.GPUs != 0 {
		host.DeviceRequests = []container.DeviceRequest{{Count: s.GPUs, Capabilities: [][]string{{"gpu"}}}}
	}
	for _, m := range s.Mounts {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	return client.ContainerCreateOptions{
		Name:       "anycloud-" + s.JobID + "-" + strconv.Itoa(s.Attempt),
		Config:     &container.Config{Image: s.Image, Cmd: s.Command, Env: env, WorkingDir: s.Workdir, Labels: labels},
		HostConfig: host,
	}
}

// running is a container that was started.
type running struct {
	cli       *client.Client
	id        string
	log       *joblog.Writer
	startedAt time.Time

	over    atomic.Bool   // nothing of it runs
	read    chan struct{} // closed when all its output is in the log
	lastErr atomic.Value  // string: the last line on standard error

	following context.Context
	unfollow  context.CancelFunc
}
