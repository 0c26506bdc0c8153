package scheduler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/scheduler/limit"
)

const (
	beatLeader = 200 * time.Millisecond
	// silence is how long a standby hears nothing before it tries to lead; a
	// random share of silenceJitter is added, so that two do not try at once.
	silence       = time.Second
	silenceJitter = 500 * time.Millisecond
	restAfterFail = time.Second
	// restAfterRefusal follows what only an operator can mend: the ledger is read
	// through again then.
	restAfterRefusal = 5 * time.Second
	watchEvery       = 2 * time.Second
)

// errWon ends the follower's reading: the frame it just appended is its own.
var errWon = errors.New("scheduler: this process leads now")

// Run folds the ledger and leads whenever it can, until stop ends; then, if it
// leads, it hands over. If now ends too, it drops everything, as a kill does.
func (s *Scheduler) Run(stop, now context.Context) error {
	now, end := context.WithCancel(now)
	defer end()
	g, now := errgroup.WithContext(now)
	g.Go(func() error {
		return s.streams.Heartbeats(now, func(hb *pb.Heartbeat) {
			if hb.Scheduler != s.boot {
				s.hear(hb)
			}
		})
	})
	g.Go(func() error { return s.followPolicy(now) })
	g.Go(func() error {
		defer end()
		defer s.change(func() { s.stopped = true })
		for {
			err := s.reign(stop, now)
			if stop.Err() != nil || now.Err() != nil {
				return nil
			}
			if errors.Is(err, stream.ErrStore) {
				return fmt.Errorf("NATS cannot write to its disk any more; free some room there and start it again: %w", err)
			}
			rest := restAfterFail
			if errors.Is(err, errOlder) || errors.Is(err, stream.ErrCorrupt) {
				// Nothing but an operator mends it.
				s.log.Error("not leading", "err", err)
				rest = restAfterRefusal
			} else {
				s.log.Warn("not leading", "err", err)
			}
			if !errors.Is(err, stream.ErrDeposed) && !errors.Is(err, stream.ErrGap) {
				select {
				case <-stop.Done():
				case <-now.Done():
				case <-time.After(rest):
				}
			}
		}
	})
	err := g.Wait()
	s.tenants.wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// reign follows until this process may lead, and leads until it may not, or
// until stop ends; then it hands over, unless now ends too.
func (s *Scheduler) reign(stop, now context.Context) error {
	ctx, cancel := context.WithCancel(now)
	defer cancel()
	defer context.AfterFunc(stop, cancel)()
	f, proved, err := s.follow(ctx)
	if err != nil {
		return fmt.Errorf("following the ledger: %w", err)
	}
	return s.lead(stop, now, f, proved)
}

// follow folds the ledger from its front and returns the fold once this
// process has appended EpochOpened at the end of it, and when it tried to.
func (s *Scheduler) follow(ctx context.Context) (*facts, time.Time, error) {
	f := newFacts()
	policy := s.policy.Now()
	f.arrivals.remember(policy)
	run := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	links := make(chan []stream.Link)
	read := make(chan error, 1)
	go func() {
		read <- s.streams.Follow(ctx, 0, 0, func(l []stream.Link) error {
			select {
			case links <- l:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	known := make(chan struct{})
	go func() {
		defer close(known)
		var beside sync.WaitGroup
		beside.Go(func() { s.standByBans(ctx) })
		s.watchProjection(ctx)
		beside.Wait()
	}()
	defer func() { cancel(errWon); <-read; <-known }()
	s.hot.Store(false)
	defer s.hot.Store(false)
	near := approach{s: s, began: time.Now()}

	// Alone, there is nobody to wait for; else silence is counted from now.
	started := time.Now()
	var end horizon
	var rest time.Time    // no attempt to lead before
	var learned time.Time // when the accounts of what waits were last asked for
	patience := silence + rand.N(silenceJitter)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, time.Time{}, ctx.Err()
		case err := <-read:
			read <- err // for the deferred wait
			return nil, time.Time{}, err
		case batch := <-links:
			if now := s.policy.Now(); now != policy {
				policy = now
				f.arrivals.remember(policy)
			}
			stoodBy := end.newer != 0
			for _, l := range batch {
				f.fold(l)
				end.meet(l)
			}
			f.arrivals.settle(s.tenants.planOf)
			s.forget(f, time.Now())
			started = time.Now() // a frame is a sign of life as good as a heartbeat
			if end.newer != 0 && !stoodBy {
				s.log.Warn("this process will not lead: a newer release has written the ledger; upgrade it", "frame", end.newer)
			}
			if !end.closed {
				continue
			}
		case <-tick.C:
			if time.Since(learned) > tenantFresh {
				// A standby knows them already when the archive is gone with the leader.
				learned = time.Now()
				s.tenants.need(f.accounts())
				s.tenants.need(f.arrivals.accounts())
				s.tenants.loadSoon(run)
			}
			if !s.cfg.Alone {
				near.check(ctx, f)
			}
			s.mu.Lock()
			last := s.heard.at
			s.mu.Unlock()
			if !end.closed && !s.cfg.Alone && time.Since(maxTime(started, last)) < patience {
				continue
			}
		}
		if end.newer != 0 || time.Now().Before(rest) {
			continue
		}
		tried := time.Now()
		won, err := s.campaign(ctx, f)
		if errors.Is(err, stream.ErrFull) {
			s.makeRoom(ctx, f)
			rest = time.Now().Add(fullRest)
			continue
		}
		if won || err != nil {
			return f, tried, err
		}
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// watchProjection keeps what a standby may forget up to date.
func (s *Scheduler) watchProjection(ctx context.Context) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		if at, err := s.offset(ctx); err == nil {
			s.projected.Store(at.Seq)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// campaign tries to append EpochOpened after the last frame of the fold. It
// reports false when there is more to read first, or when another one won.
func (s *Scheduler) campaign(ctx context.Context, f *facts) (bool, error) {
	st, err := s.streams.LedgerState(ctx)
	if err != nil {
		return false, err
	}
	if st.Last > f.seq && st.First <= st.Last {
		return false, nil // not read to the end
	}
	ask, cancel := context.WithTimeoutCause(ctx, archiveWait, errors.New("reading the projection before leading"))
	at, archived := s.archive.Projection(ask)
	cancel()
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	// Again, after the projection was read: what another one has led and projected
	// meanwhile is no older ledger.
	if st, err = s.streams.LedgerState(ctx); err != nil {
		return false, err
	}
	if st.Last > f.seq && st.First <= st.Last {
		return false, nil
	}
	if err := s.consistent(ctx, f, st, at, archived); err != nil {
		return false, err
	}
	frame := &pb.Frame{
		Epoch: f.epoch + 1, Jobs: f.jobs, TimeUs: max(f.timeUS, time.Now().UnixMicro()),
		Events: []*pb.Event{{Fact: &pb.Event_EpochOpened{EpochOpened: &pb.EpochOpened{Scheduler: s.boot, Address: s.cfg.Address}}}},
	}
	data, chain, err := stream.Seal(f.chain, frame)
	if err != nil {
		return false, err
	}
	sealed := stream.Sealed{Seq: st.Last + 1, Data: data}
	switch err := s.streams.Settle(ctx, sealed, nil); {
	case errors.Is(err, stream.ErrDeposed):
		return false, nil
	case err != nil:
		return false, err
	}
	f.fold(stream.Link{Seq: sealed.Seq, Size: len(data), Chain: chain, Frame: frame})
	return true, nil
}

// lead is one reign, from the fold to the last frame this process could
// append, or until stop or now ends. proved is when the frame that began it was
// not yet sent.
func (s *Scheduler) lead(stop, now context.Context, f *facts, proved time.Time) error {
	l := s.newLeader(stop, f, proved)
	s.change(func() { s.leader.Store(l) })
	l.adopt() // what has come into force since it was made, and was told to nobody
	g, ctx := errgroup.WithContext(now)
	// At once, and not when everything has ended: a transaction of the archive
	// under way would keep workers from the next leader.
	over := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(over)
		s.leader.Store(nil)
		l.depose()
	})
	defer func() { <-over }()
	g.Go(func() error { return l.handOver(ctx, stop.Done()) })
	g.Go(func() error { return l.settle(ctx) })
	g.Go(func() error { return l.sweep(ctx) })
	g.Go(func() error { return l.expire(ctx) })
	g.Go(func() error { return l.endLate(ctx) })
	g.Go(func() error {
		return s.streams.Tail(ctx, l.decided, func(recs []stream.Submitted) { l.decide(ctx, recs) })
	})
	g.Go(func() error { return s.project(ctx) })
	g.Go(func() error { return l.purge(ctx) })
	g.Go(func() error { return l.carry(ctx) })
	g.Go(func() error { return l.watchStorage(ctx) })
	g.Go(func() error { return l.beats(ctx) })
	g.Go(func() error { return l.tidy(ctx) })
	g.Go(func() error { return l.keepBans(ctx) })
	return g.Wait()
}

// newLeader is a reign that nothing has happened in yet.
func (s *Scheduler) newLeader(ctx context.Context, f *facts, proved time.Time) *leader {
	l := &leader{
		s: s, epoch: f.epoch, decided: f.jobs, seq: f.seq, chain: f.chain, timeUS: f.timeUS, endedUS: f.timeUS,
		fronts: map[string]*frontSession{}, workers: map[string]*workSession{}, waiting: map[string][]*lookup{}, late: map[string]bool{},
		sent: make(chan *frame, 1), heir: make(chan struct{}, 1), wakeLate: make(chan struct{}, 1), now: time.Now(), proved: proved,
		acked: f.seq, ackedBytes: f.bytes, policy: s.policy.Now(), rates: newRates(),
		ladder: limit.NewLadder(), toFile: make(chan struct{}, 1),
	}
	// The free slots are given out by today's plans, so the accounts of all that
	// waits are known first; those that cannot be read have no slot until they are.
	s.tenants.cut(f.bills.since)
	s.tenants.need(f.accounts())
	s.tenants.need(f.arrivals.accounts())
	l.takeBans(s.loadForReign(ctx))
	l.board = newBoard(f, Queue(l.policy.Queue), l.threadsOf, l.slotsByKey, l.emit, l.now, l.nowUS())
	l.replay(&f.arrivals)
	l.endServed(nil)
	l.needed = l.need()        // of the fold, which is of acknowledged frames
	for _, m := range f.past { // or a reign shorter than a minute would trim nothing
		ago := time.Duration(f.timeUS-m.timeUS) * time.Microsecond
		l.marks.young = append(l.marks.young, mark{at: l.now.Add(-ago), seq: m.seq, bytes: m.bytes})
	}
	s.log.Info("leading", "epoch", f.epoch, "frame", f.seq, "jobs", f.unfinished.Len())
	return l
}

// beats says every 200 ms that this process leads.
func (l *leader) beats(ctx context.Context) error {
	t := time.NewTicker(beatLeader)
	defer t.Stop()
	for {
		l.mu.Lock()
		l.now = time.Now()
		hb := &pb.Heartbeat{
			Epoch: l.epoch, Scheduler: l.s.boot, Address: l.s.cfg.Address, TimeUs: l.nowUS(), FrontToken: l.s.frontToken,
		}
		l.mu.Unlock()
		if err := l.s.streams.Beat(hb); err != nil {
			l.s.log.Debug("heartbeat not sent", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}
