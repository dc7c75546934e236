package boltstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"anycloud/shared/internal/boltfile"
	"anycloud/shared/job"
	"anycloud/shared/store"
	"anycloud/shared/store/storetest"
)

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func putRaw(t testing.TB, s *Store, id string, row []byte) {
	t.Helper()
	err := s.file.Update(func(tx *bolt.Tx) error {
		if err := tx.Bucket(activeTable).Put([]byte(id), nil); err != nil {
			return err
		}
		return tx.Bucket(jobsTable).Put([]byte(id), row)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSuite(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		New: func(t *testing.T, now func() time.Time) store.Store {
			s := open(t, filepath.Join(t.TempDir(), "table.db"))
			s.Now = now
			return s
		},
		PutRaw: func(t *testing.T, s store.Store, j *job.Job) {
			row, err := encodeJob(j)
			if err != nil {
				t.Fatal(err)
			}
			putRaw(t, s.(*Store), j.ID, row)
		},
	})
}

func TestNewerRowOfAnotherShape(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "table.db"))
	putRaw(t, s, "a", boltfile.Seal([]byte(`{"format":7,"id":{"moved":true}}`)))
	if _, err := s.Get(t.Context(), "a"); !errors.Is(err, store.ErrNewer) {
		t.Fatal(err)
	}
	if page, _, skipped, err := s.Active(t.Context(), "", 0); len(page) != 0 || skipped != 1 || err != nil {
		t.Fatalf("%v, %d, %v", page, skipped, err)
	}
}

func TestSurvivesReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "home", "table.db")
	s := open(t, path)
	j := &job.Job{Format: job.Format, ID: "a", Revision: 1, Attempts: []job.Attempt{{VMID: "vm"}}}
	if err := s.Create(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	soon := time.Now().Add(time.Minute)
	for k, at := range map[string]time.Time{"soon": soon, "never": {}, "old": time.Now().Add(-2 * keepExpired)} {
		if err := s.PutDoc(t.Context(), k, []byte("x"), 0, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	if got, err := s.Get(t.Context(), "a"); err != nil || got.Revision != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if id, err := s.JobByVM(t.Context(), "vm"); id != "a" || err != nil {
		t.Fatal(id, err)
	}
	var docs []string
	s.file.View(func(tx *bolt.Tx) error {
		return tx.Bucket(docsTable).ForEach(func(k, _ []byte) error { docs = append(docs, string(k)); return nil })
	})
	if !slices.Equal(docs, []string{"never", "soon"}) {
		t.Errorf("documents %q", docs)
	}
}

func TestSecondServeIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table.db")
	open(t, path)
	_, err := Open(path)
	if err == nil || !strings.Contains(err.Error(), "another serve is running on this home") {
		t.Fatal(err)
	}
}

func TestDamageIsRefusedAndLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table.db")
	s := open(t, path)
	for n := range 60 {
		j := &job.Job{Format: job.Format, ID: fmt.Sprintf("job-%02d", n), Revision: 1, WaitReason: strings.Repeat("why ", 200)}
		if err := s.Create(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// In every copy of a row, those in free pages included: only its checksum sees it.
	row := []byte(strings.ReplaceAll(string(sound), `"id":"job-59"`, `"id":"kob-59"`))
	for name, b := range map[string][]byte{
		"empty": {}, "one page": sound[:4096], "half": sound[:len(sound)/2], "text": []byte(strings.Repeat("not a table\n", 1000)),
		"a byte of a row": row,
	} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path)
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != string(b) {
			t.Errorf("%s: the file was changed: %v", name, err)
		}
	}
}

func TestNewerTableIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table.db")
	s := open(t, path)
	err := s.file.Update(func(tx *bolt.Tx) error { return tx.Bucket(metaTable).Put(formatKey, []byte("2")) })
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(path); !errors.Is(err, store.ErrNewer) {
		t.Fatal(err)
	}
}

func TestRowsAreReadable(t *testing.T) {
	row, err := encodeJob(&job.Job{Format: job.Format, ID: "a"})
	if err != nil || !json.Valid(row[9:]) {
		t.Fatalf("%s, %v", row, err)
	}
}

func BenchmarkPut(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "table.db"))
	j := &job.Job{Format: job.Format, ID: "a", Revision: 1, State: job.Running}
	for n := range 5 {
		j.Attempts = append(j.Attempts, job.Attempt{Number: n, VMID: fmt.Sprint("vm-", n)})
	}
	if err := s.Create(b.Context(), j); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		j.Revision++
		if err := s.Put(b.Context(), j); err != nil {
			b.Fatal(err)
		}
	}
}
