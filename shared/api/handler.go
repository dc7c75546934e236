package api

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"anycloud/shared/internal/similar"
	"anycloud/shared/job"
)

// MaxBody bounds every request's body, in bytes. A job's description is some
// kilobytes.
const MaxBody = 1 << 20

// HandlerOptions of a handler.
type HandlerOptions struct {
	Token string // of users; "" leaves the check to what stands in front (an authorizer)
	// Hosts that the Host header may name, without port; nil allows any. A
	// server on loopback must set it: a web page could reach it by DNS rebinding.
	Hosts  []string
	Logger *slog.Logger
	// Seen is called on every request of a user, e.g. to postpone an idle exit.
	Seen func()
}

// handler serves a Service.
type handler struct {
	s Service
	o HandlerOptions
}

// NewHandler serves the HTTP API of a control plane.
func NewHandler(s Service, o HandlerOptions) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{s, o}
	mux := http.NewServeMux()
	for pattern, f := range map[string]func(*http.Request) (any, error){
		"POST /v1/jobs":                       h.submit,
		"GET /v1/jobs":                        h.list,
		"GET /v1/jobs/{id}":                   h.get,
		"POST /v1/jobs/{id}/cancel":           h.cancel,
		"POST /v1/jobs/{id}/resubmit":         h.resubmit,
		"POST /v1/jobs/{id}/preempt":          h.preempt,
		"POST /v1/jobs/{id}/checkpoint":       h.checkpoint,
		"GET /v1/jobs/{id}/checkpoint/access": h.checkpointAccess,
		"GET /v1/jobs/{id}/checkpoints":       h.checkpoints,
		"POST /v1/doctor":                     h.doctor,
	} {
		mux.HandleFunc(pattern, h.user(f))
	}
	mux.HandleFunc("GET /v1/jobs/{id}/logs", h.logs)
	for pattern, f := range map[string]func(*http.Request) (any, error){
		"POST /v1/agent/claim":                           h.claim,
		"POST /v1/agent/jobs/{id}/{attempt}/report":      h.report,
		"POST /v1/agent/jobs/{id}/{attempt}/credentials": h.credentials,
		"GET /v1/agent/ping":                             h.ping,
	} {
		mux.HandleFunc(pattern, h.plain(f))
	}
	return h.guard(mux)
}

// guard wraps everything: panics, the Host header, the body's size, and the
// mux's own plain-text refusals.
func (h *handler) guard(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v == http.ErrAbortHandler {
				panic(v)
			} else if v != nil {
				h.o.Logger.Error("panic", "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
				writeProblem(w, Errorf(http.StatusInternalServerError, "internal", "the control plane failed on this request: its log has the details"))
			}
		}()
		if !h.hostAllowed(r.Host) {
			writeProblem(w, Errorf(http.StatusForbidden, "bad_host", "this server does not answer to the host %q: use the endpoint as it was printed", r.Host))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
		if _, pattern := mux.Handler(r); pattern == "" {
			h.noRoute(w, r, mux)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (h *handler) hostAllowed(hostport string) bool {
	if h.o.Hosts == nil {
		return true
	}
	host := hostport
	if i := strings.LastIndexByte(hostport, ':'); i > strings.LastIndexByte(hostport, ']') {
		host = hostport[:i]
	}
	for _, ok := range h.o.Hosts {
		if strings.EqualFold(strings.Trim(host, "[]"), ok) {
			return true
		}
	}
	return false
}

// noRoute tells a wrong method from an unknown path.
func (h *handler) noRoute(w http.ResponseWriter, r *http.Request, mux *http.ServeMux) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "" {
			w.Header().Set("Allow", method)
			writeProblem(w, Errorf(http.StatusMethodNotAllowed, "method_not_allowed", "%s is not possible on %s: use %s", r.Method, r.URL.Path, method))
			return
		}
	}
	writeProblem(w, Errorf(http.StatusNotFound, CodeNotFound, "there is no %s: the API's paths begin with /v1/jobs", r.URL.Path))
}

// authorised checks the user's bearer token.
func (h *handler) authorised(r *http.Request) error {
	if h.o.Seen != nil {
		h.o.Seen()
	}
	if h.o.Token == "" {
		return nil
	}
	if subtle.ConstantTimeCompare([]byte(bearer(r)), []byte(h.o.Token)) != 1 {
		return Errorf(http.StatusUnauthorized, CodeUnauthorized, "the token is missing or wrong: set ANYCLOUD_TOKEN, or ANYCLOUD_HOME to the home of this server")
	}
	return nil
}

func bearer(r *http.Request) string {
	t, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	return t
}

func (h *handler) user(f func(*http.Request) (any, error)) http.HandlerFunc {
	return h.plain(func(r *http.Request) (any, error) {
		if err := h.authorised(r); err != nil {
			return nil, err
		}
		return f(r)
	})
}

func (h *handler) plain(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out, err := f(r)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		switch v := out.(type) {
		case Job:
			w.Header().Set("ETag", etag(v.Revision))
		case SubmitReply:
			w.Header().Set("ETag", etag(v.Job.Revision))
		}
		writeJSON(w, http.StatusOK, out)
	}
}

