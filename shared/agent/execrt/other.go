//go:build !linux

package execrt

import (
	"context"
	"errors"

	"anycloud/shared/agent/keeper"
	"anycloud/shared/agent/keeper/joblog"
)

func levels() []keeper.Level { return []keeper.Level{{}} }

func bury(context.Context, keeper.Record) error { return nil }

// Engine is the keeper's part.
type Engine struct{}

// Name implements keeper.Engine.
func (Engine) Name() string { return engineName }

// Start implements keeper.Engine: sessions, subreapers and namespaces are Linux's.
func (Engine) Start(context.Context, *keeper.Launch, *joblog.Writer) (keeper.Container, error) {
	return nil, errors.New("jobs run on Linux only")
}

// RemoveByVM removes what the containers of a VM left in the system.
func RemoveByVM(string) error { return nil }
