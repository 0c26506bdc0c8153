package farm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// closeWithin bounds the closing of one part that has nothing to drain.
	closeWithin = 30 * time.Second
	// hurriedWithin is what is left to a part that closes when nobody wants to
	// wait any more. Whatever it leaves undone is what a kill leaves undone,
	// and every part survives that.
	hurriedWithin = 2 * time.Second
)

// errHurried is why a part was not waited for.
var errHurried = errors.New("not waited for")

// parts are what a process runs, in the order in which they were started.
// They are owned by one goroutine. Going down, first every part stops taking
// new work, then they are closed one by one, the last started first, each
// named in the log.
type parts struct {
	log   *slog.Logger
	group *errgroup.Group // of the running ones; its context ends with the first that fails
	ctx   context.Context
	hurry context.Context // ends when nobody wants to wait any more
	stack []part
}

type part struct {
	name  string
	quit  context.CancelFunc // tells it to take no new work; nil if it takes none
	close func() error
}

func newParts(log *slog.Logger, hurry context.Context) *parts {
	group, ctx := errgroup.WithContext(context.Background())
	return &parts{log: log, group: group, ctx: ctx, hurry: hurry}
}

// opened adds something that is open and has to be closed.
func (p *parts) opened(name string, close func() error) {
	p.stack = append(p.stack, part{name: name, close: close})
}

// watch adds something that runs by itself: when ended is closed before the
// part's turn has come, the process goes down with the error.
func (p *parts) watch(name string, ended <-chan struct{}, why func() error, close func() error) {
	closing, begin := context.WithCancel(context.Background())
	p.group.Go(func() error {
		select {
		case <-closing.Done():
			return nil
		case <-ended:
		}
		if closing.Err() != nil {
			return nil // both at once: it ended because it was told to
		}
		if err := why(); err != nil {
			return err
		}
		return fmt.Errorf("%s ended by itself", name)
	})
	p.opened(name, func() error { begin(); return close() })
}

// run starts a part that runs until its context ends; it drains by itself. A
// part that returns earlier takes the process down.
func (p *parts) run(name string, run func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	p.group.Go(func() error {
		err := run(ctx)
		done <- err
		if ctx.Err() != nil {
			return nil // told to stop: close reports err
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		return fmt.Errorf("%s: %w", name, err)
	})
	p.stack = append(p.stack, part{name: name, quit: cancel, close: func() error {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}})
}

// service is like run for a part that others below still need while they
// drain: it is told to stop only when its turn to be closed has come.
func (p *parts) service(name string, run func(ctx context.Context) error) {
	p.run(name, run)
	p.stack[len(p.stack)-1].quit = nil
}

// failed is closed when a part has ended that should not have.
func (p *parts) failed() <-chan struct{} { return p.ctx.Done() }

// close ends everything, the last started first, and returns why a part had
// ended before, if one had. In a hurry it is an error of context.Canceled.
func (p *parts) close() error {
	for _, part := range p.stack {
		if part.quit != nil {
			part.quit()
		}
	}
	whole := true
	for i := len(p.stack) - 1; i >= 0; i-- {
		part, start := p.stack[i], time.Now()
		if err := p.closeOne(part); err != nil {
			whole = whole && !errors.Is(err, errHurried)
			p.log.Warn("closed with an error", "kind", part.name, "took", time.Since(start), "err", err)
			continue
		}
		p.log.Info("closed", "kind", part.name, "took", time.Since(start))
	}
	p.stack = nil
	if !whole {
		return context.Canceled // the parts that were left alone end with the process
	}
	if err := p.group.Wait(); err != nil {
		return err
	}
	return p.hurry.Err()
}

func (p *parts) closeOne(part part) error {
	closed := make(chan error, 1)
	go func() { closed <- part.close() }()
	select {
	case err := <-closed:
		return err
	case <-p.hurry.Done():
	}
	patience := time.NewTimer(hurriedWithin)
	defer patience.Stop()
	select {
	case err := <-closed:
		return err
	case <-patience.C:
		return errHurried
	}
}
