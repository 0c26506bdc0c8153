package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/worker/browser"
	"github.com/tintype/tintype/worker/capture"
)

const (
	maxBackoff   = 10 * time.Second // between launches that fail
	launchLimit  = 30 * time.Second
	prepareLimit = 10 * time.Second
	slowDispose  = 2 * time.Second // a healthy browser needs milliseconds
)

// Run keeps a browser ready until ctx ends, then kills it. It returns an
// error when browsers can not be run here at all; a browser that dies is
// replaced, after a growing pause when it keeps dying. It must be called once.
func (s *Seat) Run(ctx context.Context) error {
	defer close(s.stopped)
	var pause time.Duration
	ever := false
	for ctx.Err() == nil {
		served, reason, err := s.serve(ctx)
		ever = ever || served
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, browser.ErrSandbox), errors.Is(err, browser.ErrIsolation) && !ever:
			return err // later the kernel may be short of namespaces for a while
		case err != nil:
			s.cfg.Log.Error("browser failed", "kind", reason, "err", err)
		default:
			s.cfg.Log.Info("browser recycled", "kind", reason)
		}
		if ctx.Err() == nil {
			s.metrics.recycles.WithLabelValues(reason).Inc()
		}
		if served {
			pause = 0
			continue
		}
		// It never came as far as a ready place: the next may do no better.
		pause = min(max(2*pause, 100*time.Millisecond), maxBackoff)
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// serve runs one browser from launch to kill. served says that it offered a
// place at least; reason, from a small closed set, why it ended.
func (s *Seat) serve(ctx context.Context) (served bool, reason string, err error) {
	began := time.Now()
	lctx, cancel := context.WithTimeoutCause(ctx, launchLimit, errors.New("launch limit"))
	defer cancel()
	b, err := browser.Launch(lctx, s.cfg.Browser)
	if err != nil {
		return false, "launch", err
	}
	s.metrics.launches.Inc()
	defer func() {
		if kerr := b.Kill(); kerr != nil {
			err = errors.Join(err, kerr)
		}
		if b.Isolation() == browser.ByFlags {
			s.metrics.flagOnly.Dec()
		}
	}()
	s.setIsolation(b.Isolation())
	if err := b.Ungrouped(); err != nil {
		s.cfg.Log.Warn("browser without a control group", "err", err)
	}
	// The first place proves the sandbox and, by a real picture, that the
	// browser can render: a ping would pass with a dead zygote.
	p, err := s.prepare(lctx, b)
	if err != nil {
		return false, "launch", err
	}
	if err := errors.Join(b.CheckSandbox(), probe(lctx, p)); err != nil {
		p.proxy.Close()
		return false, "launch", err
	}
	s.metrics.launchSeconds.Observe(time.Since(began).Seconds())
	s.cfg.Log.Info("browser ready", "kind", b.Version(), "took", time.Since(began))
	for n := 0; ; {
		used, reason := s.offer(ctx, p)
		if reason == "" && used {
			n++
			reason = s.worn(b, n)
		}
		if reason != "" {
			p.proxy.Close()
			return true, reason, nil
		}
		change := s.replace
		if !used {
			change = s.refresh
		}
		next, err := change(ctx, p)
		if err != nil {
			return true, "dispose", err
		}
		p = next
		if !used { // an idle browser's health check
			if err := probe(ctx, p); err != nil {
				p.proxy.Close()
				return true, "unhealthy", err
			}
		}
	}
}

// offer holds a place out to Render until it was used, must be checked, or
// the browser must go.
func (s *Seat) offer(ctx context.Context, p *place) (used bool, reason string) {
	s.setReady(true)
	taken, reason := s.await(ctx, p)
	s.setReady(false)
	if !taken {
		return false, reason
	}
	select {
	case v := <-s.done:
		return true, v.odd
	case <-ctx.Done():
		p.browser.Terminate() // ends the render, which always answers
		<-s.done
		return true, "stop"
	}
}

func (s *Seat) await(ctx context.Context, p *place) (taken bool, reason string) {
	check := time.NewTimer(s.cfg.CheckPeriod)
	defer check.Stop()
	select {
	case s.ready <- p:
		return true, ""
	case <-check.C:
		if p.browser.Age() > s.cfg.MaxAge {
			return false, "age"
		}
		return false, ""
	case <-p.browser.Gone():
		return false, "gone"
	case <-p.tab.Crashed():
		return false, "crash"
	case <-ctx.Done():
		return false, "stop"
	}
}

// worn tells why a browser that behaved should still be replaced.
func (s *Seat) worn(b *browser.Browser, renders int) string {
	switch {
	case renders >= s.cfg.MaxRenders:
		return "count"
	case b.Age() > s.cfg.MaxAge:
		return "age"
	case b.Memory() > s.cfg.MaxMemory:
		return "memory"
	}
	return ""
}

// prepare opens the next job's proxy and tab.
func (s *Seat) prepare(ctx context.Context, b *browser.Browser) (*place, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, prepareLimit, errors.New("prepare limit"))
	defer cancel()
	l, err := b.Listen()
	if err != nil {
		return nil, err
	}
	return s.furnish(ctx, b, egress.OpenOn(l, s.cfg.Guard))
}

// furnish opens a fresh tab whose way out is proxy, which it closes if there is
// none to be had.
func (s *Seat) furnish(ctx context.Context, b *browser.Browser, proxy *egress.Proxy) (*place, error) {
	tab, err := b.NewTab(ctx, proxy.Port())
	if err != nil {
		proxy.Close()
		return nil, err
	}
	capture.Prepare(tab)
	return &place{browser: b, tab: tab, proxy: proxy}, nil
}

// replace ends a used place while it makes the next one.
func (s *Seat) replace(ctx context.Context, old *place) (*place, error) {
	released := make(chan error, 1)
	go func() { released <- s.release(ctx, old) }()
	next, err := s.prepare(ctx, old.browser)
	if err = errors.Join(err, <-released); err != nil && next != nil {
		next.proxy.Close()
	}
	return next, err
}

// refresh gives an idle browser a new tab. The proxy stays: no page has used
// it, and a browser has one for each job and no more.
func (s *Seat) refresh(ctx context.Context, old *place) (*place, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, prepareLimit, errors.New("prepare limit"))
	defer cancel()
	if err := old.tab.Close(ctx); err != nil {
		old.proxy.Close()
		return nil, err
	}
	return s.furnish(ctx, old.browser, old.proxy)
}

// release ends all that a job had: its context, then its way out.
func (s *Seat) release(ctx context.Context, p *place) error {
	began := time.Now()
	err := p.tab.Close(ctx)
	p.proxy.Close()
	if took := time.Since(began); err == nil && took > slowDispose {
		err = fmt.Errorf("the browser took %s to dispose of a page", took.Round(time.Millisecond))
	}
	return err
}

// probe renders the empty page of a fresh tab.
func probe(ctx context.Context, p *place) error {
	pic, err := p.tab.Screenshot(ctx, prepareLimit, proto.PageCaptureScreenshot{OptimizeForSpeed: true})
	if err != nil {
		return fmt.Errorf("the browser cannot render: %w", err)
	}
	if len(pic) == 0 {
		return errors.New("the browser cannot render: it sent an empty picture")
	}
	return nil
}
