// Package trial puts the checkpoint engine through what it promises to survive,
// with real processes: the agent's own binary is killed, frozen jobs are saved,
// attempts fence each other, storage fails.
//
//	main_test.go       flags, and the roles that this test binary plays as a child
//	program_test.go    the agent's binary and where its bucket is
//	stamp_test.go      files that tell of every page which generation wrote it
//	kill_test.go       SIGKILL at random moments of a save
//	fence_test.go      attempts that save, prune and fence at full speed
//	contender_test.go  one of those attempts
//	busy_test.go       saves of a job that never rests
//	moment_test.go     what a commit of it must hold
//	model_test.go      the job's operations, decided by their numbers
//	writer_test.go     the job
//
// Every trial has a flag for how much of it is wanted; the full amounts run by
// `make trials`, and what they showed last stands in docs/benchmarks.md.
package trial
