package machine

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anycloud/shared/cloud/localcloud/vmdir"
	"anycloud/shared/job"
	"anycloud/shared/preempt"
)

func newService(t *testing.T) *metadata {
	t.Helper()
	m, err := newMetadata(&vmdir.Record{ID: "i", Placement: job.Placement{Zone: "local-b"}, EndpointFile: filepath.Join(t.TempDir(), "endpoint")}, "proof")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.l.Close() })
	return m
}

// ask asks as a process of this machine would, but for what change alters.
func ask(m *metadata, path string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", m.url+path, nil)
	r.RemoteAddr = "127.0.0.1:5555"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	m.handler().ServeHTTP(w, r)
	return w
}

func want(t *testing.T, w *httptest.ResponseRecorder, code int, body string) {
	t.Helper()
	if w.Code != code || !strings.Contains(w.Body.String(), body) {
		t.Errorf("answered %d %q, want %d %q", w.Code, w.Body, code, body)
	}
}

func TestMetadata(t *testing.T) {
	m := newService(t)
	want(t, ask(m, "/identity", nil), 200, "proof")
	want(t, ask(m, "/placement", nil), 200, `"zone":"local-b"`)
	want(t, ask(m, "/notice", nil), 404, "")
	want(t, ask(m, "/notice?wait=soon", nil), 400, "30s")
	want(t, ask(m, "/tags", nil), 404, "")
	want(t, ask(m, "/endpoint", nil), 503, "")
	for _, url := range []string{"http://a:1", "http://b:2"} { // read anew each time
		if err := os.WriteFile(m.rec.EndpointFile, []byte(url+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		want(t, ask(m, "/endpoint", nil), 200, url)
	}
	for name, change := range map[string]func(*http.Request){
		"another host":   func(r *http.Request) { r.Host = "evil.example" },
		"another sender": func(r *http.Request) { r.RemoteAddr = "192.0.2.1:5555" },
		"no secret":      func(r *http.Request) { r.URL.Path = "/identity" },
		"wrong secret":   func(r *http.Request) { r.URL.Path = "/x/identity" },
		"a write":        func(r *http.Request) { r.Method = "POST" },
	} {
		if w := ask(m, "/identity", change); w.Code < 400 || strings.Contains(w.Body.String(), "proof") {
			t.Errorf("%s: answered %d %q", name, w.Code, w.Body)
		}
	}
}

func TestNoticeWaits(t *testing.T) {
	m := newService(t)
	synctest.Test(t, func(t *testing.T) {
		m.news = make(chan struct{}) // of this bubble
		started := time.Now()
		want(t, ask(m, "/notice?wait=30s", nil), 404, "")
		if d := time.Since(started); d != 30*time.Second {
			t.Errorf("waited %v", d)
		}
		want(t, ask(m, "/notice?wait=1h", nil), 404, "")
		if d := time.Since(started); d != 30*time.Second+maxWait {
			t.Errorf("waited %v in all", d)
		}
		time.AfterFunc(7*time.Second, func() { m.announce(preempt.Notice{VMID: "i", Kind: preempt.Interruption}) })
		started = time.Now()
		want(t, ask(m, "/notice?wait=30s", nil), 200, `"kind":"interruption"`)
		if d := time.Since(started); d != 7*time.Second {
			t.Errorf("answered after %v", d)
		}
		want(t, ask(m, "/notice", nil), 200, `"vm_id":"i"`)
	})
}
