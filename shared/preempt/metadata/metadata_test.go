package metadata

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"anycloud/shared/preempt"
)

func serve(t *testing.T, h http.HandlerFunc) *LocalSource {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return Local(s.URL + "/secret/")
}

func TestLocal(t *testing.T) {
	var asked []string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RequestURI())
		switch r.URL.Path {
		case "/secret/endpoint":
			w.Write([]byte("http://127.0.0.1:1\n"))
		case "/secret/identity":
			w.Write([]byte("local:i:ff"))
		case "/secret/placement":
			w.Write([]byte(`{"cloud":"local","region":"r","zone":"z","type":"t","spot":true,"later":1}`))
		case "/secret/notice":
			w.Write([]byte(`{"vm_id":"i","kind":"interruption","deadline":"2026-01-01T00:00:30Z","at":"2026-01-01T00:00:00Z","source":"local","drill":true}`))
		}
	})
	ctx := t.Context()
	if got, err := s.Endpoint(ctx); got != "http://127.0.0.1:1" || err != nil {
		t.Errorf("endpoint %q, %v", got, err)
	}
	if got, err := s.Identity(ctx); got != "local:i:ff" || err != nil {
		t.Errorf("identity %q, %v", got, err)
	}
	if got, err := s.Placement(ctx); got != (Placement{"local", "r", "z", "t", true}) || err != nil {
		t.Errorf("placement %+v, %v", got, err)
	}
	n, err := s.Notice(ctx, 30*time.Second)
	if err != nil || n.VMID != "i" || n.Kind != preempt.Interruption || n.Deadline.Sub(n.At) != 30*time.Second || !n.Drill {
		t.Errorf("notice %+v, %v", n, err)
	}
	if want := "/secret/notice?wait=30s"; asked[len(asked)-1] != want {
		t.Errorf("asked %q", asked)
	}
}

func TestLocalTrouble(t *testing.T) {
	status := http.StatusNotFound
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", status) })
	if n, err := s.Notice(t.Context(), 0); n != nil || err != nil {
		t.Errorf("no notice: %+v, %v", n, err)
	}
	if _, err := s.Placement(t.Context()); err == nil {
		t.Error("placement of a 404")
	}
	status = http.StatusServiceUnavailable
	if _, err := s.Endpoint(t.Context()); !errors.Is(err, ErrNotReady) {
		t.Errorf("not ready: %v", err)
	}
	status = http.StatusInternalServerError
	if n, err := s.Notice(t.Context(), 0); n != nil || err == nil {
		t.Errorf("a broken service: %+v, %v", n, err)
	}
	garbled := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("{")) })
	if n, err := garbled.Notice(t.Context(), 0); n != nil || err == nil {
		t.Errorf("half an answer: %+v, %v", n, err)
	}
	empty := serve(t, func(http.ResponseWriter, *http.Request) {})
	if _, err := empty.Identity(t.Context()); !errors.Is(err, ErrNotReady) {
		t.Errorf("empty: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Notice(ctx, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Local("http://127.0.0.1:1/secret").Identity(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("nobody listens: %v", err)
	}
}
