// Package command is what the client commands of tintype do: render a page
// into a file, look after accounts and keys, ask a server whether it is ready.
//
// It promises that a file is written whole or not at all, that only what was
// asked for goes to standard output and all talk to standard error, that every
// error says what to do next, and that its ExitCode is the one of the contract.
// Speaking HTTP is pkg/client's; the flags are pkg/config's.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/tintype/tintype/pkg/client"
)

// Exit codes of the contract.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitUnreachable = 3
	ExitRefused     = 4
	ExitInterrupted = 130
)

// Terminal is where a command speaks.
type Terminal struct {
	In  io.Reader
	Out io.Writer // only what was asked for
	Err io.Writer
	// Live says that somebody watches Err, so that a line may be redrawn.
	Live bool
}

// Usage is an error of how the command was called.
type Usage struct{ Text string }

func (e *Usage) Error() string { return e.Text }

// ExitCode is the exit code of a command that ended with err.
func ExitCode(err error) int {
	if err == nil {
		return ExitDone
	}
	if _, ok := errors.AsType[*Usage](err); ok {
		return ExitUsage
	}
	if errors.Is(err, context.Canceled) {
		return ExitInterrupted
	}
	if _, ok := errors.AsType[*Paused](err); ok {
		return ExitRefused
	}
	if errors.Is(err, client.ErrUnreachable) {
		return ExitUnreachable
	}
	if p, ok := errors.AsType[*client.Problem](err); ok {
		switch p.Status {
		case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden,
			http.StatusTooManyRequests, http.StatusServiceUnavailable:
			return ExitRefused
		case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict,
			http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
			return ExitUsage
		}
	}
	return ExitFailed
}

// secret is given, or else the content of <data>/name, which `tintype up`
// wrote. env is what to set where there is neither.
func secret(given, data, name, flag, env string) (string, error) {
	if given != "" {
		return given, nil
	}
	path := filepath.Join(data, name)
	b, err := os.ReadFile(path)
	if err != nil {
		return "", &Usage{fmt.Sprintf("no %s: give --%s, set %s, or name with --data the folder of the farm that has %s (%v)", flag, flag, env, name, err)}
	}
	return strings.TrimSpace(string(b)), nil
}
