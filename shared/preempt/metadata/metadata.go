// Package metadata asks a VM's metadata service, from inside the VM, who and
// where it is and whether it is about to be taken.
//
// The local cloud's service is plain HTTP below one base URL (localcloud's
// package machine serves it); other clouds' are files of their own here.
package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"anycloud/shared/preempt"
)

// ErrNotReady: the service answers, and does not know yet (503). Ask again.
var ErrNotReady = errors.New("the metadata service does not know yet")

// Placement is where the VM runs; the fields of the job's placement.
type Placement struct {
	Cloud  string `json:"cloud"`
	Region string `json:"region"`
	Zone   string `json:"zone"`
	Type   string `json:"type"`
	Spot   bool   `json:"spot"`
}

// LocalSource is the local cloud's metadata. It is safe for concurrent use.
type LocalSource struct {
	base   string
	client *http.Client
}

const (
	// slack is the time that an answer may take beyond what it was told to wait.
	slack = 10 * time.Second
	// most bounds an answer's size.
	most = 1 << 20
)

// Local makes the client; baseURL is what the VM finds in ANYCLOUD_METADATA.
func Local(baseURL string) *LocalSource {
	// No proxy: the service is on this machine.
	return &LocalSource{strings.TrimRight(baseURL, "/"), &http.Client{Transport: &http.Transport{MaxIdleConns: 4, IdleConnTimeout: time.Minute}}}
}

// Endpoint returns the control plane's URL. It changes when the control plane
// moves: ask again after a failed call. ErrNotReady: nobody has said it yet.
func (s *LocalSource) Endpoint(ctx context.Context) (string, error) { return s.text(ctx, "endpoint") }

// Identity returns the proof to claim with.
func (s *LocalSource) Identity(ctx context.Context) (string, error) { return s.text(ctx, "identity") }

// Placement returns where this VM runs.
func (s *LocalSource) Placement(ctx context.Context) (Placement, error) {
	var p Placement
	_, b, err := s.get(ctx, "placement", slack)
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		return Placement{}, fmt.Errorf("read placement: %w", err)
	}
	return p, nil
}

// Notice returns the notice to this VM, or nil. With wait > 0 it returns only
// when there is one or the time is over; waits beyond a minute are cut to it.
// A notice stays, and may be replaced by one with an earlier deadline.
func (s *LocalSource) Notice(ctx context.Context, wait time.Duration) (*preempt.Notice, error) {
	path := "notice"
	if wait > 0 {
		path += "?wait=" + url.QueryEscape(wait.String())
	}
	status, b, err := s.get(ctx, path, wait+slack)
	if status == http.StatusNotFound {
		return nil, nil
	}
	n := new(preempt.Notice)
	if err == nil {
		err = json.Unmarshal(b, n)
	}
	if err != nil {
		return nil, fmt.Errorf("read notice: %w", err)
	}
	return n, nil
}

func (s *LocalSource) text(ctx context.Context, what string) (string, error) {
	_, b, err := s.get(ctx, what, slack)
	if err == nil && len(strings.TrimSpace(string(b))) == 0 {
		err = ErrNotReady
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", what, err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (s *LocalSource) get(ctx context.Context, path string, within time.Duration) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, hideURL(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, most))
	switch {
	case err != nil:
		return resp.StatusCode, nil, err
	case resp.StatusCode == http.StatusServiceUnavailable:
		return resp.StatusCode, nil, ErrNotReady
	case resp.StatusCode != http.StatusOK:
		return resp.StatusCode, nil, fmt.Errorf("the metadata service answered %s", resp.Status)
	}
	return resp.StatusCode, b, nil
}

// hideURL drops the URL, whose path is a secret, from what may end in a log.
func hideURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
