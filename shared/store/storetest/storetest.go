// Package storetest is the suite that every store driver passes.
//
//	jobs.go    create, get, put: revisions, races, copies
//	index.go   active jobs, VM ids, paging
//	docs.go    documents: versions, expiry
//	newer.go   rows in a format that this program does not know
package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"anycloud/shared/job"
	"anycloud/shared/store"
)

// Harness builds what a driver is tested on.
type Harness struct {
	// New returns a fresh, empty table whose clock for expiry is now.
	New func(t *testing.T, now func() time.Time) store.Store
	// PutRaw stores an active row as a newer program would have, around the
	// driver's checks. Its format is beyond job.Format. nil leaves the topic out.
	PutRaw func(t *testing.T, s store.Store, j *job.Job)
	// Eventually says that indexes may lag behind; the suite then waits for them
	// up to 10 s.
	Eventually bool
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	t.Run("jobs", func(t *testing.T) { testJobs(t, h) })
	t.Run("index", func(t *testing.T) { testIndex(t, h) })
	t.Run("docs", func(t *testing.T) { testDocs(t, h) })
	if h.PutRaw != nil {
		t.Run("newer", func(t *testing.T) { testNewer(t, h) })
	}
}

func (h Harness) fresh(t *testing.T) store.Store { return h.New(t, time.Now) }

// follows checks what an index shows, now or soon.
func (h Harness) follows(t *testing.T, check func() error) {
	t.Helper()
	err := check()
	for end := time.Now().Add(10 * time.Second); err != nil && h.Eventually && time.Now().Before(end); err = check() {
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// example is a new job with something in every corner that a copy could miss.
func example(id string) *job.Job {
	code, pause := 3, job.Duration(200*time.Millisecond)
	at := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	return &job.Job{
		Format: job.Format, ID: id, Stack: "acme", State: job.Running, Revision: 1, Run: 1, CreatedAt: at, UpdatedAt: at,
		Spec: job.Spec{
			Image: "img", Command: []string{"a", "b"}, Env: map[string]string{"K": "V"}, Zone: []string{"z"},
			MaxPause: &pause, UnresponsiveAfter: job.Never,
		},
		Attempt: 1, Writer: 1,
		Attempts: []job.Attempt{{Number: 1, VMID: "vm-" + id, StartedAt: at, ExitCode: &code, Notice: &job.NoticeInfo{Kind: "spot", At: at}}},
		Launch:   &job.Launch{Attempt: 2, Token: "t", Candidates: []job.Placement{{Zone: "z", Price: 1.25}}},
		Doomed:   []job.Doomed{{VMID: "doomed-" + id, TerminateAfter: at}},
		Outcome:  &job.Outcome{State: job.Failed, ExitCode: &code},
		Bucket:   &job.Bucket{Name: id, State: job.BucketCreated},
		Outbox:   []job.Message{{Type: "job.submitted", Revision: 1, At: at}},
	}
}

func create(t testing.TB, s store.Store, j *job.Job) *job.Job {
	t.Helper()
	if err := s.Create(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	return j
}

// change reads a job, changes it, and writes it at its next revision.
func change(t testing.TB, s store.Store, id string, f func(j *job.Job)) *job.Job {
	t.Helper()
	j, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	f(j)
	j.Revision++
	if err := s.Put(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	return j
}

func wantErr(t testing.TB, what string, err, class error) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Fatalf("%s: error %v, want %v", what, err, class)
	}
}

func ids(page []*job.Job) []string {
	var out []string
	for _, j := range page {
		out = append(out, j.ID)
	}
	return out
}

func id(n int) string { return fmt.Sprintf("acme-job-%03d", n) }
