package filebucket

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"anycloud/shared/bucket"
)

const (
	// markerName is the file that says whose bucket a directory is.
	markerName   = ownPrefix + "bucket"
	markerFormat = 1
)

type marker struct {
	Format int    `json:"format"`
	Stack  string `json:"stack"`
}

func writeMarker(dir, stack string) error {
	b, err := json.Marshal(marker{markerFormat, stack})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, markerName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// owner reads whose bucket the directory is: nil if the stack's, an error with
// fs.ErrNotExist if there is no such directory, else ErrNotOwned. A marker that
// cannot be read or understood is not ours.
//
// The directory is looked for before its marker and once more after: it comes
// and goes whole, marker inside, so only one that was there all the time and
// showed none has none.
func owner(dir, stack string) error {
	if _, err := os.Lstat(dir); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(dir, markerName))
	if absent(err) {
		if _, serr := os.Lstat(dir); errors.Is(serr, fs.ErrNotExist) {
			return serr
		}
		return fmt.Errorf("%w: %s has no marker", bucket.ErrNotOwned, dir)
	}
	if err != nil {
		return err
	}
	var m marker
	if json.Unmarshal(b, &m) != nil || m.Format != markerFormat || m.Stack != stack {
		return fmt.Errorf("%w: %s", bucket.ErrNotOwned, dir)
	}
	return nil
}
