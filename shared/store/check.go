package store

import (
	"fmt"

	"anycloud/shared/job"
)

// CheckFormat refuses, with ErrNewer, a record in a format that this program
// does not know. Drivers ask it about every row they read or write.
func CheckFormat(j *job.Job) error {
	if j.Format > job.Format {
		return fmt.Errorf("job %s has format %d, this program knows %d: %w", j.ID, j.Format, job.Format, ErrNewer)
	}
	return nil
}

// CheckNew refuses a record that cannot be created: no id, or not revision 1.
func CheckNew(j *job.Job) error {
	if j.ID == "" || j.Revision != 1 {
		return fmt.Errorf("create job %q at revision %d: a new job needs an id and revision 1", j.ID, j.Revision)
	}
	return CheckFormat(j)
}
