package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/store"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// As many jobs of a batch are under way as keep its slots busy for a while,
	// and no more: they are in the leader's memory, and a cancel has to end them.
	windowLeast, windowMost, windowPerThread = 256, 2000, 16
	// linesAtOnce is how many lines wait for their decision at a time: enough to
	// share publishes, and few, since whatever else is submitted here comes behind
	// them.
	linesAtOnce = 32
	// saveAfter is how many lines are decided between two writes of how far the
	// batch is fed, if renewEvery does not come first.
	saveAfter = 1024
	// How often the leader is asked how many jobs of the batch are under way.
	standingOften, standingSeldom = 50 * time.Millisecond, time.Second
	// rateReserve is the part of a rate that is left to what the account sends by
	// itself: one in so many.
	rateReserve = 10
	// quotaPause is between two tries while jobs under way may give back what
	// they hold of a used up quota.
	quotaPause = time.Second
)

// fedLine is a line on its way to its decision.
type fedLine struct {
	*batch.Line       // nil once it is decided
	end         int64 // of the object, behind it
	job         bool  // it is one that a job can be made of
	ask         bool  // it may have been published before
	done        bool
}

// fed is what became of a line this time.
type fed struct {
	line   *fedLine
	known  bool // it was a job before
	ended  bool // it was answered from the cache
	meters []*pb.Meter
	err    error
}

// pipeline feeds the lines of a batch for as long as nothing stands in the way.
// All of it is its loop's own; only submissions and questions run beside.
type pipeline struct {
	*feeding
	source  lineSource
	asks    int // how many further lines may have been fed before
	eof     bool
	lines   []*fedLine // read, and behind what b.Fed counts
	again   []*fedLine // of them, those to be published again; by number
	read    int        // lines beside those in b.FedOffset when the loop began
	decided int        // of these, those that b.FedOffset has
	saved   int        // of these, those that the archive knows of

	results  chan fed // has room for all that are under way
	inFlight int
	limit    int       // of inFlight, by how it went lately
	credit   int       // lines that may be published before a meter is heard
	gate     time.Time // nothing is published before

	threads   int
	standing  int // jobs under way when the leader was asked; -1: it was not
	since     int // accepted since it was asked last
	before    int // accepted before that, while its answer is not there
	standings chan int
	asking    bool
	askedAt   time.Time
	pause     time.Duration // between two such questions

	stop error                           // why nothing more is published
	then func(ctx context.Context) error // done when all that is under way is decided
}

// errStopped ends the loop for a reason that is no error.
var errStopped = errors.New("the batch is not fed on for now")

// feed makes jobs of lines until there are none left, or something stands in
// the way that takes long.
func (of *feeding) feed(ctx context.Context) error {
	barred, err := of.enter(ctx)
	if err != nil {
		return err
	}
	if barred {
		return of.holdUp(ctx, batch.PausedSuspended, time.Now().Add(barredFor))
	}
	b := of.batch
	first := b.StartedAt.IsZero()
	if first {
		if err := of.renew(ctx, true); err != nil || b.State != batch.Running {
			return err
		}
		b.StartedAt = time.Now()
	}
	p := &pipeline{
		feeding: of, source: lineSource{bucket: of.server.deps.Bucket, object: b.PassObject, offset: b.FedOffset},
		results: make(chan fed, linesAtOnce), standings: make(chan int, 1),
		limit: 1, credit: math.MaxInt, threads: of.plan.Threads, standing: -1, pause: standingOften,
	}
	if first {
		p.standing = 0
	}
	if of.unsure {
		p.asks = askMost
	}
	return p.run(ctx)
}

func (p *pipeline) run(ctx context.Context) error {
	every := time.NewTicker(renewEvery)
	defer every.Stop()
	for p.stop == nil {
		if err := p.start(ctx); err != nil {
			p.halt(err)
			break
		}
		if p.eof && len(p.lines) == 0 {
			if p.batch.Fed < p.batch.PassTotal {
				p.halt(fmt.Errorf("%s has %d lines, of %d", p.batch.PassObject, p.batch.Fed, p.batch.PassTotal))
			}
			break
		}
		select {
		case r := <-p.results:
			p.take(ctx, r)
		case n := <-p.standings:
			p.heard(n)
		case <-p.timer():
		case <-every.C:
			p.save(ctx)
			p.askUploader(ctx)
			if p.feeder.full.Load() && time.Since(p.began) > turnFor {
				p.halt(errStopped)
			}
		case <-p.look:
			p.save(ctx)
		case <-ctx.Done():
			p.halt(ctx.Err())
		}
		if p.decided-p.saved >= saveAfter {
			p.save(ctx)
		}
	}
	return p.windDown(ctx)
}

// halt ends the loop; the first reason counts.
func (p *pipeline) halt(why error) {
	if p.stop == nil {
		p.stop = why
	}
}

