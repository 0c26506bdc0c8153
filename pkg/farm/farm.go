// Package farm puts the tiers together: all of them in one process on
// embedded back ends (Up), or one of them on the addresses it is given (API,
// Scheduler, Worker). It is the second half of main, and of loadtest's, and
// nothing else imports it.
//
// It promises:
//
//  1. The same tiers run behind the same clients either way; an external
//     address replaces its embedded part and nothing else.
//  2. One process per data folder, said in words to the second.
//  3. When the context ends, the API and the worker stop taking work, running
//     jobs get until the drain limit, and then everything is closed in the
//     opposite order of its start, each part named in the log.
//  4. A part that ends by itself takes the process down with its reason;
//     nothing limps on.
//
// What the parts do is theirs; what to set is pkg/config's.
package farm

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/worker"
)

// Process is what the parts share in one process.
type Process struct {
	Log     *slog.Logger
	Metrics *prometheus.Registry
	Version string
	// Out takes the banner of Up; it is where a person looks.
	Out io.Writer
	// Seats makes what a worker renders with. Nil makes browsers; another main,
	// such as loadtest's, has its own.
	Seats func(n int) []worker.Renderer
	// Transfers is what a worker reaches the bucket with. Nil is the worker's
	// own client.
	Transfers *http.Client
	// Reload asks for the policy file to be read now. Nil never does.
	Reload <-chan os.Signal
	// Hurry ends when running jobs are no longer to be waited for; they are
	// handed back. Nil never does.
	Hurry context.Context
}

// Unreachable wraps the error of a store that does not answer at its address.
type Unreachable struct {
	What string
	Err  error
}

func (e *Unreachable) Error() string { return e.What + " is not reachable: " + e.Err.Error() }

func (e *Unreachable) Unwrap() error { return e.Err }

// live starts parts, waits until ctx ends or one of them does, and closes them
// all.
func (p *Process) live(ctx context.Context, start func(*parts) error) error {
	collect()
	parts := newParts(p.Log, p.hurry())
	if err := start(parts); err != nil {
		if ctx.Err() != nil {
			err = context.Canceled // told to stop before everything ran
		}
		return errors.Join(err, parts.close())
	}
	select {
	case <-ctx.Done():
		p.Log.Info("stopping")
	case <-parts.failed():
		p.Log.Error("a part has failed, stopping")
	}
	return parts.close()
}

// hurry is the context of work that may go on while its part drains.
func (p *Process) hurry() context.Context {
	if p.Hurry == nil {
		return context.Background()
	}
	return p.Hurry
}
