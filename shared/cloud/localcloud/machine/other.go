//go:build !linux

package machine

import (
	"context"

	"anycloud/shared/cloud/localcloud/vmdir"
)

// Run is Linux's.
func Run(context.Context, string, Options) error { return vmdir.Supported() }

// Reap is Linux's.
func Reap(context.Context, string, RemoveContainers) error { return vmdir.Supported() }
