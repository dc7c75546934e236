package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"anycloud/shared/job"
)

// jobFlags are the flags that describe a job. Each knows the field that it
// sets, so that flags win over --file, and resubmit sends only what was given.
type jobFlags struct {
	set                                                 *pflag.FlagSet
	file, envFile                                       string
	name, workdir, shm, gpu, vmType, memory, disk, arch string
	env, clouds, region, zone                           []string
	spot, acceptMixed, persistBucket, persist, restart  bool
	cpus                                                float64
	interval, grace, maxPause, keep, unresponsive       durationFlag
	retries, maxPreemptions                             int
	maxRuntime                                          durationFlag
	deadline, fallback, input, output, registryAuth     string
	maxCost                                             float64
	outputDelete, outputWriteOnce                       bool
	secrets                                             []string
}

// durationFlag reads 60s, 20m, 12h, 7d, and where allowed never.
type durationFlag struct {
	d     job.Duration
	never bool
}

func (f *durationFlag) String() string {
	if f.d == 0 {
		return ""
	}
	return f.d.String()
}
func (f *durationFlag) Type() string { return "duration" }
func (f *durationFlag) Set(s string) error {
	if f.never && s == "never" {
		f.d = job.Never
		return nil
	}
	d, err := job.ParseDuration(s)
	if err == nil && d < 0 {
		err = errors.New("a duration cannot be negative")
	}
	f.d = job.Duration(d)
	return err
}

func (j *jobFlags) register(f *pflag.FlagSet) {
	j.set = f
	j.unresponsive.never = true
	f.StringVar(&j.file, "file", "", "read the job from a YAML or JSON `file`; flags win")
	f.BoolVar(&j.spot, "spot", false, "spot VM, with a checkpoint bucket of its own")
	f.StringVar(&j.name, "name", "", "a name for people; part of the id")
	f.StringArrayVarP(&j.env, "env", "e", nil, "environment variable `K=V`; K alone takes this shell's value")
	f.StringVar(&j.envFile, "env-file", "", "read variables from a `file` of K=V lines")
	f.StringVar(&j.workdir, "workdir", "", "working directory in the container")
	f.StringVar(&j.shm, "shm-size", "", "size of /dev/shm, such as 8GiB")
	f.StringVar(&j.gpu, "gpu", "", "GPUs: a100, a100:4, a100:all")
	f.StringVar(&j.vmType, "vm-type", "", "machine type of the cloud; excludes --gpu")
	f.Float64Var(&j.cpus, "cpus", 0, "cores")
	f.StringVar(&j.memory, "memory", "", "memory, such as 16GiB")
	f.StringVar(&j.disk, "disk", "", "disk, such as 200GiB")
	f.StringVar(&j.arch, "arch", "", "amd64 (default) or arm64")
	f.StringSliceVar(&j.clouds, "cloud", nil, "where: local")
	f.StringSliceVar(&j.region, "region", nil, "region; repeatable")
	f.StringSliceVar(&j.zone, "zone", nil, "zone; repeatable")
	f.Var(&j.interval, "checkpoint-interval", "how often to save (default 60s)")
	f.Var(&j.grace, "grace", "from SIGTERM to SIGKILL (default 20s)")
	f.Var(&j.maxPause, "max-pause", "longest freeze for a clean commit (default 200ms; 0: never freeze)")
	f.BoolVar(&j.acceptMixed, "accept-mixed", false, "restore mixed commits too")
	f.BoolVar(&j.persistBucket, "persist-bucket", false, "keep the bucket after success")
	f.Var(&j.keep, "keep-checkpoint", "keep a failed or cancelled job's bucket this long (default 7d)")
	f.BoolVar(&j.persist, "persist", false, "keep the VM after the end")
	f.Var(&j.unresponsive, "unresponsive-after", "how long a silent VM is left alone (default 15m; never)")
	f.IntVar(&j.retries, "retries", 0, "restarts after a container's own failure")
	f.Var(&j.maxRuntime, "max-runtime", "end the job when its container has run for so long")
	f.IntVar(&j.maxPreemptions, "max-preemptions", 0, "end the job at the first preemption above this number")
	f.StringVar(&j.deadline, "deadline", "", "end the job at this time: 2026-12-31T18:00:00Z, or a duration from now")
	f.Float64Var(&j.maxCost, "max-cost", 0, "end the job when its VMs have cost this many `USD` by their price")
	f.StringVar(&j.fallback, "fallback", "", "on-demand[=AFTER]: run on-demand after AFTER (default 5m) without spot capacity")
	f.StringVar(&j.input, "input", "", "bucket `URL`, copied to /mnt/input before the start")
	f.StringVar(&j.output, "output", "", "bucket `URL` that /mnt/output is mirrored to")
	f.BoolVar(&j.outputDelete, "output-delete", false, "delete from the output what the job deleted")
	f.BoolVar(&j.outputWriteOnce, "output-write-once", false, "output files are written once: mirror them when they rest, never restore them")
	f.StringArrayVar(&j.secrets, "secret", nil, "variable `K=SOURCE` read on the VM: file:PATH or env:NAME")
	f.StringVar(&j.registryAuth, "registry-auth", "", "the registry's USER:PASSWORD or docker's config.json, read on the VM from `SOURCE`")
	f.BoolVar(&j.restart, "restart-on-loss", false, "restart a job without a bucket from the beginning when its VM is lost")
}

