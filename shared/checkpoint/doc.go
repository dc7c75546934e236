// Package checkpoint saves directories into a bucket as commits that exist
// whole or not at all, and restores them.
//
// docs/checkpoint-format.md has the format and the arguments. The log of
// commits, and the fence, are package wal.
//
//	root.go, tree.go        what a commit is made of
//	pack.go                 what a pack is
//	packer.go               chunks on their way into packs, and to the bucket
//	cache.go, newest.go     what a saver remembers: the last commit, packs acknowledged
//	save.go                 Save
//	capture.go, read.go     one point in time: reading, and telling whether it rested
//	freeze.go, mixed.go     what to do about a tree that never rests
//	walk_linux.go           what a directory holds, and how it looks
//	estimate.go             what a save would cost now
//	restore.go, history.go  Restore: which commit, and what if it is damaged
//	reader.go, build.go     from packs to files
//	prune.go, verify.go     Prune; List and Verify
package checkpoint
