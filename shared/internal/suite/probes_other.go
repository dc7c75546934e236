//go:build !linux

package suite

// Namespaces and cgroups are Linux's.

func lookUserNS() error  { return lookLinux() }
func lookMountNS() error { return lookLinux() }
func lookMount() error   { return lookLinux() }
func lookFreezer() error { return lookLinux() }