func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p *Problem
	if !errors.As(err, &p) {
		if r.Context().Err() != nil {
			return // nobody listens any more
		}
		h.o.Logger.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		p = Errorf(http.StatusInternalServerError, "internal", "%v", err)
	}
	writeProblem(w, p)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) //nolint:errcheck // the caller went away
}

func writeProblem(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p) //nolint:errcheck // the caller went away
}

// read decodes a JSON body; empty is the zero value.
func read(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		_, err = d.Token()
		if err == nil {
			return Errorf(http.StatusBadRequest, CodeInvalid, "the body holds more than one JSON value: send one object")
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return bodyProblem(err, v)
}

func bodyProblem(err error, v any) error {
	var (
		big    *http.MaxBytesError
		syntax *json.SyntaxError
		typ    *json.UnmarshalTypeError
	)
	switch {
	case errors.As(err, &big):
		return Errorf(http.StatusRequestEntityTooLarge, "too_large", "the body is over %d bytes: a job's description is small, put data into a bucket", big.Limit)
	case errors.As(err, &syntax):
		return Errorf(http.StatusBadRequest, CodeInvalid, "the body is not JSON: %v at byte %d", syntax, syntax.Offset)
	case errors.As(err, &typ):
		return Errorf(http.StatusBadRequest, CodeInvalid, "field %q must be %s, not %s", strings.TrimPrefix(typ.Field, "Spec."), typ.Type, typ.Value)
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		name, _ := strconv.Unquote(strings.TrimPrefix(err.Error(), "json: unknown field "))
		if near := similar.Nearest(name, fieldsOf(v)); near != "" {
			return Errorf(http.StatusBadRequest, CodeInvalid, "there is no field %q: did you mean %q?", name, near)
		}
		return Errorf(http.StatusBadRequest, CodeInvalid, "there is no field %q", name)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Errorf(http.StatusBadRequest, CodeInvalid, "the body is not JSON: it ends too early")
	}
	return Errorf(http.StatusBadRequest, CodeInvalid, "the body cannot be read: %v", err)
}

func (h *handler) submit(r *http.Request) (any, error) {
	var body SubmitRequest
	if err := read(r, &body); err != nil {
		return nil, err
	}
	return h.s.Submit(r.Context(), body, r.Header.Get("Idempotency-Key"))
}

func (h *handler) list(r *http.Request) (any, error) {
	q := r.URL.Query()
	limit, err := number(q.Get("limit"), "limit")
	if err != nil {
		return nil, err
	}
	state := job.State(q.Get("state"))
	if state != "" && !known(state) {
		return nil, Errorf(http.StatusBadRequest, CodeInvalid, "there is no state %q: one of %v", state, job.States)
	}
	return h.s.List(r.Context(), ListQuery{State: state, All: q.Get("all") != "" && q.Get("all") != "false", After: q.Get("after"), Limit: limit})
}

func known(s job.State) bool {
	for _, k := range job.States {
		if k == s {
			return true
		}
	}
	return false
}

func number(s, name string) (int, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, Errorf(http.StatusBadRequest, CodeInvalid, "%s must be a number, not %q", name, s)
	}
	return n, nil
}

func (h *handler) get(r *http.Request) (any, error) { return h.s.Get(r.Context(), r.PathValue("id")) }

// ifMatch reads the revision that the caller saw; 0 if none is given.
func ifMatch(r *http.Request) (int64, error) {
	s := strings.TrimSpace(r.Header.Get("If-Match"))
	if s == "" || s == "*" {
		return 0, nil
	}
	n, err := strconv.ParseInt(strings.Trim(strings.TrimPrefix(s, "W/"), `"`), 10, 64)
	if err != nil || n < 1 {
		return 0, Errorf(http.StatusBadRequest, CodeInvalid, "If-Match must be a job's revision, not %q", s)
	}
	return n, nil
}

