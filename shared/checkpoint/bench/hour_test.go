package bench

import (
	"fmt"
	"os"
	"testing"
	"time"

	"anycloud/shared/checkpoint"
)

// Prices of S3 in us-east-1, USD for 1,000 requests: aws.amazon.com/s3/pricing.
const (
	writePrice = 0.005  // PUT, LIST
	readPrice  = 0.0004 // GET
)

// pruneEvery commits, as the agent does.
const pruneEvery = 10

// stateOfHour is the state that the hour is about; a smaller one is scaled.
const stateOfHour = 10e9

// hour saves every minute, on a clock of its own, a state of which 1% was
// rewritten in scattered blocks, and prunes as the agent does.
func hour(t *testing.T, tb *table, size sizes) {
	dir := t.TempDir()
	n := int(size.hour / fileSize)
	files(t, dir, n, fileSize)
	state := int64(n) * fileSize
	clock := time.Now()
	s, c := within(t, dir, func(o *checkpoint.Options) { o.Now = func() time.Time { return clock } })
	if _, err := s.Save(t.Context(), checkpoint.SaveRequest{}); err != nil {
		t.Fatal(err)
	}
	c.puts.Store(0)
	c.gets.Store(0)
	c.lists.Store(0)
	c.sent.Store(0)
	r := source(5)
	var most int64
	began := time.Now()
	var saving time.Duration
	commits := 0
	for minute := range size.minutes {
		rewrite(t, dir, r, int(state/100/(16<<10)), n, fileSize)
		clock = clock.Add(time.Minute)
		at := time.Now()
		got, err := s.Save(t.Context(), checkpoint.SaveRequest{})
		saving += time.Since(at)
		if err != nil || !got.Committed {
			t.Fatalf("minute %d: %+v, %v", minute, got, err)
		}
		most = max(most, stored(t, c))
		if commits++; commits == pruneEvery {
			commits = 0
			if _, err := s.Prune(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := stored(t, c)
	// A larger state has more packs, and as many log entries, lists and prunes.
	scale := stateOfHour / float64(state)
	entries := float64(size.minutes + size.minutes/pruneEvery)
	puts := (float64(c.puts.Load())-entries)*scale + entries
	price := (puts+float64(c.lists.Load()))*writePrice/1000 + float64(c.gets.Load())*scale*readPrice/1000
	perHour := price * 60 / float64(size.minutes)
	growth := float64(most) / float64(state)
	tb.rows = append(tb.rows, row{
		work: fmt.Sprintf("%d MiB, 1%% rewritten every minute, %d minutes, pruned; for 10 GB: $%.3f an hour of requests; bucket at most %.1f× the state, %.1f× at the end",
			state>>20, size.minutes, perHour, growth, float64(left)/float64(state)),
		tool: "anycloud", cost: cost{took: saving / time.Duration(size.minutes), sent: c.sent.Load(), requests: c.requests()},
		target: "≤ $0.10 an hour, growth bounded by prune", met: perHour <= 0.10 && growth <= growthMost,
	})
	t.Logf("hour: %d puts, %d gets, %d lists, %d deletes, $%.3f an hour for 10 GB, at most %.2f× the state, %.2f× at the end; %s in all",
		c.puts.Load(), c.gets.Load(), c.lists.Load(), c.deletes.Load(), perHour, growth, float64(left)/float64(state), seconds(time.Since(began)))
}

// growthMost is what "bounded" is held against: with half-dead packs packed
// anew, the live half of each may stay, and what 10 minutes wrote.
const growthMost = 3

func stored(t *testing.T, c *counter) (total int64) {
	t.Helper()
	for after := ""; ; {
		page, more, err := c.Objects.List(t.Context(), "", after, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page {
			total += o.Size
			after = o.Key
		}
		if !more || len(page) == 0 {
			return total
		}
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := agentBinary(); err == nil {
		os.Remove(path)
	}
	os.Exit(code)
}