// spec puts file, flags and arguments together, and names the fields given.
func (j *jobFlags) spec(getenv func(string) string, args []string) (job.Spec, []string, error) {
	var s job.Spec
	given := map[string]bool{}
	if j.file != "" {
		if err := readJobFile(j.file, &s, given); err != nil {
			return s, nil, err
		}
	}
	if len(args) > 0 {
		s.Image = args[0]
		given["image"] = true
		if len(args) > 1 {
			s.Command = args[1:]
			given["command"] = true
		}
	}
	var err error
	take := func(flag, field string, f func()) {
		if j.set.Changed(flag) {
			f()
			given[field] = true
		}
	}
	size := func(flag, field, text string, to *job.Size) {
		take(flag, field, func() {
			n, perr := job.ParseSize(text)
			if perr != nil && err == nil {
				err = usagef("--%s: %v", flag, perr)
			}
			*to = n
		})
	}
	take("spot", "spot", func() { s.Spot = j.spot })
	take("name", "name", func() { s.Name = j.name })
	take("workdir", "workdir", func() { s.Workdir = j.workdir })
	size("shm-size", "shm_size", j.shm, &s.ShmSize)
	take("gpu", "gpu", func() { s.GPU = j.gpu })
	take("vm-type", "vm_type", func() { s.VMType = j.vmType })
	take("cpus", "cpus", func() { s.CPUs = j.cpus })
	size("memory", "memory", j.memory, &s.Memory)
	size("disk", "disk", j.disk, &s.Disk)
	take("arch", "arch", func() { s.Arch = j.arch })
	take("cloud", "cloud", func() { s.Clouds = j.clouds })
	take("region", "region", func() { s.Region = j.region })
	take("zone", "zone", func() { s.Zone = j.zone })
	take("checkpoint-interval", "checkpoint_interval", func() { s.CheckpointInterval = j.interval.d })
	take("grace", "grace", func() { s.Grace = &j.grace.d })
	take("max-pause", "max_pause", func() { s.MaxPause = &j.maxPause.d })
	take("accept-mixed", "accept_mixed", func() { s.AcceptMixed = j.acceptMixed })
	take("persist-bucket", "persist_bucket", func() { s.PersistBucket = j.persistBucket })
	take("keep-checkpoint", "keep_checkpoint", func() { s.KeepCheckpoint = &j.keep.d })
	take("persist", "persist", func() { s.Persist = j.persist })
	take("unresponsive-after", "unresponsive_after", func() { s.UnresponsiveAfter = j.unresponsive.d })
	take("retries", "retries", func() { s.Retries = j.retries })
	take("max-runtime", "max_runtime", func() { s.MaxRuntime = j.maxRuntime.d })
	take("max-preemptions", "max_preemptions", func() { s.MaxPreemptions = &j.maxPreemptions })
	take("max-cost", "max_cost", func() { s.MaxCost = j.maxCost })
	take("deadline", "deadline", func() {
		at, derr := parseDeadline(j.deadline, time.Now())
		if err == nil {
			err = derr
		}
		s.Deadline = at
	})
	take("fallback", "fallback", func() { s.Fallback = j.fallback })
	take("input", "input", func() { s.Input = j.input })
	take("output", "output", func() { s.Output = j.output })
	take("output-delete", "output_delete", func() { s.OutputDelete = j.outputDelete })
	take("output-write-once", "output_write_once", func() { s.OutputWriteOnce = j.outputWriteOnce })
	take("registry-auth", "registry_auth", func() { s.RegistryAuth = j.registryAuth })
	take("secret", "secret", func() {
		if s.Secret == nil {
			s.Secret = map[string]string{}
		}
		for _, kv := range j.secrets {
			k, source, ok := strings.Cut(kv, "=")
			if (!ok || k == "") && err == nil {
				err = usagef("--secret must be K=SOURCE, such as HF_TOKEN=file:/run/secrets/hf")
			}
			s.Secret[k] = source
		}
	})
	take("restart-on-loss", "restart_on_loss", func() { s.RestartOnLoss = j.restart })
	if err == nil && (j.set.Changed("env") || j.envFile != "") {
		err = j.readEnv(&s, getenv)
		given["env"] = true
	}
	if err == nil && s.GPU != "" && s.VMType != "" {
		err = usagef("--gpu and --vm-type exclude each other: the GPU chooses the machine type")
	}
	names := make([]string, 0, len(given))
	for n := range given {
		names = append(names, n)
	}
	return s, names, err
}

