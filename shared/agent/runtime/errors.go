package runtime

import "errors"

// What a Runtime returns, wrapped; test with errors.Is.
var (
	ErrImageNotFound   = errors.New("image not found")
	ErrImageDenied     = errors.New("image denied by its registry")
	ErrCommandNotFound = errors.New("command not found")
	ErrNotExecutable   = errors.New("command is not executable")
	ErrNotStarted      = errors.New("container was never started")
	ErrNotRunning      = errors.New("container does not run")
	ErrNoFreeze        = errors.New("freezing is off (max-pause is 0)")
	ErrFreezeEnded     = errors.New("freeze ended before it was to")
)

// ErrPull is a pull that failed for another reason than the image: test with
// errors.As. Temporary: the engine or the network may do better later. A
// registry whose name cannot be looked up is temporary, too: who keeps getting
// that for an image decides how often to ask before giving up on it.
type ErrPull struct {
	Err       error
	Temporary bool
	// Unreachable: no registry answered under the image's name. If that lasts,
	// the name is wrong: report it as an image that was not found.
	Unreachable bool
}

func (e *ErrPull) Error() string { return "pull image: " + e.Err.Error() }
func (e *ErrPull) Unwrap() error { return e.Err }
