//go:build !linux

package localcloud

import "syscall"

func vmAttr(bool) *syscall.SysProcAttr { return nil }

func namespaceRefused(error) bool { return false }