func readJobFile(path string, s *job.Spec, given map[string]bool) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return usagef("read --file: %v", err)
	}
	if err := yaml.UnmarshalStrict(b, s); err != nil {
		return usagef("--file %s: %v: the fields are the flags' names with underscores", path, err)
	}
	raw, err := yaml.YAMLToJSON(b)
	if err != nil {
		return usagef("--file %s: %v", path, err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return usagef("--file %s must hold fields, one a line: %v", path, err)
	}
	for n := range fields {
		given[n] = true
	}
	return nil
}

// readEnv reads --env-file and then -e, which wins.
func (j *jobFlags) readEnv(s *job.Spec, getenv func(string) string) error {
	if s.Env == nil {
		s.Env = map[string]string{}
	}
	add := func(kv, where string) error {
		k, v, ok := strings.Cut(kv, "=")
		if k == "" {
			return usagef("%s: %q is no K=V", where, kv)
		}
		if !ok {
			v = getenv(k)
		}
		s.Env[k] = v
		return nil
	}
	if j.envFile != "" {
		f, err := os.Open(j.envFile)
		if err != nil {
			return usagef("read --env-file: %v", err)
		}
		defer f.Close()
		in := bufio.NewScanner(f)
		in.Buffer(nil, 1<<20)
		for n := 1; in.Scan(); n++ {
			if line := strings.TrimSpace(in.Text()); line != "" && !strings.HasPrefix(line, "#") {
				if err := add(line, fmt.Sprintf("%s line %d", j.envFile, n)); err != nil {
					return err
				}
			}
		}
		if err := in.Err(); err != nil {
			return usagef("read --env-file: %v", err)
		}
	}
	for _, kv := range j.env {
		if err := add(kv, "--env"); err != nil {
			return err
		}
	}
	return nil
}

// parseDeadline reads a time, or a duration from now.
func parseDeadline(s string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at.UTC(), nil
	}
	if d, err := job.ParseDuration(s); err == nil && d > 0 {
		return now.Add(d).UTC().Truncate(time.Second), nil
	}
	return time.Time{}, usagef("--deadline %q is no time: write for example 2026-12-31T18:00:00Z, or 12h from now", s)
}

// parseDuration reads --notice and --timeout.
func parseDuration(flag, s string) (time.Duration, error) {
	d, err := job.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, usagef("--%s %q is no duration: write for example 10s", flag, s)
	}
	return d, nil
}
