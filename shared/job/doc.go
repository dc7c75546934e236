// Package job is the state machine of a job: its record, and the one pure
// function (Next) that changes it. Standard library only.
//
//	job.go     the record: Job, Attempt, Doomed, Launch
//	spec.go    what the user asked for
//	state.go   the states, one documented constant each
//	event.go   the events, one type each, and what they carry
//	next.go    Next: (Job, Event, now) to (Job, []Effect, error)
//
// Whoever wants a job changed reads the row, calls Next, writes the result
// conditional on its revision, and only then publishes the effects. The record
// is the intent: nothing is done to a cloud that the record did not say before.
package job
