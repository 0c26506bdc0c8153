package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// quietFor is how long an answer without an end that is known may bring nothing:
// four heartbeats of a stream of events. A machine that has stopped does not
// close its connections.
const quietFor = time.Minute

var errQuiet = fmt.Errorf("%w: nothing came for %s", ErrUnreachable, quietFor)

// heed sends a request whose answer may take any time, as long as something of it
// comes. How long its reader takes in between does not count.
func heed(ctx context.Context, send func(context.Context) (*http.Response, error)) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	b := &heeded{ctx: ctx, cancel: cancel, late: time.AfterFunc(quietFor, func() { cancel(errQuiet) })}
	resp, err := send(ctx)
	b.late.Stop()
	if err != nil {
		err = b.why(err)
		cancel(nil)
		return nil, err
	}
	b.ReadCloser, resp.Body = resp.Body, b
	return resp, nil
}

type heeded struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	late   *time.Timer
}

func (b *heeded) Read(p []byte) (int, error) {
	b.late.Reset(quietFor)
	n, err := b.ReadCloser.Read(p)
	b.late.Stop()
	return n, b.why(err)
}

// why prefers the silence to what it looks like to the transport.
func (b *heeded) why(err error) error {
	if err != nil && err != io.EOF && context.Cause(b.ctx) == errQuiet { //nolint:errorlint // it is that very one
		return errQuiet
	}
	return err
}

func (b *heeded) Close() error {
	err := b.ReadCloser.Close()
	b.late.Stop()
	b.cancel(nil)
	return err
}
