//go:build !linux

package dockerrt

import "syscall"

func session() *syscall.SysProcAttr { return nil }