func (h *handler) cancel(r *http.Request) (any, error) {
	var body CancelRequest
	seen, err := ifMatch(r)
	if err == nil {
		err = read(r, &body)
	}
	if err != nil {
		return nil, err
	}
	return h.s.Cancel(r.Context(), r.PathValue("id"), seen, body)
}

func (h *handler) resubmit(r *http.Request) (any, error) {
	var body ResubmitRequest
	seen, err := ifMatch(r)
	if err == nil {
		err = read(r, &body)
	}
	if err != nil {
		return nil, err
	}
	return h.s.Resubmit(r.Context(), r.PathValue("id"), seen, body)
}

func (h *handler) preempt(r *http.Request) (any, error) {
	var body PreemptRequest
	if err := read(r, &body); err != nil {
		return nil, err
	}
	return h.s.Preempt(r.Context(), r.PathValue("id"), body)
}

func (h *handler) checkpoint(r *http.Request) (any, error) {
	var body CheckpointRequest
	if err := read(r, &body); err != nil {
		return nil, err
	}
	return h.s.Checkpoint(r.Context(), r.PathValue("id"), body)
}

func (h *handler) checkpointAccess(r *http.Request) (any, error) {
	return h.s.CheckpointAccess(r.Context(), r.PathValue("id"))
}

func (h *handler) checkpoints(r *http.Request) (any, error) {
	return h.s.Checkpoints(r.Context(), r.PathValue("id"))
}

// DoctorRequest is the body of POST /v1/doctor.
type DoctorRequest struct {
	Fix []string `json:"fix,omitempty"` // ids of checks to mend
}

func (h *handler) doctor(r *http.Request) (any, error) {
	var body DoctorRequest
	if err := read(r, &body); err != nil {
		return nil, err
	}
	return h.s.Doctor(r.Context(), body.Fix)
}

func (h *handler) claim(r *http.Request) (any, error) {
	var body ClaimRequest
	if err := read(r, &body); err != nil {
		return nil, err
	}
	return h.s.Claim(r.Context(), body)
}

func (h *handler) report(r *http.Request) (any, error) {
	var body Report
	n, err := attemptOf(r)
	if err == nil {
		err = read(r, &body)
	}
	if err != nil {
		return nil, err
	}
	return h.s.Report(r.Context(), r.PathValue("id"), n, bearer(r), body)
}

func (h *handler) credentials(r *http.Request) (any, error) {
	n, err := attemptOf(r)
	if err != nil {
		return nil, err
	}
	return h.s.Credentials(r.Context(), r.PathValue("id"), n, bearer(r))
}

func attemptOf(r *http.Request) (int, error) {
	n, err := number(r.PathValue("attempt"), "the attempt")
	if err == nil && n < 1 {
		err = Errorf(http.StatusBadRequest, CodeInvalid, "attempts are numbered from 1")
	}
	return n, err
}

func (h *handler) ping(r *http.Request) (any, error) {
	return struct{}{}, h.s.Ping(r.Context())
}

// followEvery is how often a followed log is looked at for new lines.
const followEvery = 300 * time.Millisecond

// logs answers with a page, or, followed, with JSON lines until the job's log
// has ended or the caller goes away.
func (h *handler) logs(w http.ResponseWriter, r *http.Request) {
	if err := h.authorised(r); err != nil {
		h.fail(w, r, err)
		return
	}
	q, err := logQuery(r)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	id := r.PathValue("id")
	page, err := h.s.Logs(r.Context(), id, q)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	follow := r.URL.Query().Get("follow")
	if follow == "" || follow == "false" || follow == "0" {
		writeJSON(w, http.StatusOK, page)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	for {
		for _, l := range page.Lines {
			if out.Encode(l) != nil {
				return
			}
		}
		flush.Flush() //nolint:errcheck // the next write tells
		if h.o.Seen != nil {
			h.o.Seen()
		}
		if page.Ended {
			return
		}
		if !page.More && !sleep(r.Context(), followEvery) {
			return
		}
		q.After, q.Tail = page.Next, 0
		if page, err = h.s.Logs(r.Context(), id, q); err != nil {
			h.o.Logger.Warn("follow logs", "job", id, "err", err)
			panic(http.ErrAbortHandler) // the stream breaks off visibly; the client goes on from its cursor
		}
	}
}

func logQuery(r *http.Request) (LogQuery, error) {
	v := r.URL.Query()
	q := LogQuery{After: v.Get("after")}
	var err error
	for name, to := range map[string]*int{"attempt": &q.Attempt, "tail": &q.Tail, "limit": &q.Limit} {
		if *to, err = number(v.Get(name), name); err != nil {
			return q, err
		}
	}
	return q, nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
