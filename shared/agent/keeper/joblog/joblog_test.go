package joblog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"anycloud/shared/agent/runtime"
)

func open(t *testing.T, dir string) *Writer {
	t.Helper()
	w, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// all reads from offset on, in calls of at most max lines.
func all(t *testing.T, dir string, offset int64, max int) (lines []runtime.Line, next int64) {
	t.Helper()
	for {
		got, next, err := Read(dir, offset, max)
		if err != nil {
			t.Fatal(err)
		}
		if next == offset {
			return lines, next
		}
		if len(got) > max {
			t.Fatalf("%d lines, more than %d", len(got), max)
		}
		lines, offset = append(lines, got...), next
	}
}

func text(lines []runtime.Line) string {
	var b strings.Builder
	for _, l := range lines {
		b.Write(l.Text)
		if !l.Partial {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func TestEveryByteComesBack(t *testing.T) {
	long := strings.Repeat("0123456789", 100_000)
	exact := strings.Repeat("x", 2*runtime.MaxText)
	want := "first\n\n  indented \x00\xff\n" + long + "\n" + exact + "\nP F o e 1 2\nno newline at the end"
	t.Run("at once", func(t *testing.T) {
		dir := t.TempDir()
		if err := open(t, dir).Copy(runtime.Stdout, strings.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		got, _ := all(t, dir, 0, 3)
		if text(got) != want+"\n" {
			t.Errorf("%d bytes came back, want %d", len(text(got)), len(want)+1)
		}
		for _, l := range got {
			if len(l.Text) > runtime.MaxText {
				t.Errorf("a text of %d bytes", len(l.Text))
			}
		}
	})
	t.Run("byte by byte", func(t *testing.T) {
		dir := t.TempDir()
		short := "one\ntwo\n\nthree"
		if err := open(t, dir).Copy(runtime.Stderr, iotest.OneByteReader(strings.NewReader(short))); err != nil {
			t.Fatal(err)
		}
		got, _ := all(t, dir, 0, 100)
		if text(got) != short+"\n" || got[0].Stream != runtime.Stderr {
			t.Errorf("got %q", text(got))
		}
	})
}

func TestReadGoesOnFromAnyOffset(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir)
	w.limit = 300
	for i := range 200 {
		w.Append(runtime.Line{Time: time.Unix(0, int64(i)), Stream: runtime.Stdout, Text: fmt.Append(nil, i)})
	}
	if segs, _ := segments(dir); len(segs) < 5 {
		t.Fatalf("%d segments, want several", len(segs))
	}
	var offsets []int64
	var at int64
	for i := range 200 {
		offsets = append(offsets, at)
		lines, next, err := Read(dir, at, 1)
		if err != nil || len(lines) != 1 || string(lines[0].Text) != fmt.Sprint(i) {
			t.Fatalf("line %d: %v, %v", i, lines, err)
		}
		at = next
	}
	for i, off := range offsets {
		if lines, _ := all(t, dir, off, 1000); len(lines) != 200-i {
			t.Fatalf("from line %d: %d lines", i, len(lines))
		}
	}
	// What was shipped may go; an old offset then begins at what is left.
	if err := Discard(dir, offsets[150]); err != nil {
		t.Fatal(err)
	}
	lines, _ := all(t, dir, offsets[150], 1000)
	if len(lines) != 50 {
		t.Errorf("after discarding, %d lines from line 150 on, want 50", len(lines))
	}
	if lines, _ := all(t, dir, 0, 1000); len(lines) < 50 || len(lines) > 100 {
		t.Errorf("after discarding, %d lines in all", len(lines))
	}
	if err := Discard(dir, at); err != nil {
		t.Fatal(err)
	}
	if segs, _ := segments(dir); len(segs) != 1 {
		t.Errorf("%d segments left, want the last one", len(segs))
	}
}

func TestTornRecordIsDropped(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir)
	mark := time.Unix(5, 7).UTC()
	w.Append(runtime.Line{Time: mark, Stream: runtime.Stderr, Text: []byte("whole")})
	w.Append(runtime.Line{Time: mark, Stream: runtime.Stderr, Text: []byte("whole too")})
	path := w.path()
	w.Close()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("1234567 oF to")
	f.Close()
	if got, _ := all(t, dir, 0, 10); len(got) != 2 {
		t.Errorf("a reader sees %d records, want 2", len(got))
	}
	w = open(t, dir)
	if got := w.Last(runtime.Stderr); !got.Time.Equal(mark) || got.Count != 2 {
		t.Errorf("last is %+v", got)
	}
	w.Append(runtime.Line{Time: mark, Stream: runtime.Stdout, Text: []byte("after")})
	if got, _ := all(t, dir, 0, 10); text(got) != "whole\nwhole too\nafter\n" {
		t.Errorf("got %q", text(got))
	}
}

func TestFullDiskStopsNobody(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full on this system")
	}
	dir := t.TempDir()
	w := open(t, dir)
	good := w.f
	w.f = full
	for range 3 {
		w.Append(runtime.Line{Text: []byte("gone")})
	}
	w.f = good
	w.Append(runtime.Line{Text: []byte("back")})
	got, _ := all(t, dir, 0, 10)
	if s := text(got); !strings.Contains(s, "3 lines lost here") || !strings.HasSuffix(s, "back\n") {
		t.Errorf("got %q", s)
	}
}

func TestMissingLogIsEmpty(t *testing.T) {
	lines, next, err := Read(filepath.Join(t.TempDir(), "none"), 42, 10)
	if len(lines) != 0 || next != 42 || err != nil {
		t.Errorf("got %v, %d, %v", lines, next, err)
	}
}
