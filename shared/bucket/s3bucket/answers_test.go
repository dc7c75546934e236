package s3bucket

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"anycloud/shared/bucket"
)

// scripted is a server that gives these answers in turn, the last one for ever.
type scripted struct {
	*httptest.Server
	mu      sync.Mutex
	answers []http.HandlerFunc
	calls   []string
}

func script(t *testing.T, answers ...http.HandlerFunc) (*scripted, bucket.Objects) {
	s := &scripted{answers: answers}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.calls = append(s.calls, r.Method+" "+r.URL.Path+" "+r.Header.Get("If-None-Match"))
		answer := s.answers[0]
		if len(s.answers) > 1 {
			s.answers = s.answers[1:]
		}
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	u := &url.URL{Scheme: "s3", Host: "acme"}
	o, err := Open(t.Context(), u, map[string]string{"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return s, o
}

func code(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // it is not looked at
		w.WriteHeader(status)
		io.WriteString(w, "<Error><Code>"+code+"</Code><Message>so it is</Message></Error>") //nolint:errcheck // the client tells
	}
}

func fine(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body) //nolint:errcheck // it is not looked at
}

// unanswered does the call, and its answer is lost.
func unanswered(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body) //nolint:errcheck // it is not looked at
	panic(http.ErrAbortHandler)
}

func TestConditionalPut(t *testing.T) {
	for name, c := range map[string]struct {
		answers []http.HandlerFunc
		want    error
		calls   int
	}{
		"taken":                             {[]http.HandlerFunc{code(412, "PreconditionFailed")}, bucket.ErrExists, 1},
		"two met, then it is free":          {[]http.HandlerFunc{code(409, "ConditionalRequestConflict"), fine}, nil, 2},
		"two met, then it is taken":         {[]http.HandlerFunc{code(409, "ConditionalRequestConflict"), code(412, "PreconditionFailed")}, bucket.ErrExists, 2},
		"slow down":                         {[]http.HandlerFunc{code(503, "SlowDown"), fine}, nil, 2},
		"done, unanswered, tried again":     {[]http.HandlerFunc{unanswered, code(412, "PreconditionFailed")}, bucket.ErrExists, 2},
		"expired":                           {[]http.HandlerFunc{code(400, "ExpiredToken")}, bucket.ErrDenied, 1},
		"forbidden":                         {[]http.HandlerFunc{code(403, "AccessDenied")}, bucket.ErrDenied, 1},
		"a code that nobody knows, but 403": {[]http.HandlerFunc{code(403, "NewInventedCode")}, bucket.ErrDenied, 1},
		"no bucket":                         {[]http.HandlerFunc{code(404, "NoSuchBucket")}, bucket.ErrNoBucket, 1},
		"full":                              {[]http.HandlerFunc{code(507, "XMinioStorageFull")}, bucket.ErrFull, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, o := script(t, c.answers...)
			err := o.PutIfAbsent(t.Context(), "log/1", []byte("entry"))
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%v, want %v", err, c.want)
			}
			if c.calls > 0 && len(s.calls) != c.calls {
				t.Errorf("calls %q", s.calls)
			}
			for _, call := range s.calls {
				if call != "PUT /acme/log/1 *" {
					t.Errorf("call %q", call)
				}
			}
		})
	}
}

// TestConflictThatStays is unknown: neither taken nor written.
func TestConflictThatStays(t *testing.T) {
	t.Parallel()
	s, o := script(t, code(409, "ConditionalRequestConflict"))
	err := o.PutIfAbsent(t.Context(), "log/1", []byte("entry"))
	if err == nil || errors.Is(err, bucket.ErrExists) || errors.Is(err, bucket.ErrNotFound) || len(s.calls) != tries {
		t.Errorf("%v after %d calls", err, len(s.calls))
	}
}

func TestMissing(t *testing.T) {
	_, o := script(t, code(404, "NoSuchKey"))
	_, err := o.Get(t.Context(), "a", 0, -1)
	if !errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrNoBucket) {
		t.Error(err)
	}
	if err := o.Delete(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	_, o = script(t, code(404, "NoSuchBucket"))
	if _, err := o.Get(t.Context(), "a", 0, -1); !errors.Is(err, bucket.ErrNoBucket) {
		t.Error(err)
	}
	if err := o.Delete(t.Context(), "a"); !errors.Is(err, bucket.ErrNoBucket) {
		t.Error(err)
	}
}

// TestBrokenOffRead is an error, never a short object.
func TestBrokenOffRead(t *testing.T) {
	_, o := script(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "only so far") //nolint:errcheck // the client tells
	})
	r, err := o.Get(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err == nil {
		t.Errorf("%q is taken for the whole", b)
	}
}

// TestSilentServer: what stands still is ended and tried again; what is slow and
// goes on is not.
func TestSilentServer(t *testing.T) {
	const limit = 200 * time.Millisecond
	calls := 0
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		switch r.URL.Path {
		case "/silent":
			<-release
		case "/stops":
			w.Header().Set("Content-Length", "10")
			w.Write([]byte("abc")) //nolint:errcheck // the client tells
			w.(http.Flusher).Flush()
			<-release
		case "/slow":
			for range 6 {
				w.Write([]byte("x")) //nolint:errcheck // the client tells
				w.(http.Flusher).Flush()
				time.Sleep(limit / 3)
			}
		}
	}))
	defer s.Close()
	defer close(release)
	p := &patient{next: http.DefaultClient, limit: limit}
	do := func(path string) (string, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+path, bytes.NewReader([]byte("body")))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := p.Do(r)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	for _, path := range []string{"/silent", "/stops"} {
		_, err := do(path)
		var timeout interface{ Timeout() bool }
		if !errors.As(err, &timeout) || !timeout.Timeout() || !strings.Contains(err.Error(), "silent for 200ms") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got, err := do("/slow"); err != nil || got != "xxxxxx" {
		t.Errorf("slow: %q, %v", got, err)
	}
}

func TestOpenErrors(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	for _, c := range []struct {
		url  string
		env  map[string]string
		want string
	}{
		{"s3:///prefix", nil, "s3://bucket or s3://bucket/prefix"},
		{"s3://user:secret@b", nil, "s3://bucket or s3://bucket/prefix"},
		{"s3://b?versionId=1", nil, "s3://bucket or s3://bucket/prefix"},
		{"s3://b", nil, "set AWS_REGION"},
		{"s3://b", map[string]string{"AWS_REGION": "eu-west-1"}, "set AWS_PROFILE"},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = Open(t.Context(), u, c.env); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret@") {
			t.Errorf("%s: %v", c.url, err)
		}
	}
}
