package bench

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint"
	"anycloud/shared/setup/agent"
)

// counter counts the calls to a bucket.
type counter struct {
	bucket.Objects
	puts, gets, lists, deletes, sent atomic.Int64
}

func (c *counter) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	c.puts.Add(1)
	c.sent.Add(int64(len(data)))
	return c.Objects.PutIfAbsent(ctx, key, data)
}

func (c *counter) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	c.gets.Add(1)
	return c.Objects.Get(ctx, key, offset, length)
}

func (c *counter) List(ctx context.Context, prefix, after string, limit int) ([]bucket.Object, bool, error) {
	c.lists.Add(1)
	return c.Objects.List(ctx, prefix, after, limit)
}

func (c *counter) Delete(ctx context.Context, key string) error {
	c.deletes.Add(1)
	return c.Objects.Delete(ctx, key)
}

func (c *counter) requests() int {
	return int(c.puts.Load() + c.gets.Load() + c.lists.Load() + c.deletes.Load())
}

// within is a saver as it lives in an agent, on a bucket in RAM: what a request
// costs is counted, not waited for.
func within(t *testing.T, dir string, change func(*checkpoint.Options)) (*checkpoint.Saver, *counter) {
	t.Helper()
	objects, err := agent.Make(t.Context(), "file://"+ram(t))
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{Objects: objects}
	o := checkpoint.Options{Objects: c, Attempt: 1, Roots: map[string]string{"checkpoint": dir}, StateDir: t.TempDir()}
	if change != nil {
		change(&o)
	}
	s, err := checkpoint.NewSaver(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, c
}

// idle saves within a running agent when nothing changed.
func idle(t *testing.T, tb *table, size sizes) {
	for _, work := range []struct {
		name  string
		files int
		bytes int64
		held  bool
	}{
		{fmt.Sprintf("%d × 16 MiB", size.files), size.files, fileSize, true},
		{fmt.Sprintf("%d × 4 KiB", size.small), size.small, 4096, false},
	} {
		dir := t.TempDir()
		files(t, dir, work.files, work.bytes)
		time.Sleep(50 * time.Millisecond) // old enough for their times to be trusted
		s, c := within(t, dir, nil)
		if _, err := s.Save(t.Context(), checkpoint.SaveRequest{}); err != nil {
			t.Fatal(err)
		}
		before := c.requests()
		var times []time.Duration
		for range 11 {
			began := time.Now()
			r, err := s.Save(t.Context(), checkpoint.SaveRequest{})
			times = append(times, elapsed(began))
			if err != nil || r.Committed {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		slices.Sort(times)
		got := row{work: "nothing changed, " + work.name + ", within a running agent", tool: "anycloud",
			cost: cost{took: times[len(times)/2], requests: c.requests() - before}}
		if work.held {
			got.target, got.met = "0 requests, ≤ 20 ms", got.requests == 0 && got.took <= 20*time.Millisecond
		}
		tb.rows = append(tb.rows, got)
		t.Logf("%s: %s, %d requests", got.work, seconds(got.took), got.requests)
	}
}
