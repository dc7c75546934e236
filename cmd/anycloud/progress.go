package main

import (
	"fmt"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"anycloud/shared/api"
)

// lines prints a log as it comes. On a terminal, what takes long is a bar below
// the lines; elsewhere its lines are lines.
type lines struct {
	a    *app
	p    *mpb.Progress // nil: no bar is shown
	bars map[barKey]*mpb.Bar
}

type barKey struct {
	attempt int
	what    string
}

// barWidth in columns, beside what stands left and right of it.
const barWidth = 40

func (a *app) lines() *lines { return &lines{a: a, bars: map[barKey]*mpb.Bar{}} }

// take prints one line.
func (s *lines) take(l api.LogLine) error {
	if s.a.json || !terminal(s.a.stderr) {
		return s.a.printLine(l)
	}
	if l.Progress != nil {
		s.show(l)
		return nil
	}
	if l.Stream == "anycloud" {
		s.end(func(k barKey) bool { return k.attempt == l.Attempt }) // the agent is doing something else
	}
	if s.p == nil {
		return s.a.printLine(l)
	}
	above := *s.a
	above.stderr = s.p
	if terminal(s.a.stdout) {
		above.stdout = s.p
	}
	return above.printLine(l)
}

func (s *lines) show(l api.LogLine) {
	if s.p == nil {
		s.p = mpb.New(mpb.WithOutput(s.a.stderr), mpb.WithWidth(barWidth))
	}
	k := barKey{l.Attempt, l.Progress.What}
	bar := s.bars[k]
	if bar == nil {
		bar = s.p.AddBar(0,
			mpb.PrependDecorators(decor.Name(fmt.Sprintf("[anycloud %d] %s ", k.attempt, k.what))),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f of % .1f")))
		s.bars[k] = bar
	}
	bar.SetTotal(l.Progress.Total, false)
	bar.SetCurrent(l.Progress.Done)
	if l.Progress.Done >= l.Progress.Total {
		s.end(func(other barKey) bool { return other == k })
	}
}

// end takes bars away, and the display with the last of them.
func (s *lines) end(which func(barKey) bool) {
	for k, bar := range s.bars {
		if which(k) {
			bar.Abort(true)
			delete(s.bars, k)
		}
	}
	if s.p != nil && len(s.bars) == 0 {
		s.p.Wait()
		s.p = nil
	}
}

// close ends what is still shown.
func (s *lines) close() { s.end(func(barKey) bool { return true }) }
