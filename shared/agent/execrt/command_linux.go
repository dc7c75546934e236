package execrt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"anycloud/shared/agent/runtime"
)

// lookPath finds the command as a shell in its working directory would, with
// the PATH of the job and not ours.
func lookPath(s runtime.Spec) (string, error) {
	if len(s.Command) == 0 || s.Command[0] == "" {
		return "", fmt.Errorf("%w: the job has none, and without a container image there is no default", runtime.ErrCommandNotFound)
	}
	if i, err := os.Stat(s.Workdir); err != nil || !i.IsDir() {
		return "", fmt.Errorf("working directory %s does not exist", s.Workdir)
	}
	name := s.Command[0]
	dirs := []string{""}
	if !strings.Contains(name, "/") {
		dirs = filepath.SplitList(s.Env["PATH"])
	}
	found := fmt.Errorf("%w: %s", runtime.ErrCommandNotFound, name)
	for _, d := range dirs {
		path := filepath.Join(d, name)
		if !filepath.IsAbs(path) {
			path = filepath.Join(s.Workdir, path)
		}
		i, err := os.Stat(path)
		if err != nil {
			continue
		}
		if i.IsDir() || unix.Access(path, unix.X_OK) != nil {
			found = fmt.Errorf("%w: %s", runtime.ErrNotExecutable, path)
			continue
		}
		return path, nil
	}
	return "", found
}

// commandError tells the command's fault from ours.
func commandError(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT): // it is there, so what is missing is what runs it
		return fmt.Errorf("%w: the interpreter of %s", runtime.ErrCommandNotFound, path)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("%w: %s: %w", runtime.ErrNotExecutable, path, err)
	}
	return fmt.Errorf("start %s: %w", path, err)
}
