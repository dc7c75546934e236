package boltstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anycloud/shared/internal/smalldisk"
	"anycloud/shared/job"
	"anycloud/shared/store"
)

func TestFullDisk(t *testing.T) {
	disk := smalldisk.New(t, 1<<20)
	path := filepath.Join(disk, "table.db")
	s := open(t, path)
	filler := smalldisk.Fill(t, disk)
	long := strings.Repeat("why ", 2000)
	var n int
	var err error
	for n = 0; err == nil && n < 1000; n++ {
		err = s.Create(t.Context(), &job.Job{Format: job.Format, ID: fmt.Sprint("job-", n), Revision: 1, WaitReason: long})
	}
	if !errors.Is(err, store.ErrFull) {
		t.Fatalf("after %d creates: %v", n, err)
	}
	written := n - 1
	wantRows := func(s *Store, want int) {
		t.Helper()
		page, _, err := s.List(t.Context(), store.Filter{Limit: 2000})
		if err != nil || len(page) != want {
			t.Fatalf("%d rows, %v; want %d", len(page), err, want)
		}
	}
	wantRows(s, written)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(t.Context(), &job.Job{Format: job.Format, ID: "later", Revision: 1, WaitReason: long}); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantRows(open(t, path), written+1)
}

func TestNoRoomForATable(t *testing.T) {
	disk := smalldisk.New(t, 1<<16)
	smalldisk.Fill(t, disk)
	path := filepath.Join(disk, "home", "table.db")
	if _, err := Open(path); !errors.Is(err, store.ErrFull) {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Fatalf("half a table was left: %v", err)
	}
}
