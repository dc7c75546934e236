package boltstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"anycloud/shared/internal/boltfile"
	"anycloud/shared/job"
	"anycloud/shared/store"
)

// encodeJob makes a row: checksum, then JSON.
func encodeJob(j *job.Job) ([]byte, error) {
	b, err := json.Marshal(j)
	if err != nil {
		return nil, fmt.Errorf("encode job %s: %w", j.ID, err)
	}
	return boltfile.Seal(b), nil
}

// decodeJob reads a row. The format is looked at by itself first where the
// rest does not read: a newer record may have other types.
func decodeJob(id string, row []byte) (*job.Job, error) {
	b, err := boltfile.Unseal(row)
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", id, err)
	}
	var j job.Job
	jsonErr := json.Unmarshal(b, &j)
	if jsonErr != nil {
		head := job.Job{ID: id}
		var only struct {
			Format int `json:"format"`
		}
		if json.Unmarshal(b, &only) == nil {
			head.Format = only.Format
			if err := store.CheckFormat(&head); err != nil {
				return nil, err
			}
		}
		return nil, fmt.Errorf("%w: job %s: %w", store.ErrCorrupt, id, jsonErr)
	}
	if err := store.CheckFormat(&j); err != nil {
		return nil, err
	}
	if j.ID != id {
		return nil, fmt.Errorf("%w: the row of job %s is job %s's", store.ErrCorrupt, id, j.ID)
	}
	return &j, nil
}

// doc is a document as stored.
type doc struct {
	Version int64     `json:"version"`
	Expires time.Time `json:"expires,omitzero"`
	Data    []byte    `json:"data"`
}

func (d doc) expired(now time.Time) bool { return !d.Expires.IsZero() && !now.Before(d.Expires) }

func encodeDoc(d doc) ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	return boltfile.Seal(b), nil
}

func decodeDoc(row []byte) (d doc, err error) {
	b, err := boltfile.Unseal(row)
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	return d, err
}

// translate puts the file's errors into the port's classes.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, boltfile.ErrFull):
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	case errors.Is(err, boltfile.ErrCorrupt):
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return err
}
