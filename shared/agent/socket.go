package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// socketFile is the socket in the container's run directory: POST /commit
// returns once a commit of everything written before is durable.
const socketFile = "agent.sock"

// commitFor bounds a commit asked for through the socket.
const commitFor = 10 * time.Minute

// serveSocket answers the container. Without the socket (a path too long for
// one) the job goes on; only this door is missing.
func (a *agent) serveSocket(ctx context.Context) error {
	if err := makeDirs(a.dir("run")); err != nil {
		return err
	}
	path := a.dir("run/" + socketFile)
	os.Remove(path) //nolint:errcheck // a former agent's; Listen tells if it is in the way
	l, err := listenUnix(path)
	if err != nil {
		a.Logger.Warn("no commit socket for the container", "err", err)
		<-ctx.Done()
		return ctx.Err()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /commit", a.commitAsked)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answerSocket(w, http.StatusNotFound, map[string]any{"error": "there is only POST /commit"})
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
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

// listenUnix listens on a path that may be longer than a socket's address can
// be (108 bytes): by way of its directory's descriptor, whose path is short.
func listenUnix(path string) (net.Listener, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	l, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
	if err == nil {
		err = os.Chmod(path, 0o666) // the container may run as any user
	}
	return l, err
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
		answerSocket(w, http.StatusServiceUnavailable, map[string]any{"error": "the agent is busy ending the job: try again after the restart"})
		return
	}
	got := <-ask.reply
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
