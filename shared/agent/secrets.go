package agent

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	"github.com/distribution/reference"

	"anycloud/shared/agent/runtime"
	"anycloud/shared/job"
)

// secretMost bounds a secret, in bytes: an environment cannot hold more.
const secretMost = 128 << 10

// resolve reads a secret from its source: file:PATH (without the line's end),
// env:NAME. Errors name the source and never the value.
func resolve(source string, getenv func(string) (string, bool)) (string, error) {
	kind, rest, _ := strings.Cut(source, ":")
	switch kind {
	case "env":
		v, ok := getenv(rest)
		if !ok {
			return "", fmt.Errorf("%s: the VM has no such variable: set it where the control plane is started", source)
		}
		return v, nil
	case "file":
		f, err := os.Open(rest)
		if err != nil {
			return "", fmt.Errorf("%s: %w", source, err)
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, secretMost+1))
		switch {
		case err != nil:
			return "", fmt.Errorf("%s: %w", source, err)
		case len(b) > secretMost:
			return "", fmt.Errorf("%s: over %d bytes: a secret of that size does not fit into a variable", source, secretMost)
		}
		v := string(bytes.TrimRight(b, "\r\n"))
		if strings.ContainsRune(v, 0) {
			return "", fmt.Errorf("%s: holds a zero byte: a variable cannot", source)
		}
		return v, nil
	}
	return "", fmt.Errorf("%s: this VM knows no such source: give file:PATH or env:NAME", kind)
}

// environment is the job's variables and secrets.
func (a *agent) environment() (map[string]string, error) {
	s := a.claim.Spec
	if len(s.Secret) == 0 {
		return s.Env, nil
	}
	env := maps.Clone(s.Env)
	if env == nil {
		env = map[string]string{}
	}
	for name, source := range s.Secret {
		v, err := resolve(source, os.LookupEnv)
		if err != nil {
			return nil, &failure{job.ReasonSecretFailed, fmt.Sprintf("secret %s: %v", name, err), true}
		}
		env[name] = v
	}
	return env, nil
}

// registryAuth reads what the image's registry wants to see: USER:PASSWORD, or a
// docker config.json with an entry for the registry.
func (a *agent) registryAuth() (*runtime.RegistryAuth, error) {
	source := a.claim.Spec.RegistryAuth
	if source == "" {
		return nil, nil
	}
	text, err := resolve(source, os.LookupEnv)
	if err == nil {
		var auth *runtime.RegistryAuth
		if auth, err = parseAuth(text, a.claim.Spec.Image); err == nil {
			return auth, nil
		}
		err = fmt.Errorf("%s: %w", source, err)
	}
	return nil, &failure{job.ReasonSecretFailed, fmt.Sprintf("registry credentials: %v", err), true}
}

var errNoAuth = errors.New("holds no credentials: give USER:PASSWORD, or docker's config.json")

func parseAuth(text, image string) (*runtime.RegistryAuth, error) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "{") {
		user, password, ok := strings.Cut(text, ":")
		if !ok || user == "" || password == "" {
			return nil, errNoAuth
		}
		return &runtime.RegistryAuth{Username: user, Password: password}, nil
	}
	var config struct {
		Auths map[string]struct {
			Auth, Username, Password, IdentityToken string
		} `json:"auths"`
	}
	if json.Unmarshal([]byte(text), &config) != nil {
		return nil, errNoAuth // the decoder's error would quote from it
	}
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", image, err)
	}
	host := reference.Domain(ref)
	for key, c := range config.Auths {
		name := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
		name, _, _ = strings.Cut(name, "/")
		if name != host && !(host == "docker.io" && name == "index.docker.io") {
			continue
		}
		if c.Auth != "" {
			b, err := base64.StdEncoding.DecodeString(c.Auth)
			if err != nil {
				return nil, errNoAuth
			}
			c.Username, c.Password, _ = strings.Cut(string(b), ":")
		}
		return &runtime.RegistryAuth{Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken, ServerAddress: key}, nil
	}
	return nil, fmt.Errorf("has no entry for %s", host)
}
