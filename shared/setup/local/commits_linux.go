package local

import (
	"context"

	"anycloud/shared/api"
	"anycloud/shared/bucket"
	"anycloud/shared/checkpoint"
)

// commits lists a log's.
func commits(ctx context.Context, objects bucket.Objects) ([]api.Commit, error) {
	list, err := checkpoint.List(ctx, objects)
	out := make([]api.Commit, len(list))
	for i, k := range list {
		out[i] = api.Commit{
			Number: k.Number, Attempt: k.Attempt, Clean: k.Clean, Sealed: k.Sealed, ExitCode: k.ExitCode, CapturedAt: k.CapturedAt,
			CommittedAt: k.Time, Files: k.Files, Bytes: k.Bytes, Pruned: k.Pruned,
		}
	}
	return out, err
}
