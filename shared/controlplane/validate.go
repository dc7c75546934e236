package controlplane

import (
	"encoding/json"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"anycloud/shared/api"
	"anycloud/shared/catalog"
	"anycloud/shared/job"
)

// Defaults of a submitted job.
const (
	// DefaultInterval bounds the work that an unwarned loss costs.
	DefaultInterval = 60 * time.Second
	// DefaultMaxPause is short against any epoch, and long enough to copy
	// 100 MiB that changed.
	DefaultMaxPause = 200 * time.Millisecond
	// DefaultUnresponsive is long against every pause of a healthy VM.
	DefaultUnresponsive = 15 * time.Minute
	// MaxSpec bounds a job's description, in bytes of JSON: a row of DynamoDB
	// holds 400 KB, and the job's history must find room beside it.
	MaxSpec = 128 << 10
)

func withDefaults(s job.Spec) job.Spec {
	s = s.Clone()
	def := func(d *job.Duration, v time.Duration) {
		if *d == 0 {
			*d = job.Duration(v)
		}
	}
	def(&s.CheckpointInterval, DefaultInterval)
	def(&s.UnresponsiveAfter, DefaultUnresponsive)
	unset := func(d **job.Duration, v time.Duration) {
		if *d == nil {
			*d = new(job.Duration(v))
		}
	}
	unset(&s.Grace, job.DefaultGrace)
	unset(&s.MaxPause, DefaultMaxPause)
	unset(&s.KeepCheckpoint, job.DefaultKeep)
	if s.Arch == "" {
		s.Arch = "amd64"
	}
	return s
}

var (
	envName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	imageRef = regexp.MustCompile(`^[a-z0-9]+([._:/-]+[A-Za-z0-9_.-]+)*(@sha256:[0-9a-f]{64})?$`)
)

// validate answers with what is wrong and what to write instead.
func (c *ControlPlane) validate(s job.Spec) error {
	bad := func(format string, args ...any) error {
		return api.Errorf(http.StatusBadRequest, api.CodeInvalid, format, args...)
	}
	exec := strings.HasPrefix(s.Image, "exec:")
	switch {
	case s.Image == "":
		return bad("no image is given: name one, such as ghcr.io/acme/train:latest")
	case !exec && (len(s.Image) > 512 || !imageRef.MatchString(s.Image)):
		return bad("%q is not an image reference: write for example ghcr.io/acme/train:latest", s.Image)
	case exec && s.Image != "exec:":
		return bad("%q is not an image: write exec: alone, and put the command after --", s.Image)
	case exec && len(s.Command) == 0:
		return bad("an exec: job needs a command: put it after --")
	case utf8.RuneCountInString(s.Name) > 100:
		return bad("the name has %d characters: at most 100 are allowed", utf8.RuneCountInString(s.Name))
	case !utf8.ValidString(s.Name) || strings.ContainsFunc(s.Name, unicode.IsControl):
		return bad("the name %q holds characters that cannot be shown: use letters, digits and spaces", s.Name)
	case s.Workdir != "" && (!path.IsAbs(s.Workdir) || strings.ContainsRune(s.Workdir, 0)):
		return bad("workdir %q is not an absolute path: write for example /work", s.Workdir)
	case s.GPU != "" && s.VMType != "":
		return bad("gpu and vm_type exclude each other: the GPU chooses the machine type")
	case s.Arch != "amd64" && s.Arch != "arm64":
		return bad("arch %q is unknown: amd64 or arm64", s.Arch)
	case s.CPUs < 0 || s.Memory < 0 || s.Disk < 0 || s.ShmSize < 0:
		return bad("cpus, memory, disk and shm_size cannot be negative: leave out what does not matter")
	case s.Retries < 0:
		return bad("retries cannot be negative: 0 means none")
	case s.CheckpointInterval.D() < time.Second:
		return bad("checkpoint_interval %s is too short: at least 1s", s.CheckpointInterval)
	case *s.Grace < 0 || s.Grace.D() > time.Hour:
		return bad("grace %s: give 0s to 1h", *s.Grace)
	case *s.MaxPause < 0 || s.MaxPause.D() > 10*time.Second:
		return bad("max_pause %s: give 0 (never freeze) to 10s", *s.MaxPause)
	case *s.KeepCheckpoint < 0:
		return bad("keep_checkpoint cannot be negative: give for example 7d")
	case s.MaxRuntime < 0 || s.MaxCost < 0 || s.MaxPreemptions != nil && *s.MaxPreemptions < 0:
		return bad("max_runtime, max_cost and max_preemptions cannot be negative: leave out the limits that you do not want")
	case !s.Deadline.IsZero() && !s.Deadline.After(c.Now()):
		return bad("the deadline %s has passed: give a later one", s.Deadline.Format(time.RFC3339))
	case s.Fallback != "" && !s.Spot:
		return bad("fallback is for spot jobs: leave it out, or add spot")
	case s.UnresponsiveAfter != job.Never && s.UnresponsiveAfter.D() < time.Minute:
		return bad("unresponsive_after %s is too short: at least 1m, or never", s.UnresponsiveAfter)
	}
	if s.Fallback != "" {
		if _, err := job.ParseFallback(s.Fallback); err != nil {
			return bad("%v", err)
		}
	}
	if err := c.validateSync(s); err != nil {
		return err
	}
	if err := c.validateSecrets(s); err != nil {
		return err
	}
	for _, name := range sortedKeys(s.Env) {
		switch {
		case !envName.MatchString(name):
			return bad("%q is not the name of an environment variable: use letters, digits and _", name)
		case strings.HasPrefix(name, "ANYCLOUD_"):
			return bad("%s: names that begin with ANYCLOUD_ are the agent's own: choose another", name)
		case strings.ContainsRune(s.Env[name], 0):
			return bad("the value of %s holds a NUL byte, which no program can be given: encode it, for example as base64", name)
		}
	}
	for _, name := range s.Clouds {
		if c.Clouds[name] == nil {
			return bad("cloud %q is not configured here; there are: %s", name, strings.Join(sortedKeys(c.Clouds), ", "))
		}
	}
	if len(s.Clouds) > 1 {
		return bad("a job runs in one cloud: name one of %s", strings.Join(s.Clouds, ", "))
	}
	if slices.ContainsFunc(s.Command, func(a string) bool { return strings.ContainsRune(a, 0) }) {
		return bad("the command holds a NUL byte, which no program can be given: take it out")
	}
	if s.GPU != "" {
		if _, _, err := catalog.ParseGPU(s.GPU); err != nil {
			return bad("%v", err)
		}
	}
	b, err := json.Marshal(s)
	if err != nil {
		return bad("the job cannot be written down: %v", err)
	}
	if len(b) > MaxSpec {
		return bad("the job's description has %d bytes: at most %d are allowed; put large values into the image or a bucket", len(b), MaxSpec)
	}
	return nil
}
