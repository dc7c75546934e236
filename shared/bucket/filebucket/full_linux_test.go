package filebucket

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"anycloud/shared/bucket"
	"anycloud/shared/internal/smalldisk"
)

func TestFullDisk(t *testing.T) {
	disk := smalldisk.New(t, 1<<20)
	a := admin(t, filepath.Join(disk, "buckets"), "mine")
	if err := a.Create(t.Context(), "the-bucket"); err != nil {
		t.Fatal(err)
	}
	o, err := a.Open(t.Context(), "the-bucket")
	if err != nil {
		t.Fatal(err)
	}
	if err := o.PutIfAbsent(t.Context(), "log/1", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 2<<20)
	if err := o.Put(t.Context(), "log/1", bytes.NewReader(big), int64(len(big))); !errors.Is(err, bucket.ErrFull) {
		t.Fatalf("put: %v", err)
	}
	if err := o.PutIfAbsent(t.Context(), "log/2", big); !errors.Is(err, bucket.ErrFull) {
		t.Fatalf("put if absent: %v", err)
	}
	filler := smalldisk.Fill(t, disk)
	if err := o.PutIfAbsent(t.Context(), "log/2", []byte("x")); !errors.Is(err, bucket.ErrFull) {
		t.Fatalf("put if absent: %v", err)
	}
	page, _, err := o.List(t.Context(), "", "", 0)
	if err != nil || len(page) != 1 || page[0].Size != 4 {
		t.Fatalf("list: %+v, %v", page, err)
	}
	if left, _ := os.ReadDir(filepath.Join(disk, "buckets", "the-bucket", tmpDir)); len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := o.PutIfAbsent(t.Context(), "log/2", []byte("x")); err != nil {
		t.Fatalf("with room again: %v", err)
	}
}

func TestDisposalNeedsNoRoom(t *testing.T) {
	disk := smalldisk.New(t, 1<<20)
	a := admin(t, filepath.Join(disk, "buckets"), "mine")
	if err := a.Create(t.Context(), "the-bucket"); err != nil {
		t.Fatal(err)
	}
	smalldisk.Fill(t, disk)
	if done, err := a.Dispose(t.Context(), "the-bucket"); !done || err != nil {
		t.Fatal(done, err)
	}
}
