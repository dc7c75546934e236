package api

import (
	"errors"
	"fmt"
	"net/http"
)

// Problem is an RFC 9457 problem document, and the error that callers see on
// both sides of the wire.
type Problem struct {
	Type   string `json:"type"`   // "about:blank" or "anycloud:<code>"
	Title  string `json:"title"`  // the code in words
	Status int    `json:"status"` // HTTP status
	Detail string `json:"detail"` // what happened: what to do next
	Code   string `json:"code"`   // stable, for programs
}

func (p *Problem) Error() string { return p.Detail }

// Errorf makes a problem. code is stable; the text says what happened and,
// after a colon, what to do next.
func Errorf(status int, code, format string, args ...any) *Problem {
	return &Problem{Type: "anycloud:" + code, Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...), Code: code}
}

// CodeOf returns the problem's code, or "".
func CodeOf(err error) string {
	var p *Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}

// Codes that callers act on.
const (
	CodeSuperseded   = "superseded"   // 403: a newer attempt took over, or this VM is not the attempt's
	CodeUnknownVM    = "unknown_vm"   // 403: no job wants this VM
	CodeEnded        = "ended"        // 410: the job has ended
	CodeTooEarly     = "too_early"    // 425: the VM is not visible yet
	CodeNotFound     = "not_found"    // 404
	CodeStale        = "stale"        // 412: the job changed since the caller looked
	CodeConflict     = "conflict"     // 409: not possible in this state
	CodeInvalid      = "invalid"      // 400
	CodeUnauthorized = "unauthorized" // 401
)
