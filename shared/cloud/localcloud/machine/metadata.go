package machine

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"anycloud/shared/cloud/localcloud/vmdir"
	"anycloud/shared/preempt"
)

// maxWait bounds a long poll for a notice.
const maxWait = time.Minute

// metadata is the VM's metadata service: what a cloud serves at 169.254.169.254.
// Every process of this machine can reach a loopback port, so the path has a
// secret part that only the VM's own environment (and its directory) tells.
type metadata struct {
	rec   *vmdir.Record
	proof string
	url   string
	l     net.Listener

	mu     sync.Mutex
	notice *preempt.Notice
	news   chan struct{} // closed when the notice changes
}

func newMetadata(rec *vmdir.Record, proof string) (*metadata, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &metadata{rec: rec, proof: proof, l: l, news: make(chan struct{})}
	m.url = "http://" + l.Addr().String() + "/" + rand.Text()
	return m, nil
}

// announce makes the notice visible to the VM.
func (m *metadata) announce(n preempt.Notice) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.notice == nil || *m.notice != n {
		m.notice = &n
		close(m.news)
		m.news = make(chan struct{})
	}
}

func (m *metadata) current() (*preempt.Notice, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.notice, m.news
}

// serve never returns while the VM lives.
func (m *metadata) serve() error {
	s := &http.Server{Handler: m.handler(), ReadHeaderTimeout: 5 * time.Second}
	return s.Serve(m.l)
}

func (m *metadata) handler() http.Handler {
	host := m.l.Addr().String()
	secret := m.url[strings.LastIndex(m.url, "/")+1:]
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{secret}/endpoint", m.endpoint)
	mux.HandleFunc("GET /{secret}/identity", func(w http.ResponseWriter, _ *http.Request) { text(w, m.proof) })
	mux.HandleFunc("GET /{secret}/placement", func(w http.ResponseWriter, _ *http.Request) { answer(w, m.rec.Placement) })
	mux.HandleFunc("GET /{secret}/notice", m.serveNotice)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remote, _, _ := net.SplitHostPort(r.RemoteAddr)
		first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch {
		case r.Host != host: // a browser that was lied to about a name
			http.Error(w, "wrong host", http.StatusMisdirectedRequest)
		case !net.ParseIP(remote).IsLoopback(), subtle.ConstantTimeCompare([]byte(first), []byte(secret)) != 1:
			http.NotFound(w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// endpoint is read anew each time: a restarted control plane may listen
// elsewhere.
func (m *metadata) endpoint(w http.ResponseWriter, _ *http.Request) {
	b, err := os.ReadFile(m.rec.EndpointFile)
	if url := strings.TrimSpace(string(b)); err == nil && url != "" {
		text(w, url)
		return
	}
	http.Error(w, "no control plane has said where it is", http.StatusServiceUnavailable)
}

// serveNotice answers 404 without a notice; with ?wait= only after that long.
func (m *metadata) serveNotice(w http.ResponseWriter, r *http.Request) {
	var wait time.Duration
	if s := r.URL.Query().Get("wait"); s != "" {
		var err error
		if wait, err = time.ParseDuration(s); err != nil || wait < 0 {
			http.Error(w, "wait: write for example 30s", http.StatusBadRequest)
			return
		}
	}
	n, news := m.current()
	if n == nil && wait > 0 {
		t := time.NewTimer(min(wait, maxWait))
		defer t.Stop()
		select {
		case <-news:
		case <-t.C:
		case <-r.Context().Done():
			return
		}
		n, _ = m.current()
	}
	if n == nil {
		http.Error(w, "no notice", http.StatusNotFound)
		return
	}
	answer(w, n)
}

func text(w http.ResponseWriter, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte(s))
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}
