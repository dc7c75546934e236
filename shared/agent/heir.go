package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"anycloud/shared/bucket"
)

// attachMost bounds the lines that travel in a commit, compressed, in bytes. A
// commit that would have to leave lines behind is not made.
const attachMost = 4 << 20

// heirlooms are the batches that a commit carries because the log store did not
// take them.
type heirlooms struct {
	Batches []heirloom `json:"batches"`
}

type heirloom struct {
	Key  string `json:"key"`
	Body string `json:"body"`
}

// beforeAppend ships what was printed before a commit's capture. What cannot be
// shipped travels in the commit, for whoever restores it: a line whose work
// survived is never lost. Both send the same batches under the same names.
func (s *shipper) beforeAppend(ctx context.Context) ([]byte, error) {
	fctx, cancel := context.WithTimeout(ctx, flushFor)
	defer cancel()
	err := s.flush(fctx)
	if err == nil {
		return nil, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		more, cerr := s.cut(ctx)
		if cerr != nil {
			return nil, cerr
		}
		if !more {
			break
		}
	}
	if len(s.pos.Pending) == 0 {
		return nil, nil
	}
	var h heirlooms
	for _, b := range s.pos.Pending {
		h.Batches = append(h.Batches, heirloom{b.Key, string(b.Body)})
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if err := errors.Join(json.NewEncoder(z).Encode(h), z.Close()); err != nil {
		return nil, err
	}
	if out.Len() > attachMost {
		return nil, fmt.Errorf("%d batches of log lines wait, too many to travel in a commit: the log store does not take them: %w", len(h.Batches), err)
	}
	return out.Bytes(), nil
}

// inherit keeps what a restored commit carries until it is shipped.
func (s *shipper) inherit(attachment []byte) error {
	if len(attachment) == 0 {
		return nil
	}
	if err := writeWhole(s.heirPath, attachment, 0o600); err != nil {
		return fmt.Errorf("keep a predecessor's lines: %w", err)
	}
	return nil
}

// shipHeir ships what a predecessor left in its commit, under its own names.
func (s *shipper) shipHeir(ctx context.Context) error {
	raw, err := os.ReadFile(s.heirPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	h, err := openHeirlooms(raw)
	if err != nil {
		s.a.Logger.Error("lines in the restored commit are damaged", "err", err)
	}
	for _, b := range h.Batches {
		if !strings.HasPrefix(b.Key, "logs/"+s.a.claim.JobID+"/") {
			s.a.Logger.Error("lines in the restored commit are another job's", "key", b.Key)
			continue
		}
		pctx, cancel := context.WithTimeout(ctx, shipFor)
		err := s.a.access.logStore().PutIfAbsent(pctx, b.Key, []byte(b.Body))
		cancel()
		if err != nil && !errors.Is(err, bucket.ErrExists) {
			return fmt.Errorf("ship a predecessor's lines: %w", err)
		}
	}
	return os.Remove(s.heirPath)
}

// heirMost bounds what is unpacked of an attachment, in bytes.
const heirMost = 512 << 20

func openHeirlooms(raw []byte) (heirlooms, error) {
	var h heirlooms
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return h, err
	}
	err = json.NewDecoder(io.LimitReader(z, heirMost)).Decode(&h)
	return h, err
}
