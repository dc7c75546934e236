package job

import (
	"maps"
	"slices"
)

// Clone returns a copy that shares no memory with j. Nil stays nil, empty
// stays empty.
func (j *Job) Clone() *Job {
	if j == nil {
		return nil
	}
	c := *j
	c.Spec = j.Spec.Clone()
	c.Attempts = slices.Clone(j.Attempts)
	for i := range c.Attempts {
		a := &c.Attempts[i]
		a.ExitCode = ptr(a.ExitCode)
		a.Notice = ptr(a.Notice)
	}
	c.Launch = ptr(j.Launch)
	if c.Launch != nil {
		c.Launch.Candidates = slices.Clone(j.Launch.Candidates)
	}
	c.Doomed = slices.Clone(j.Doomed)
	c.Kept = slices.Clone(j.Kept)
	c.Outcome = ptr(j.Outcome)
	if c.Outcome != nil {
		c.Outcome.ExitCode = ptr(j.Outcome.ExitCode)
	}
	c.Bucket = ptr(j.Bucket)
	c.Checkpoint = ptr(j.Checkpoint)
	c.Others = slices.Clone(j.Others)
	c.Outbox = slices.Clone(j.Outbox)
	return &c
}

// Clone returns a copy that shares no memory with s.
func (s Spec) Clone() Spec {
	s.Command = slices.Clone(s.Command)
	s.Env = maps.Clone(s.Env)
	s.Clouds = slices.Clone(s.Clouds)
	s.Region = slices.Clone(s.Region)
	s.Zone = slices.Clone(s.Zone)
	s.Grace = ptr(s.Grace)
	s.MaxPause = ptr(s.MaxPause)
	s.KeepCheckpoint = ptr(s.KeepCheckpoint)
	s.MaxPreemptions = ptr(s.MaxPreemptions)
	s.Secret = maps.Clone(s.Secret)
	return s
}

// ptr copies what p points to.
func ptr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
