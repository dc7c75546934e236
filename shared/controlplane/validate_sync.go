package controlplane

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"anycloud/shared/api"
	"anycloud/shared/job"
)

// validateSync checks what Bucket Sync is asked to do.
func (c *ControlPlane) validateSync(s job.Spec) error {
	bad := func(format string, args ...any) error {
		return api.Errorf(http.StatusBadRequest, api.CodeInvalid, format, args...)
	}
	for _, b := range []struct{ field, url string }{{"input", s.Input}, {"output", s.Output}} {
		if b.url == "" {
			continue
		}
		u, err := url.Parse(b.url)
		switch {
		case err != nil || u.Scheme == "":
			return bad("%s %q is no bucket URL: write for example %s", b.field, b.url, exampleURL(c.SyncSchemes))
		case u.User != nil:
			return bad("%s must not carry credentials: the control plane hands them out", b.field)
		case !slices.Contains(c.SyncSchemes, u.Scheme):
			return bad("%s %s: jobs in this control plane reach buckets of %s only", b.field, u.Redacted(), strings.Join(c.SyncSchemes, ", "))
		case u.Scheme == "file" && (u.Host != "" || !strings.HasPrefix(u.Path, "/") || u.Path == "/"):
			return bad("%s %s: a directory's URL has three slashes and an absolute path, as in file:///data", b.field, b.url)
		}
	}
	switch {
	case s.Output == "" && (s.OutputDelete || s.OutputWriteOnce):
		return bad("output_delete and output_write_once need an output: give its bucket's URL")
	case s.OutputDelete && s.OutputWriteOnce:
		return bad("output_delete and output_write_once exclude each other: what is written once is never deleted")
	case s.Input != "" && s.Input == s.Output:
		return bad("input and output are the same place: the job would change what it reads")
	}
	return nil
}

func exampleURL(schemes []string) string {
	if slices.Contains(schemes, "file") {
		return "file:///data/results"
	}
	return "s3://my-bucket/results"
}

// validateSecrets checks the names and the form of the sources. Whether a source
// has a value, only the VM can tell.
func (c *ControlPlane) validateSecrets(s job.Spec) error {
	bad := func(format string, args ...any) error {
		return api.Errorf(http.StatusBadRequest, api.CodeInvalid, format, args...)
	}
	source := func(what, text string) error {
		kind, rest, ok := strings.Cut(text, ":")
		if !ok || rest == "" || !slices.Contains(c.SecretSources, kind) {
			// The text may be the secret itself, mistaken for its source: not echoed.
			return bad("%s is no source of a secret: write %s:…, which is read on the VM", what, strings.Join(c.SecretSources, ":… or "))
		}
		return nil
	}
	for _, name := range sortedKeys(s.Secret) {
		if !envName.MatchString(name) || strings.HasPrefix(name, "ANYCLOUD_") {
			return bad("%q is not the name of a variable that a secret can have", name)
		}
		if _, both := s.Env[name]; both {
			return bad("%s is given as a variable and as a secret: leave one out", name)
		}
		if err := source("the value of secret "+name, s.Secret[name]); err != nil {
			return err
		}
	}
	if s.RegistryAuth != "" {
		return source("registry_auth", s.RegistryAuth)
	}
	return nil
}
