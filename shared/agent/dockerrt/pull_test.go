package dockerrt_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"anycloud/shared/agent/runtime"
	"anycloud/shared/agent/runtimetest"
	"anycloud/shared/internal/suite"
	"anycloud/shared/internal/testimage"
)

// fakeRegistry serves one image, and says of each of the others what registries
// say. Engines take a registry on the loopback without TLS.
type fakeRegistry struct {
	blobs    map[string][]byte
	manifest []byte
	asked    atomic.Int32
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// newLayer is one that no engine has yet: what is there is not downloaded.
func newLayer(t *testing.T) []byte {
	b := make([]byte, 1<<20)
	rand.Read(b)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: "noise", Mode: 0o644, Size: int64(len(b))}); err != nil {
		t.Fatal(err)
	}
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func newRegistry(t *testing.T) (*fakeRegistry, string) {
	layer := newLayer(t)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write(layer)
	w.Close()
	config, err := json.Marshal(map[string]any{"architecture": goruntime.GOARCH, "os": "linux", "config": map[string]any{"Cmd": []string{"true"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}}})
	if err != nil {
		t.Fatal(err)
	}
	part := func(kind string, b []byte) map[string]any {
		return map[string]any{"mediaType": "application/vnd.docker." + kind, "size": len(b), "digest": digest(b)}
	}
	manifest, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
		"config": part("container.image.v1+json", config),
		"layers": []any{part("image.rootfs.diff.tar.gzip", zipped.Bytes())}})
	if err != nil {
		t.Fatal(err)
	}
	r := &fakeRegistry{manifest: manifest, blobs: map[string][]byte{digest(config): config, digest(zipped.Bytes()): zipped.Bytes()}}
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	return r, strings.TrimPrefix(srv.URL, "http://")
}

func (r *fakeRegistry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.asked.Add(1)
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	says := func(status int, code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]any{"code": code, "message": strings.ToLower(code)}}})
	}
	name, what, _ := strings.Cut(strings.TrimPrefix(q.URL.Path, "/v2/"), "/")
	kind, ref, _ := strings.Cut(what, "/")
	switch {
	case q.URL.Path == "/v2/":
	case name == "private":
		says(http.StatusForbidden, "DENIED")
	case name == "closed":
		says(http.StatusUnauthorized, "UNAUTHORIZED")
	case name == "busy":
		says(http.StatusTooManyRequests, "TOOMANYREQUESTS")
	case name != "good":
		says(http.StatusNotFound, "NAME_UNKNOWN")
	case kind == "blobs" && r.blobs[ref] != nil:
		w.Header().Set("Content-Length", strconv.Itoa(len(r.blobs[ref])))
		// As slow as a network: an engine that has it all at once tells only that
		// it is done.
		for piece := range slices.Chunk(r.blobs[ref], max(1, len(r.blobs[ref])/8)) {
			w.Write(piece)
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	case kind == "manifests" && (ref == "v1" || ref == digest(r.manifest)):
		w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
		w.Header().Set("Docker-Content-Digest", digest(r.manifest))
		w.Write(r.manifest)
	default:
		says(http.StatusNotFound, "MANIFEST_UNKNOWN")
	}
}

func TestPull(t *testing.T) {
	suite.Need(t, "docker")
	suite.Need(t, "busybox")
	registry, host := newRegistry(t)
	f := runtimetest.SetUp(t, harness())
	pull := func(image string, progress func(done, total int64, note string)) error {
		return f.R.Pull(f.Ctx, runtime.Spec{Image: image}, progress)
	}
	temporary := func(err error) *runtime.ErrPull {
		var e *runtime.ErrPull
		errors.As(err, &e)
		return e
	}
	for image, want := range map[string]error{
		host + "/missing:v1": runtime.ErrImageNotFound, host + "/good:v2": runtime.ErrImageNotFound, "Bad Name": runtime.ErrImageNotFound,
		host + "/private:v1": runtime.ErrImageDenied, host + "/closed:v1": runtime.ErrImageDenied,
	} {
		if err := pull(image, nil); !errors.Is(err, want) {
			t.Errorf("%s: %v", image, err)
		}
	}
	if e := temporary(pull(host+"/busy:v1", nil)); e == nil || !e.Temporary || e.Unreachable {
		t.Errorf("a busy registry: %v", e)
	}
	if e := temporary(pull("127.0.0.1:1/"+strings.ToLower(rand.Text())+":v1", nil)); e == nil || !e.Temporary || !e.Unreachable {
		t.Errorf("a registry that is not there: %v", e)
	}

	image := host + "/good:v1"
	t.Cleanup(func() {
		testimage.Client(t).ImageRemove(context.Background(), image, client.ImageRemoveOptions{Force: true, PruneChildren: true})
	})
	var notes []string
	var total int64
	f.Must(pull(image, func(done, all int64, note string) {
		if done > all {
			t.Errorf("%d bytes of %d", done, all)
		}
		total = max(total, all)
		notes = append(notes, note)
	}))
	if len(notes) == 0 || total == 0 {
		t.Errorf("%d reports, %d bytes", len(notes), total)
	}
	// What is there is not asked for.
	before := registry.asked.Load()
	f.Must(pull(image, nil))
	if got := registry.asked.Load(); got != before {
		t.Errorf("the registry was asked %d times for an image that is there", got-before)
	}
}
