package localbus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"anycloud/shared/bus"
	"anycloud/shared/internal/boltfile"
	"anycloud/shared/internal/smalldisk"
)

func TestFullDisk(t *testing.T) {
	disk := smalldisk.New(t, 1<<20)
	_, b := open(t, filepath.Join(disk, "table.db"), Options{})
	got := 0
	b.Subscribe("s", nil, func(context.Context, bus.Event) error { got++; return nil })
	filler := smalldisk.Fill(t, disk)
	var err error
	sent := 0
	for ; err == nil && sent < 5000; sent++ {
		err = b.Publish(t.Context(), make([]bus.Event, 20)...)
	}
	if !errors.Is(err, boltfile.ErrFull) {
		t.Fatalf("after %d: %v", sent, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	for step(t, b) {
	}
	if want := 20 * (sent - 1); got != want {
		t.Fatalf("%d events delivered, %d acknowledged", got, want)
	}
}
