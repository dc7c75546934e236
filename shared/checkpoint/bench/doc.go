// Package bench measures the checkpoint engine side by side with rclone and
// restic, all as processes, against one S3 server on loopback in front of a RAM
// disk. `make bench-checkpoint` runs it in full and writes docs/benchmarks.md;
// the tests run a short form that holds nothing against a threshold.
//
//	bench_test.go   the rows
//	hour_test.go    what an hour of saves costs in requests and room
//	idle_test.go    what a save costs of which nothing changed
//	tools_test.go   how each program saves and restores
//	server_test.go  the S3 server, and what passes on the way to it
//	work_test.go    what is saved
//	table_test.go   the table
package bench
