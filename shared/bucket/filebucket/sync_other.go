//go:build !unix

package filebucket

const nonblock = 0

// syncDir does nothing: these systems open no directories for writing.
func syncDir(string) error { return nil }
