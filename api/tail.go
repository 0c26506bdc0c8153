package api

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// tailIdle is how long LEDGER is read on after the last stream of events was
	// closed: clients come back, and pages are opened one after the other.
	tailIdle = 30 * time.Second
	// tailWithin bounds the wait until LEDGER is read.
	tailWithin = 5 * time.Second
	// tailPause is the pause after reading it came to an end.
	tailPause = 500 * time.Millisecond
	// pendingMost and pendingBytes are what is kept for a stream whose client
	// reads slowly.
	pendingMost  = 1024
	pendingBytes = 4 << 20
)

// A Ledger is LEDGER for those who fold nothing.
type Ledger interface {
	// FollowFrom calls fn with the frame seq and all after it, in order.
	FollowFrom(ctx context.Context, seq uint64, fn func([]stream.Link) error) error
	LedgerState(ctx context.Context) (stream.State, error)
}

// A fact is an event of the ledger that somebody may be told of.
type fact struct {
	token   uint64
	at      time.Time // of the ledger's clock
	job     string    // empty where it is about none
	account string
	batch   string // of the job; empty where it has none
	event   *pb.Event
}

// tail reads LEDGER for all event streams of this replica: once, however many
// there are, and not at all while there are none.
//
// It promises that a subscription is handed every fact of its subject behind the
// frame at which it began, once and in order, or is cut off and told why; and
// that no subscription makes another one wait.
type tail struct {
	ledger Ledger
	log    *slog.Logger
	behind func(time.Duration) // is told how old a frame was that has just come

	wanted chan struct{} // capacity 1: somebody waits for it to begin

	mu      sync.Mutex
	open    int                                    // subscriptions; guarded by mu, like all below
	of      map[subject]map[*subscription]struct{} // those that listen
	at      uint64                                 // the last frame that was handed out
	reading chan struct{}                          // closed while at says so
	stop    context.CancelCauseFunc                // ends the reading; nil while there is none
	resting *time.Timer
}

// subject is whose facts a stream shows: a job's, a batch's or an account's.
type subject struct{ kind, id string }

// errResting ends the reading when nobody wants it.
var errResting = errors.New("no stream of events is open")

func newTail(ledger Ledger, log *slog.Logger, behind func(time.Duration)) *tail {
	return &tail{
		ledger: ledger, log: log, behind: behind, wanted: make(chan struct{}, 1),
		of: make(map[subject]map[*subscription]struct{}), reading: make(chan struct{}),
	}
}

// run reads while anybody wants it, until ctx ends.
func (t *tail) run(ctx context.Context) error {
	defer t.end()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.wanted:
		}
		for t.isWanted() && ctx.Err() == nil {
			err := t.read(ctx)
			t.end()
			if ctx.Err() != nil || errors.Is(err, errResting) {
				continue
			}
			t.log.Warn("the ledger is not read for streams of events", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(tailPause):
			}
		}
	}
}

func (t *tail) isWanted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open > 0
}

// read hands out what comes from now on.
func (t *tail) read(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	last, err := t.last(ctx)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.at, t.stop = last, cancel
	close(t.reading)
	t.mu.Unlock()
	if err = t.ledger.FollowFrom(ctx, last+1, t.handOut); ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// last is the newest frame that there is.
func (t *tail) last(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, tailWithin, errors.New("the ledger did not answer in time"))
	defer cancel()
	st, err := t.ledger.LedgerState(ctx)
	return st.Last, err
}

// end cuts off whoever listens: what comes until the next reading is missed.
func (t *tail) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended()
	for _, subs := range t.of {
		for s := range subs {
			s.cutOff(endGap)
		}
	}
	clear(t.of)
}

// ended says that nothing is read. t.mu is held.
func (t *tail) ended() {
	if t.stop != nil {
		t.stop(errResting)
		t.stop, t.reading = nil, make(chan struct{})
	}
}

// rest ends the reading if it is still not wanted.
func (t *tail) rest() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == 0 {
		t.ended()
	}
}

// handOut gives each fact to whoever wants to know it.
func (t *tail) handOut(links []stream.Link) error {
	t.mu.Lock()
	for _, l := range links {
		for f := range factsOf(l) {
			for _, who := range [...]subject{{subjectJob, f.job}, {subjectBatch, f.batch}, {subjectAccount, f.account}} {
				for s := range t.of[who] {
					s.push(f)
				}
			}
		}
		t.at = l.Seq
	}
	t.mu.Unlock()
	if n := len(links); n > 0 {
		t.behind(time.Since(time.UnixMicro(links[n-1].Frame.TimeUs)))
	}
	return nil
}

// The kinds of subjects, which are the kinds of streams.
const (
	subjectJob     = "job"
	subjectBatch   = "batch"
	subjectAccount = "account"
)

