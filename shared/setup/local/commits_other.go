//go:build !linux

package local

import (
	"context"
	"errors"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
)

// commits is the engine's, which is Linux's; so is serve.
func commits(context.Context, bucket.Objects) ([]api.Commit, error) {
	return nil, errors.New("listing commits needs Linux")
}
