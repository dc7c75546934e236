package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anycloud/shared/api"
	"anycloud/shared/checkpoint"
)

func socketAgent(spot bool) *agent {
	c := &api.ClaimReply{}
	c.Spec.Spot = spot
	return &agent{claim: c, saves: make(chan saveAsk)}
}

func TestCommitThroughTheSocket(t *testing.T) {
	// Longer than a socket's address: localcloud's directories may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, socketFile)
	if err := os.WriteFile(path, nil, 0o600); err != nil { // a former agent's
		t.Fatal(err)
	}
	l, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o666 {
		t.Errorf("socket: %v, %v", fi, err)
	}
	a := socketAgent(true)
	server := httptest.NewUnstartedServer(a.socketHandler())
	server.Listener.Close()
	server.Listener = l
	server.Start()
	defer server.Close()
	go func() {
		(<-a.saves).reply <- saveReply{saved: checkpoint.Result{Number: 7, Clean: true}}
		(<-a.saves).reply <- saveReply{err: errEnding}
		(<-a.saves).reply <- saveReply{err: io.ErrUnexpectedEOF}
	}()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketFile))
	}}}
	for _, want := range []struct {
		status int
		text   string
	}{{200, `"commit":7`}, {503, "exit now"}, {500, "unexpected EOF"}} {
		resp, err := client.Post("http://anycloud/commit", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want.status || !strings.Contains(string(b), want.text) || !json.Valid(b) {
			t.Errorf("answer %d %s (%v), want %d with %s", resp.StatusCode, b, err, want.status, want.text)
		}
	}
}

func TestSocketRefuses(t *testing.T) {
	for _, c := range []struct {
		spot         bool
		method, path string
		status       int
	}{
		{false, "POST", "/commit", http.StatusConflict},
		{true, "GET", "/commit", http.StatusNotFound},
		{true, "POST", "/other", http.StatusNotFound},
	} {
		w := httptest.NewRecorder()
		socketAgent(c.spot).socketHandler().ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.status)
		}
	}
}
