package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
	"github.com/tintype/tintype/worker/capture"
)

// SeatConfig configures one seat. Guard is needed; everything else works at
// its zero value.
type SeatConfig struct {
	Browser browser.Config
	Guard   *egress.Guard
	Log     *slog.Logger
	Metrics prometheus.Registerer // shared by all seats of a worker; nil keeps none

	MaxRenders  int           // renders of one browser, at most 1,000; zero means 100
	MaxAge      time.Duration // of one browser; zero means 30 minutes
	MaxMemory   int64         // bytes of all its processes after a render; zero means 1 GiB
	KillMemory  int64         // bytes during a render, which it ends; zero means 2.5 GiB
	CheckPeriod time.Duration // between health checks of an idle browser; zero means 30 s
}

// A Seat is one browser that renders one job at a time, kept ready ahead of
// need and replaced as soon as it is worn or looks odd.
type Seat struct {
	cfg     SeatConfig
	metrics *seatMetrics
	ready   chan *place   // from Run to Render: a fresh tab of a living browser
	done    chan verdict  // from Render to Run: what became of it
	stopped chan struct{} // closed when Run has returned

	mu        sync.Mutex
	isolation browser.Isolation // of the last browser that started; guarded by mu
	free      chan struct{}     // guarded by mu; closed while a place is on offer
}

// A place is a browser with a tab that no page has seen, and the tab's proxy.
type place struct {
	browser *browser.Browser
	tab     *browser.Tab
	proxy   *egress.Proxy
}

// A verdict is what Run must know of a render that is over.
type verdict struct {
	odd string // why the browser must go; empty when it may stay
}

// NewSeat checks the configuration, whether there is a browser that can be
// started, and removes what killed workers left. It starts nothing.
func NewSeat(cfg SeatConfig) (*Seat, error) {
	if cfg.Guard == nil {
		return nil, errors.New("a seat needs an egress guard")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	setDefault(&cfg.MaxRenders, 100)
	setDefault(&cfg.MaxAge, 30*time.Minute)
	setDefault(&cfg.MaxMemory, 1<<30)
	setDefault(&cfg.KillMemory, 5<<29)
	setDefault(&cfg.CheckPeriod, 30*time.Second)
	cfg.MaxRenders = min(cfg.MaxRenders, 1000)
	cfg.Browser.Listeners = cfg.MaxRenders // one for each
	// The watch of a render looks at times; the kernel always does. It also
	// counts what it could take back by itself, such as pages of files.
	cfg.Browser.Memory = cfg.KillMemory / 4 * 5
	if err := browser.Check(cfg.Browser); err != nil {
		return nil, err
	}
	m, err := newSeatMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("metrics of a seat: %w", err)
	}
	return &Seat{
		cfg: cfg, metrics: m,
		ready: make(chan *place), done: make(chan verdict, 1), stopped: make(chan struct{}), free: make(chan struct{}),
	}, nil
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Ready is closed while the seat can take a job. A seat that is not ready
// gives a channel that closes when it is; a later Ready must be asked for after
// that, since each channel closes once.
func (s *Seat) Ready() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free
}

// Isolated is why the seat's browser is not kept off the network by the kernel.
func (s *Seat) Isolated() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isolation == browser.ByFlags {
		return errors.New("browsers run on this machine's network: the kernel gives them no namespace, and --i-accept-flag-only-isolation is set")
	}
	return nil
}

// setIsolation notes what holds the browser that runs. Called by Run alone.
func (s *Seat) setIsolation(i browser.Isolation) {
	if i == browser.ByFlags {
		s.cfg.Log.Warn("browser on this machine's network: its flags alone hold it back")
		s.metrics.flagOnly.Inc()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isolation = i
}

// setReady opens or closes the seat for Ready. Called by Run alone.
func (s *Seat) setReady(ready bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ready {
		close(s.free)
		return
	}
	s.free = make(chan struct{})
}

// Render runs one attempt of a job. Its context's deadline is the wall;
// spec.TimeoutMS runs from here. While no browser is ready it waits for one,
// for half of that time at most: the page needs the rest.
func (s *Seat) Render(ctx context.Context, id job.ID, spec *job.Spec) capture.Outcome {
	start := time.Now()
	out := s.render(ctx, id, spec, start)
	result := "succeeded"
	if out.Failure != nil {
		result = string(out.Failure.Code)
	}
	s.metrics.seconds.WithLabelValues(result).Observe(time.Since(start).Seconds())
	return out
}

func (s *Seat) render(ctx context.Context, id job.ID, spec *job.Spec, start time.Time) capture.Outcome {
	budget, cancel := context.WithDeadline(ctx, start.Add(time.Duration(spec.TimeoutMS)*time.Millisecond/2))
	defer cancel()
	for {
		p, fail := s.take(budget)
		if fail != nil {
			return capture.Outcome{Failure: fail, Evidence: &job.Evidence{}, Timings: job.Timings{TotalMS: time.Since(start).Milliseconds()}}
		}
		out, asked := s.use(ctx, p, id, spec, start)
		if out.Failure != nil && out.Failure.Code == job.BrowserCrashed && !asked && ctx.Err() == nil {
			continue // it had died while it was idle; no page knows of this attempt
		}
		return out
	}
}

// use renders in a place and gives it back, also when the render panics. asked
// says whether the page was asked for.
func (s *Seat) use(ctx context.Context, p *place, id job.ID, spec *job.Spec, start time.Time) (out capture.Outcome, asked bool) {
	odd := "panic" // until the render has returned
	watch := watchMemory(p.browser, s.cfg.KillMemory)
	defer func() {
		odd = watch.judge(&out, odd)
		asked = p.proxy.Stats().Requests > 0
		s.done <- verdict{odd: odd}
		if odd != "" {
			s.cfg.Log.Info("browser will be replaced", "job", id, "kind", odd)
		}
	}()
	out, odd = capture.Render(ctx, p.tab, p.proxy, spec, start)
	return out, false
}

// take waits for a place whose browser still lives.
func (s *Seat) take(ctx context.Context) (*place, *job.Failure) {
	for {
		select {
		case p := <-s.ready:
			select {
			case <-p.browser.Gone():
			case <-p.tab.Crashed():
			default:
				if p.browser.Whole() {
					return p, nil
				}
			}
			s.done <- verdict{odd: "gone"}
		case <-s.stopped:
			return nil, job.Fail(job.BrowserCrashed, job.StageNavigate, "the worker is going down")
		case <-ctx.Done():
			return nil, job.Fail(job.BrowserCrashed, job.StageNavigate, "no browser was ready in time")
		}
	}
}
