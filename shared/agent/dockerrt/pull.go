package dockerrt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"anycloud/shared/agent/runtime"
)

// Pull implements runtime.Runtime.
func (r *Runtime) Pull(ctx context.Context, spec runtime.Spec, progress func(done, total int64, note string)) error {
	// The engine knows images by more than names, such as the beginning of an id.
	_, err := r.cli.ImageInspect(ctx, spec.Image)
	if err == nil {
		return nil
	}
	ref, parseErr := reference.ParseNormalizedNamed(spec.Image)
	if parseErr != nil {
		return fmt.Errorf("%w: %q is no name of an image: %w", runtime.ErrImageNotFound, spec.Image, parseErr)
	}
	name := reference.FamiliarString(reference.TagNameOnly(ref))
	if !errdefs.IsNotFound(err) {
		return pullError(name, err)
	}
	o := client.ImagePullOptions{}
	if a := spec.RegistryAuth; a != nil {
		if o.RegistryAuth, err = authconfig.Encode(registry.AuthConfig{Username: a.Username, Password: a.Password,
			IdentityToken: a.IdentityToken, ServerAddress: a.ServerAddress}); err != nil {
			return fmt.Errorf("encode registry credentials: %w", err)
		}
	}
	stream, err := r.cli.ImagePull(ctx, name, o)
	if err != nil {
		return pullError(name, err)
	}
	if progress == nil {
		progress = func(int64, int64, string) {}
	}
	layers := layers{}
	for m, err := range stream.JSONMessages(ctx) {
		if err == nil && m.Error != nil {
			err = m.Error
		}
		if err != nil {
			return pullError(name, err)
		}
		if m.Progress != nil {
			layers.see(m.ID, m.Status, m.Progress.Current, m.Progress.Total)
		} else {
			layers.see(m.ID, m.Status, 0, 0)
		}
		done, total := layers.sum()
		progress(done, total, strings.TrimSpace(m.ID+" "+m.Status))
	}
	return nil
}

// layers are the downloads of one pull by layer.
type layers map[string]struct{ done, total int64 }

func (l layers) see(id, status string, done, total int64) {
	have := l[id]
	switch status {
	case "Downloading":
		have.done, have.total = done, max(done, total, have.total) // some registries tell no size
	case "Download complete", "Pull complete":
		have.done = have.total
	default: // extracting counts the same bytes once more
		return
	}
	l[id] = have
}

func (l layers) sum() (done, total int64) {
	for _, p := range l {
		done, total = done+p.done, total+p.total
	}
	return done, total
}

// The engine hands on what registries say as text; statuses tell little.
var (
	saysMissing = []string{"manifest unknown", "not found: manifest", "name unknown", "name_unknown", "manifest_unknown",
		"no matching manifest", "repository not found"}
	saysDenied = []string{"denied", "unauthorized", "authentication required", "no basic auth credentials", "403 forbidden",
		"401 unauthorized", "incorrect username or password"}
	saysUnreachable = []string{"dial tcp", "no such host", "i/o timeout", "connection refused", "tls handshake", "connection reset",
		"no route to host", "network is unreachable", "client.timeout", "server gave http response to https client", "x509:"}
	saysBusy = []string{"toomanyrequests", "429", "500 internal", "502 bad", "503 service", "504 gateway", "unexpected eof",
		"no space left"}
)

// pullError sorts the errors of a pull.
func pullError(image string, err error) error {
	text := strings.ToLower(err.Error())
	says := func(any []string) bool {
		for _, s := range any {
			if strings.Contains(text, s) {
				return true
			}
		}
		return false
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), client.IsErrConnectionFailed(err):
		return &runtime.ErrPull{Err: err, Temporary: true}
	case says(saysMissing), strings.Contains(text, "manifest for") && strings.Contains(text, "not found"):
		return fmt.Errorf("%w: %s: %w", runtime.ErrImageNotFound, image, err)
	case says(saysUnreachable):
		return &runtime.ErrPull{Err: err, Temporary: true, Unreachable: true}
	case says(saysBusy):
		return &runtime.ErrPull{Err: err, Temporary: true}
	case says(saysDenied), errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err):
		return fmt.Errorf("%w: %s: %w", runtime.ErrImageDenied, image, err)
	case errdefs.IsNotFound(err):
		return fmt.Errorf("%w: %s: %w", runtime.ErrImageNotFound, image, err)
	}
	return &runtime.ErrPull{Err: err}
}