// windDown waits for what is under way, and says how far the batch is fed.
func (p *pipeline) windDown(ctx context.Context) error {
	for p.inFlight > 0 {
		select {
		case r := <-p.results:
			p.take(ctx, r)
		case n := <-p.standings:
			p.heard(n)
		}
	}
	if p.asking {
		p.heard(<-p.standings)
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), feederWithin)
	defer cancel()
	p.save(late)
	p.unsure = p.asks > 0 && !p.eof || p.decided != p.saved
	for _, l := range p.lines {
		p.unsure = p.unsure || l.done || l.ask
	}
	switch {
	case p.stop == nil || errors.Is(p.stop, errStopped):
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return p.stop
	}
	if p.then != nil && p.batch.State == batch.Running {
		return p.then(ctx)
	}
	return nil
}

// save writes down how far the batch is fed, and learns what was done to it.
func (p *pipeline) save(ctx context.Context) {
	decided := p.decided
	switch err := p.renew(ctx, false); {
	case errors.Is(err, store.ErrNotHeld), err != nil && p.hold.over():
		p.halt(errLost)
	case err != nil: // the archive is away, and the batch ours
		p.server.log.Debug("how far a batch is fed is not saved", "batch", p.batch.ID, "err", err)
	default:
		if p.saved = decided; p.batch.State != batch.Running {
			p.halt(errStopped)
		}
		if p.expired {
			p.halt(errStopped)
		}
	}
}

// askUploader looks whether the key that uploaded the batch is still one, which
// the leader does not know, and whether the plan is another one.
func (p *pipeline) askUploader(ctx context.Context) {
	if p.stop != nil {
		return
	}
	switch now, barred, err := p.uploaderNow(ctx); {
	case err != nil: // the next time
	case barred:
		p.pauseFor(batch.PausedSuspended, time.Now().Add(barredFor))
	case !reflect.DeepEqual(now.plan, p.plan):
		p.halt(errStopped) // and begins again, by that one
	}
}

// timer fires when something may be possible that is not now.
func (p *pipeline) timer() <-chan time.Time {
	now := time.Now()
	wait := time.Duration(-1)
	if p.gate.After(now) {
		wait = p.gate.Sub(now)
	}
	if p.wantsStanding() {
		next := p.askedAt.Add(p.pause).Sub(now)
		if wait < 0 || next < wait {
			wait = max(next, 0)
		}
	}
	if wait < 0 {
		return nil
	}
	return time.After(wait)
}

// start publishes as many lines as may be.
func (p *pipeline) start(ctx context.Context) error {
	now := time.Now()
	if p.wantsStanding() && !now.Before(p.askedAt.Add(p.pause)) {
		p.askStanding(ctx, now)
	}
	for p.stop == nil && p.inFlight < p.limit && !now.Before(p.gate) && p.room() > 0 && (p.credit > 0 || p.inFlight == 0) {
		l, err := p.next(ctx)
		if err != nil || l == nil {
			return err
		}
		p.inFlight++
		p.credit--
		line, ask := l.Line, l.ask
		go func() {
			r := p.put(ctx, line, ask)
			r.line = l
			p.results <- r
		}()
	}
	return nil
}

// next is the line to publish; nil when there is none for now.
func (p *pipeline) next(ctx context.Context) (*fedLine, error) {
	if len(p.again) > 0 {
		l := p.again[0]
		p.again = p.again[1:]
		return l, nil
	}
	for !p.eof {
		if p.read-p.saved >= askMost || len(p.lines) > 0 && p.source.offset-p.batch.FedOffset >= aheadMost {
			if p.decided == p.saved {
				return nil, nil
			}
			if p.save(ctx); p.decided != p.saved || p.stop != nil {
				return nil, nil // the next word about the lease tries again
			}
			continue
		}
		line, end, err := p.source.next(ctx)
		if errors.Is(err, io.EOF) {
			p.eof = true
			break
		}
		if err != nil {
			return nil, err
		}
		l := &fedLine{Line: line, end: end, job: len(line.Errors) == 0, ask: p.asks > 0}
		p.asks = max(p.asks-1, 0)
		p.read++
		p.lines = append(p.lines, l)
		if l.job {
			return l, nil
		}
		p.done(l)
	}
	return nil, nil
}

// done says that a line is decided.
func (p *pipeline) done(l *fedLine) {
	l.Line, l.done = nil, true
	for len(p.lines) > 0 && p.lines[0].done {
		first := p.lines[0]
		p.lines[0] = nil
		p.lines = p.lines[1:]
		p.decided++
		if p.batch.FedOffset = first.end; first.job {
			p.batch.Fed++
		}
	}
}

// room is how many more jobs of the batch may be under way.
func (p *pipeline) room() int {
	if p.standing < 0 {
		return 0
	}
	return p.window() - p.standing - p.before - p.since - p.inFlight
}

func (p *pipeline) window() int {
	if p.plan.OverThreads.Action == account.Refuse {
		return max(p.threads, 1) // what is beyond is refused
	}
	return min(max(windowPerThread*p.threads, windowLeast), windowMost)
}

func (p *pipeline) wantsStanding() bool {
	return !p.asking && p.stop == nil && (p.standing < 0 || p.room() <= 0 || p.since > p.window()/2)
}

