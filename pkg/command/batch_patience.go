package command

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/client"
)

const (
	// awayFor is how long a server may be away: a restart is shorter.
	awayFor = time.Minute
	// throttledFor is the longest wait that a server may ask for.
	throttledFor = 15 * time.Minute
	// sayAfter is how long it is tried in silence.
	sayAfter = 2 * time.Second
	// firstPause and mostPause bound the pauses while nobody answers.
	firstPause = 50 * time.Millisecond
	mostPause  = 5 * time.Second
)

// patience asks again where that may help. Everyone who shares one keeps still
// while the server wants to be left alone: who goes on is blocked sooner or later.
type patience struct {
	mu    sync.Mutex
	until time.Time // guarded by mu; nobody asks before
	seen  time.Time // guarded by mu; the server answered
	said  bool      // guarded by mu; that it does not
	say   func(format string, args ...any)
}

// alive notes that the server answers, if err is nil.
func (p *patience) alive(err error) {
	if err == nil {
		p.mu.Lock()
		p.seen, p.said = time.Now(), false
		p.mu.Unlock()
	}
}

// answered notes that it answers, if not as is wished.
func (p *patience) answered() {
	p.mu.Lock()
	p.seen = time.Now()
	p.mu.Unlock()
}

// away is for how long the server has not answered; at most since then.
func (p *patience) away(since time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen.After(since) {
		since = p.seen
	}
	return time.Since(since)
}

// try calls ask until it succeeds, refuses for good, or the server is away for
// too long.
func (p *patience) try(ctx context.Context, ask func() error) error {
	since, soon := time.Now(), firstPause
	for {
		if err := p.quiet(ctx); err != nil {
			return err
		}
		err := ask()
		p.alive(err)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		wait, passing := client.Passes(err)
		if !passing {
			return err
		}
		refused, ok := errors.AsType[*client.Problem](err)
		switch {
		case !ok: // a connection that broke is soon another one
			wait, soon = soon, min(2*soon, mostPause)
		case refused.Status == http.StatusTooManyRequests:
			p.answered() // it is there
		}
		if wait > throttledFor {
			return fmt.Errorf("asked to wait for %s: %w", wait, err)
		}
		away := p.away(since)
		if away > awayFor {
			return err
		}
		if away+wait > sayAfter {
			p.tell(err, wait)
		}
		p.hold(wait)
	}
}

// tell says once, until there is an answer again, what is waited for.
func (p *patience) tell(err error, wait time.Duration) {
	p.mu.Lock()
	said := p.said
	p.said = true
	p.mu.Unlock()
	switch refused, ok := errors.AsType[*client.Problem](err); {
	case said || p.say == nil:
	case ok:
		p.say("asking again in %s: %v", roughly(wait), refused)
	default:
		p.say("asking again for up to a minute: %v", err)
	}
}

func (p *patience) hold(wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := time.Now().Add(wait); at.After(p.until) {
		p.until = at
	}
}

func (p *patience) quiet(ctx context.Context) error {
	for {
		p.mu.Lock()
		wait := time.Until(p.until)
		p.mu.Unlock()
		if wait <= 0 {
			return nil
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
