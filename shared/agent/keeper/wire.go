package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"anycloud/shared/agent/runtime"
)

// The talk: a request, an answer, each one line of JSON. A connection that asked
// for a freeze holds it: "thaw" on it, or its end, ends the freeze.
const (
	opStarted = "started" // answers once the container has started
	opWait    = "wait"    // answers once exit.json is written
	opStop    = "stop"    // answers as wait
	opFreeze  = "freeze"
	opThaw    = "thaw"
)

type request struct {
	Op    string        `json:"op"`
	Grace time.Duration `json:"grace,omitempty"`
}

type answer struct {
	Code    string `json:"code,omitempty"` // empty: done
	Message string `json:"message,omitempty"`
}

var codes = map[string]error{
	"not_running":  runtime.ErrNotRunning,
	"no_freeze":    runtime.ErrNoFreeze,
	"freeze_ended": runtime.ErrFreezeEnded,
}

func answerOf(err error) answer {
	if err == nil {
		return answer{}
	}
	for code, known := range codes {
		if errors.Is(err, known) {
			return answer{Code: code, Message: err.Error()}
		}
	}
	return answer{Code: "failed", Message: err.Error()}
}

func (a answer) err() error {
	if a.Code == "" {
		return nil
	}
	if known := codes[a.Code]; known != nil {
		return known
	}
	return errors.New(a.Message)
}

// conn is one end of the talk.
type conn struct {
	net.Conn
	r *bufio.Reader
}

func newConn(c net.Conn) *conn { return &conn{c, bufio.NewReader(c)} }

func (c *conn) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = c.Write(append(b, '\n'))
	return err
}

func (c *conn) receive(v any) error {
	b, err := c.r.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// ask sends a request and waits for its answer. transport is an error of the
// talk itself: the keeper may have died.
func (c *conn) ask(ctx context.Context, r request) (done error, transport error) {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var a answer
	err := c.send(r)
	if err == nil {
		err = c.receive(&a)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return a.err(), nil
}

// A socket's path may be at most 107 bytes long, the directory's is not bounded:
// it is named through a descriptor of ours.
func (d dir) socket(use func(path string) error) error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	defer f.Close()
	return use(fmt.Sprintf("/proc/self/fd/%d/keeper.sock", f.Fd()))
}

func (d dir) dial(ctx context.Context) (c *conn, err error) {
	err = d.socket(func(path string) error {
		n, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			c = newConn(n)
		}
		return err
	})
	return c, err
}

func (d dir) listen() (l *net.UnixListener, err error) {
	os.Remove(d.path("keeper.sock")) // a dead keeper's
	err = d.socket(func(path string) error {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err == nil {
			l.SetUnlinkOnClose(false) // by then the path means nothing
		}
		return err
	})
	return l, err
}
