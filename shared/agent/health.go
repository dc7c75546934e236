package agent

import (
	"time"

	"anycloud/shared/checkpoint"
	"anycloud/shared/job"
)

// health is what the record learns of the saves.
type health struct {
	last     job.Checkpoint
	pauses   []float64 // seconds, newest last
	okAt     time.Time // last save that went well, whether it committed or not
	interval time.Duration
	known    bool
}

// keepPauses bounds what percentiles are computed from.
const keepPauses = 1000

// begin starts the count: from here on, three intervals without a save are late.
func (h *health) begin(interval time.Duration, last *job.Checkpoint, now time.Time) {
	h.interval, h.okAt = interval, now
	if last != nil {
		h.last, h.known = *last, true
	}
}

// saved notes a save that went well.
func (h *health) saved(attempt int, s checkpoint.Result, now time.Time) {
	h.known = true
	h.okAt = now
	h.last.Health, h.last.Problem = "ok", ""
	if !s.Committed {
		return
	}
	h.last.Latest, h.last.Attempt, h.last.Clean, h.last.CommittedAt = s.Number, attempt, s.Clean, now
	h.last.Files, h.last.Bytes = s.Files, s.Bytes
	if s.Pause > 0 {
		h.pauses = append(h.pauses, s.Pause.Seconds())
		if len(h.pauses) > keepPauses {
			h.pauses = h.pauses[1:]
		}
		h.last.PauseP50, h.last.PauseP99, h.last.PauseMax = percentiles(h.pauses)
	}
}

// failed notes a save that did not; news says that it failed otherwise before,
// or not at all.
func (h *health) failed(err error) (news bool) {
	news = h.last.Problem != err.Error()
	h.known = true
	h.last.Health, h.last.Problem = "failing", err.Error()
	return news
}

// checkpoint is the report's part; nil before there is anything to tell.
func (h *health) checkpoint(now time.Time) *job.Checkpoint {
	late := h.interval > 0 && now.Sub(h.okAt) > 3*h.interval
	if !h.known && !late {
		return nil
	}
	c := h.last
	if late && c.Health != "failing" {
		c.Health = "late"
	}
	return &c
}