// askStanding asks how many jobs of the batch are under way.
func (p *pipeline) askStanding(ctx context.Context, now time.Time) {
	p.asking, p.askedAt = true, now
	p.before, p.since = p.before+p.since, 0
	go func() {
		standing, err := p.server.front.standings(ctx, p.batch.Account, p.batch.ID)
		if err != nil {
			p.standings <- -1
			return
		}
		p.standings <- total(standing[0])
	}()
}

// heard takes in how many there were; -1 is nobody's answer.
func (p *pipeline) heard(n int) {
	p.asking = false
	if n >= 0 {
		p.standing, p.before = n, 0
	}
	if p.pause = min(2*p.pause, standingSeldom); n >= 0 && p.room() > 0 {
		p.pause = standingOften
	}
}

// take takes in what became of a line.
func (p *pipeline) take(ctx context.Context, r fed) {
	p.inFlight--
	p.measure(r.meters)
	l, f := r.line, fault.From(r.err)
	metrics := p.server.metrics
	switch {
	case f == nil:
		if p.limit = min(p.limit+1, linesAtOnce); !r.ended {
			p.since++
		}
		if r.known {
			metrics.batchLines.WithLabelValues("known").Inc()
		} else {
			metrics.batchLines.WithLabelValues("accepted").Inc()
		}
		p.done(l)
		return
	case errors.Is(r.err, errLost):
		p.halt(errLost)
	case forGood(f):
		if err := p.refuse(ctx, l, f); err == nil {
			metrics.batchLines.WithLabelValues("refused").Inc()
			p.done(l)
			return
		} else if errors.Is(err, store.ErrNotHeld) {
			p.halt(errLost)
		}
		p.wait(restFor)
	case f.Kind == fault.Forbidden || f.Kind == fault.Blocked:
		p.pauseFor(batch.PausedSuspended, time.Now().Add(barredFor))
	case f.Kind == fault.QuotaExceeded && p.standing == 0 && p.since+p.before+p.inFlight == 0:
		p.pauseFor(batch.PausedQuota, time.Now().Add(f.Wait()))
	case f.Kind == fault.QuotaExceeded: // what is under way may not cost what it holds
		p.wait(quotaPause)
		p.standing = -1
	default:
		if f.Kind == fault.Internal {
			p.server.log.Error("a line is not fed", "batch", p.batch.ID, "account", p.batch.Account, "line", l.Number, "err", r.err)
		}
		wait := max(f.Wait(), time.Second)
		p.wait(wait + rand.N(wait/10))
	}
	metrics.batchWaits.WithLabelValues(f.Kind.String()).Inc()
	if !surelyRefused(r.err) {
		l.ask, p.openAt = true, time.Now()
	}
	i, _ := slices.BinarySearchFunc(p.again, l, func(a, b *fedLine) int { return a.Number - b.Number })
	p.again = slices.Insert(p.again, i, l)
}

// wait lets nothing be published for so long, and then little.
func (p *pipeline) wait(d time.Duration) {
	p.limit = 1
	if until := time.Now().Add(d); until.After(p.gate) {
		p.gate = until
	}
}

// pauseFor has the batch wait once all that is under way is decided.
func (p *pipeline) pauseFor(reason string, until time.Time) {
	p.halt(errStopped)
	p.then = func(ctx context.Context) error { return p.holdUp(ctx, reason, until) }
}

// measure takes in what is left of the account's rate: a part of it is left to
// others. It also learns how many threads there are.
func (p *pipeline) measure(meters []*pb.Meter) {
	for _, m := range meters {
		switch m.Kind {
		case pb.Meter_KIND_THREADS:
			p.threads = int(m.Limit)
		case pb.Meter_KIND_RATE:
			left := m.Remaining - m.Limit/rateReserve
			p.credit = int(left) - p.inFlight
			if left > 0 {
				continue
			}
			if until := time.Now().Add(time.Duration(m.ResetUs-p.server.front.now()) * time.Microsecond); until.After(p.gate) {
				p.gate = until
			}
		}
	}
}

// refuse counts a line as failed, for good.
func (p *pipeline) refuse(ctx context.Context, l *fedLine, f *fault.Error) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), feederWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	code := f.Code
	if code == "" {
		code = faceOf(f.Kind).code
	}
	refused, err := p.server.deps.Store.RefuseLine(ctx, p.server.boot, p.batch, l.Number, code, f.Detail)
	if err == nil {
		p.batch.Refused = refused
	}
	return err
}

// forGood reports a refusal that no waiting helps against.
func forGood(f *fault.Error) bool {
	switch f.Kind {
	case fault.Invalid, fault.TooLarge, fault.Conflict, fault.Gone, fault.NotFound, fault.KeyReused, fault.RenderFailed:
		return true
	}
	return false
}

// total is how many jobs stand somewhere.
func total(s *pb.Standing) int {
	return int(s.GetWaiting() + s.GetRunning() + s.GetParked() + s.GetRetrying() + s.GetFollowing())
}
