package agent

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestProgressIsToldNowAndThen, and nothing of what is over at once.
func TestProgressIsToldNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &agent{Options: Options{Now: time.Now, Logger: slog.New(slog.DiscardHandler)}}
		a.ship = &shipper{a: a}
		tell := a.progress(ofRestore)
		tell(1<<20, 10<<20)
		for i := range 100 {
			time.Sleep(100 * time.Millisecond)
			tell(int64(i)<<20, 100<<20)
		}
		if n := len(a.ship.own); n != 5 {
			t.Fatalf("%d lines in 10 s", n)
		}
		l := a.ship.own[0]
		if l.Text != "restore: 19 MiB of 100 MiB" || l.Progress == nil || l.Progress.What != "restore" || l.Progress.Done != 19<<20 || l.Progress.Total != 100<<20 {
			t.Errorf("%+v", l)
		}
	})
}
