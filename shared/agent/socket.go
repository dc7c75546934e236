package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"anycloud/shared/checkpoint"
)

// socketFile is the socket in the container's run directory: POST /commit
// returns once a commit of everything written before is durable.
const socketFile = "agent.sock"

// saveAsk is a commit asked for through the socket.
type saveAsk struct{ reply chan saveReply } // of capacity 1

type saveReply struct {
	saved checkpoint.Result
	err   error
}

// errEnding answers who asks for a commit while the container is being stopped.
var errEnding = errors.New("the container is being stopped and its last commit follows by itself: exit now")

// commitFor bounds a commit asked for through the socket.
const commitFor = 10 * time.Minute

// serveSocket answers the container. Without the socket the job goes on; only
// this door is missing.
func (a *agent) serveSocket(ctx context.Context) error {
	if err := makeDirs(a.dir("run")); err != nil {
		return err
	}
	if a.Listen == nil {
		return a.idle(ctx)
	}
	l, err := a.Listen(a.dir("run/" + socketFile))
	if err != nil {
		a.Logger.Warn("no commit socket for the container", "err", err)
		return a.idle(ctx)
	}
	server := &http.Server{Handler: a.socketHandler(), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() {
		<-ctx.Done()
		server.Close() //nolint:errcheck // it ends with us
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		a.Logger.Warn("commit socket ended", "err", err)
	}
	<-ctx.Done()
	return ctx.Err()
}

// ListenUnix listens on a path that may be longer than a socket's address can be
// (108 bytes, unix(7)), by way of its opened directory. It replaces a former
// agent's socket.
func ListenUnix(path string) (net.Listener, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)                     // that name is not there any more then
	if err := os.Chmod(path, 0o666); err != nil { // the container may run as any user
		l.Close()
		return nil, err
	}
	return l, nil
}

func (a *agent) socketHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /commit", a.commitAsked)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		answerSocket(w, http.StatusNotFound, map[string]any{"error": "there is only POST /commit"})
	})
	return mux
}

func (a *agent) commitAsked(w http.ResponseWriter, r *http.Request) {
	if !a.claim.Spec.Spot {
		answerSocket(w, http.StatusConflict, map[string]any{"error": "this job has no checkpoints: it was not submitted with --spot"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), commitFor)
	defer cancel()
	ask := saveAsk{make(chan saveReply, 1)}
	select {
	case a.saves <- ask:
	case <-ctx.Done():
		answerSocket(w, http.StatusServiceUnavailable, map[string]any{"error": "no save could begin: try again"})
		return
	}
	var got saveReply
	select {
	case got = <-ask.reply:
	case <-ctx.Done():
		answerSocket(w, http.StatusServiceUnavailable, map[string]any{"error": "not durable yet: try again"})
		return
	}
	if errors.Is(got.err, errEnding) {
		answerSocket(w, http.StatusServiceUnavailable, map[string]any{"error": got.err.Error()})
		return
	}
	if got.err != nil {
		answerSocket(w, http.StatusInternalServerError, map[string]any{"error": got.err.Error()})
		return
	}
	answerSocket(w, http.StatusOK, map[string]any{"commit": got.saved.Number, "clean": got.saved.Clean})
}

func answerSocket(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) //nolint:errcheck // the container went away
}
