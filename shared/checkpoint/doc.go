// Package checkpoint saves directories into a bucket as commits that exist
// whole or not at all, and restores them.
//
// docs/checkpoint-format.md has the format and the arguments. The log of
// commits, and the fence, are package wal.
//
//	format.go     roots, tree entries, packs: what is stored
//	walk_linux.go what a directory holds, and whether it changed
//	pack.go       chunks on their way into packs
//	cache.go      what a saver remembers: the last commit, packs acknowledged
//	save.go       Save: one point in time
//	capture.go    reading files, and telling whether they rested
//	freeze.go     what is read while the job is frozen
//	reader.go     opening commits
//	restore.go    Restore: which commit, and what if it is damaged
//	build.go      from a tree to files
//	prune.go      Prune
//	verify.go     List, Verify
package checkpoint
