//go:build !linux

// Package smalldisk mounts tiny disks, for tests of full ones, on Linux.
package smalldisk