// factsOf are those of a frame that somebody may be told of.
func factsOf(l stream.Link) func(yield func(fact) bool) {
	return func(yield func(fact) bool) {
		for i, ev := range l.Frame.Events {
			f := fact{token: l.Seq<<16 | uint64(i), at: time.UnixMicro(l.Frame.TimeUs), event: ev}
			switch ev := ev.Fact.(type) {
			case *pb.Event_Accepted:
				if ev.Accepted.Place == pb.Place_PLACE_CACHED {
					continue // it never waits: its end is the next event
				}
				env := ev.Accepted.Envelope
				f.job, f.account, f.batch = env.GetId(), env.GetAccount(), env.GetBatch()
			case *pb.Event_Started:
				f.job, f.account, f.batch = ev.Started.Id, ev.Started.Of.GetAccount(), ev.Started.Of.GetBatch()
			case *pb.Event_Released:
				f.job, f.account, f.batch = ev.Released.Id, ev.Released.Of.GetAccount(), ev.Released.Of.GetBatch()
			case *pb.Event_Finished:
				j := ev.Finished.Job
				f.job, f.account, f.batch = j.GetId(), j.GetAccount(), j.GetBatch()
			case *pb.Event_QuotaReached:
				f.account = ev.QuotaReached.Account
			default:
				continue
			}
			if !yield(f) {
				return
			}
		}
	}
}

// A subscription is what one stream is still to be told.
type subscription struct {
	tail *tail
	subject
	lines bool          // also of jobs that are lines of a batch, where it is not theirs alone
	wake  chan struct{} // capacity 1: there is something to take

	facts []fact // guarded by tail.mu, like all below
	bytes int
	cut   string // why nothing follows; empty while something may
}

// join makes a subscription that does not listen yet.
func (t *tail) join(of subject, lines bool) *subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open++
	if t.resting != nil {
		t.resting.Stop()
	}
	poke(t.wanted)
	return &subscription{tail: t, subject: of, lines: lines, wake: make(chan struct{}, 1)}
}

// position is the last frame that was handed out.
func (t *tail) position(ctx context.Context) (uint64, error) { return t.whileReading(ctx, func() {}) }

// listen begins the subscription: it is handed what comes behind the frame "at".
func (s *subscription) listen(ctx context.Context) (at uint64, err error) {
	return s.tail.whileReading(ctx, func() {
		subs := s.tail.of[s.subject]
		if subs == nil {
			subs = make(map[*subscription]struct{})
			s.tail.of[s.subject] = subs
		}
		subs[s] = struct{}{}
	})
}

// whileReading waits until the ledger is read and calls fn under the lock.
func (t *tail) whileReading(ctx context.Context, fn func()) (at uint64, err error) {
	late := time.NewTimer(tailWithin)
	defer late.Stop()
	for {
		t.mu.Lock()
		reading := t.reading
		if closed(reading) {
			fn()
			at = t.at
			t.mu.Unlock()
			return at, nil
		}
		t.mu.Unlock()
		select {
		case <-reading:
		case <-ctx.Done():
			return 0, fault.Wrap(fault.Canceled, context.Cause(ctx), "the client went away")
		case <-late.C:
			return 0, &fault.Error{Kind: fault.Unavailable, RetryAfter: 2 * time.Second, Detail: "events cannot be read at the moment; try again"}
		}
	}
}

// push adds a fact. tail.mu is held.
func (s *subscription) push(f fact) {
	if !s.wants(f) {
		return
	}
	if s.bytes += sizeOf(f); len(s.facts) >= pendingMost || s.bytes > pendingBytes {
		s.cutOff(endSlow)
		return
	}
	s.facts = append(s.facts, f)
	poke(s.wake)
}

// sizeOf is about how much memory a fact holds.
func sizeOf(f fact) int {
	j := f.event.GetFinished().GetJob()
	return 512 + len(j.GetEvidence()) + len(j.GetBody().GetSpec())
}

// cutOff ends the subscription. What it has not taken is dropped with it: who
// comes back reads that from the ledger. tail.mu is held.
func (s *subscription) cutOff(why string) {
	s.facts, s.bytes, s.cut = nil, 0, why
	s.quit()
	poke(s.wake)
}

// quit ends the listening. tail.mu is held.
func (s *subscription) quit() {
	subs := s.tail.of[s.subject]
	if delete(subs, s); len(subs) == 0 {
		delete(s.tail.of, s.subject)
	}
}

// take is what has come since the last time. at is the frame up to which
// nothing else has, and cut why nothing else will.
func (s *subscription) take() (facts []fact, at uint64, cut string) {
	s.tail.mu.Lock()
	defer s.tail.mu.Unlock()
	facts = s.facts
	s.facts, s.bytes = nil, 0
	return facts, s.tail.at, s.cut
}

// leave ends the subscription for good.
func (s *subscription) leave() {
	t := s.tail
	t.mu.Lock()
	defer t.mu.Unlock()
	s.quit()
	if t.open--; t.open == 0 {
		t.resting = time.AfterFunc(tailIdle, t.rest)
	}
}
