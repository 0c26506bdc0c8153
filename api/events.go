package api

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/stream"
)

const (
	// comeBack is how long a client waits before it opens a stream again that
	// broke.
	comeBack = 2 * time.Second
	// beatEvery keeps a connection open on which nothing happens: proxies close
	// those that are silent for a minute, or for half of one.
	beatEvery = 15 * time.Second
	// recheckEvery is how often it is looked at whether the client may still read.
	// With keyFresh it keeps a revocation effective within 5 s.
	recheckEvery = 2 * time.Second
	// replayNear is how many frames behind the newest one a stream that resumes
	// stops reading the ledger for itself.
	replayNear = 64
	// replaysAtOnce bounds how many streams do so at a time: each reads all that
	// has happened since.
	replaysAtOnce = 8
	// replayWithin bounds how long one waits for its turn, and how long its turn is:
	// a client that reads slowly comes back, behind those that wait.
	replayWithin = time.Minute
	// endMark is behind the id of the last event of a stream: who comes back with
	// it has seen all of it.
	endMark = "-end"
)

// Why a stream of events ends.
const (
	endDone    = "done"    // nothing will follow
	endClient  = "client"  // it went away, or did not read
	endSlow    = "slow"    // it read too slowly
	endGap     = "gap"     // something was missed
	endDrain   = "drain"   // this replica stops
	endRefused = "refused" // the client may not read any more
)

// mark is where a client says that it has been.
type mark struct {
	token uint64
	end   bool // it has seen the end
	given bool
}

// markOf reads Last-Event-ID, which EventSource sends when it comes back, or
// ?last_event_id=, with which it can begin.
func markOf(r *http.Request, query *input) (mark, error) {
	text, name := r.Header.Get("Last-Event-ID"), "Last-Event-ID"
	if text == "" {
		text, _ = query.members["last_event_id"].(string)
		name = "last_event_id"
	}
	if text == "" {
		return mark{}, nil
	}
	digits, end := strings.CutSuffix(text, endMark)
	token, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return mark{}, invalid(fault.Field{Pointer: name, Detail: "must be the id of an event that a stream of this farm has sent; leave it out to begin with what is now"})
	}
	return mark{token: token, end: end, given: true}, nil
}

// live is one stream of events on its way.
type live struct {
	*Server
	call *call
	out  eventWriter
	sub  *subscription
	// shown is how far the stream is: what the ledger has up to this token was
	// shown, or is not its business.
	shown uint64
	known map[job.ID]*job.Job // that were shown, for what does not change of them
	since time.Time           // of the ledger's clock: where the stream goes on; zero: it began anew
	only  job.ID              // whose end is the stream's; empty: nobody's
	ended bool                // nothing will follow
}

// liveView is what the streams of a kind differ in.
type liveView struct {
	subject
	lines bool // also events of jobs that are lines of batches
	only  job.ID
	// states says that the stream tells how things are and not what happened: who
	// comes back is shown that, and no more.
	states bool
	// admit is asked before a stream that was open before goes on. over says that
	// nothing can follow what its client has seen the end of.
	admit func(ctx context.Context) (over bool, err error)
	// present shows how things are now, and says in l.shown which events of the
	// ledger that follows from.
	present func(ctx context.Context, l *live) error
	// look is called every second; nil: nothing is to be looked at.
	look func(ctx context.Context, l *live) error
}

// jobEvents is GET /v1/jobs/{id}/events.
func (s *Server) jobEvents(w http.ResponseWriter, r *http.Request, c *call) error {
	id, err := jobID(r)
	if err != nil {
		return err
	}
	return s.serveEvents(w, r, c, liveView{
		subject: subject{subjectJob, string(id)}, only: id,
		admit: func(ctx context.Context) (bool, error) {
			j, err := s.find(ctx, id, c.account.ID, 0)
			return err == nil && j.State.Terminal(), err
		},
		present: func(ctx context.Context, l *live) error {
			j, token, err := s.findAt(ctx, id, c.account.ID, 0)
			if err != nil {
				return err
			}
			if token > 0 {
				l.shown = token - 1
			}
			return l.job(j, l.shown, came(j))
		},
	})
}

// accountEvents is GET /v1/events.
func (s *Server) accountEvents(w http.ResponseWriter, r *http.Request, c *call) error {
	lines, _ := c.query.members["batch_line_events"].(bool)
	batches := batchWatch{shown: make(map[string][]byte)}
	return s.serveEvents(w, r, c, liveView{
		subject: subject{subjectAccount, c.account.ID}, lines: lines, look: batches.look,
		admit: func(context.Context) (bool, error) { return false, nil },
		present: func(ctx context.Context, l *live) error {
			if err := l.fromNow(ctx); err != nil {
				return err
			}
			var jobs *QueueStanding // null while nobody leads
			if _, own, err := s.busy(ctx, c.account.ID); err == nil {
				jobs = &QueueStanding{Waiting: int(own.GetWaiting()), Running: int(own.GetRunning()), Parked: int(own.GetParked()), Retrying: int(own.GetRetrying())}
			}
			if err := l.event(streamOpened, l.id(l.shown), time.Now(), map[string]any{"jobs": jobs}); err != nil {
				return err
			}
			return batches.look(ctx, l)
		},
	})
}

// fromNow leaves out what was before: the tail may be behind what another answer
// has told this client.
func (l *live) fromNow(ctx context.Context) error {
	last, err := l.tail.last(ctx)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "events cannot be read at the moment; try again")
	}
	l.shown = max(l.shown, upTo(last))
	return nil
}

// upTo is the token of all events of a frame and of those before it.
func upTo(seq uint64) uint64 { return seq<<16 | 0xffff }

// errGone says that the ledger does not hold any more what a client has missed.
var errGone = errors.New("what came since is not in the ledger any more")

// serveEvents answers with a stream of events. Until its first bytes are sent
// what goes wrong is a problem as ever; after that the stream ends and its client
// comes back.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request, c *call, view liveView) error {
	from, err := markOf(r, c.query)
	switch {
	case err != nil:
		return err
	case closed(s.draining):
		return &fault.Error{Kind: fault.Unavailable, RetryAfter: 2 * time.Second, Detail: "this server is stopping; try again"}
	}
	release, err := s.streams.enter(c)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	stop := context.AfterFunc(s.drains, func() { cancel(errDraining) })
	defer stop()
	l := &live{Server: s, call: c, out: eventWriter{w: w}, sub: s.tail.join(view.subject, view.lines), known: make(map[job.ID]*job.Job), only: view.only}
	defer l.sub.leave()

	var over bool
	if from.given {
		over, err = view.admit(ctx)
		switch {
		case err != nil:
			return err
		case over && from.end:
			// The one answer after which EventSource does not come back.
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
	}
	if from.given && !view.states {
		l.shown = from.token
		err = l.catchUp(ctx)
		if errors.Is(err, errGone) {
			l.reset("too_old", "what has happened since the last event that this client has is not known any more; look again at what it follows")
			err = l.begin(ctx, view)
		} else if err == nil && over && !l.ended {
			err = view.present(ctx, l) // whose end was before the mark
		} else if err == nil && view.look != nil {
			err = view.look(ctx, l)
		}
	} else {
		err = l.begin(ctx, view)
	}
	if err == nil {
		err = l.flush()
	}
	if err != nil && !l.out.begun {
		return err
	}
	s.live.open.WithLabelValues(view.kind).Inc()
	defer s.live.open.WithLabelValues(view.kind).Dec()
	c.opened = time.Now()
	why := endDone
	if err == nil && !l.ended {
		why, err = l.follow(ctx, view.look)
	}
	switch {
	case errors.Is(err, errReplays):
		why = endSlow
	case err != nil:
		why = endClient
	}
	if errors.Is(context.Cause(ctx), errDraining) {
		why = endDrain
		l.out.retry(rand.N(comeBack)) // not all at once, at the replicas that stay
		_ = l.out.flush()             // or it comes back after what it was told in the beginning
	}
	s.live.ends.WithLabelValues(why).Inc()
	return nil
}

var errDraining = errors.New("this replica stops")

// begin listens and shows how things are, in this order: what that does not show
// comes down the subscription. Where a client says that it has been counts no more.
func (l *live) begin(ctx context.Context, view liveView) error {
	at, err := l.sub.listen(ctx)
	if err != nil {
		return err
	}
	l.shown, l.since = upTo(at), time.Time{}
	return view.present(ctx, l)
}

// catchUp shows what has come since the client was here, and begins to listen.
// A client that is far behind reads the ledger by itself first, so that what
// comes meanwhile is not kept in memory for it.
func (l *live) catchUp(ctx context.Context) error {
	linger(l.out.w, replayWithin)
	waiting, cancel := context.WithTimeoutCause(ctx, replayWithin, errReplays)
	defer cancel()
	if err := l.replays.Acquire(waiting, 1); err != nil {
		if ctx.Err() == nil {
			return errReplays
		}
		return fault.Wrap(fault.Canceled, context.Cause(ctx), "the client went away")
	}
	defer l.replays.Release(1)
	ctx, cancel = context.WithTimeoutCause(ctx, replayWithin, errReplays)
	defer cancel()
	err := l.getThere(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errReplays) {
		return errReplays
	}
	return err
}

// getThere is catchUp in its turn.
func (l *live) getThere(ctx context.Context) error {
	at, err := l.tail.position(ctx)
	for ; err == nil && !l.ended && at > l.shown>>16+replayNear; at, err = l.tail.position(ctx) {
		if err := l.replay(ctx, at); err != nil {
			return err
		}
	}
	if err != nil || l.ended {
		return err
	}
	if at, err = l.sub.listen(ctx); err != nil {
		return err
	}
	if at >= l.shown>>16 {
		return l.replay(ctx, at)
	}
	// Another replica was further. What it has shown is still to come here.
	last, err := l.tail.last(ctx)
	if err == nil && last < l.shown>>16 {
		err = errGone // the ledger is another one
	}
	l.since = time.Now().Add(-clocksApart)
	return err
}

// errReplays is for who has not got to what is now in time.
var errReplays = &fault.Error{
	Kind: fault.Unavailable, RetryAfter: comeBack,
	Detail: "too many clients read what they have missed at the moment; come back with the same id, or without one to begin with what is now",
}

// errThere ends a replay.
var errThere = errors.New("it has got there")

// replay shows what the ledger has behind l.shown, up to the frame "to".
func (l *live) replay(ctx context.Context, to uint64) error {
	from := max(l.shown>>16, 1)
	if l.ended || from > to || l.shown >= upTo(to) && !l.since.IsZero() {
		return nil
	}
	err := l.deps.Ledger.FollowFrom(ctx, from, func(links []stream.Link) error {
		for _, link := range links {
			if link.Seq > to {
				return errThere
			}
			if l.since.IsZero() {
				l.since = time.UnixMicro(link.Frame.TimeUs)
			}
			var facts []fact
			for f := range factsOf(link) {
				if l.sub.wants(f) {
					facts = append(facts, f)
				}
			}
			if err := l.show(ctx, facts); err != nil {
				return err
			}
			l.shown = max(l.shown, upTo(link.Seq))
			if link.Seq == to || l.ended {
				return errThere
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, errThere):
		return nil
	case errors.Is(err, stream.ErrGap):
		return errGone
	}
	return err
}

// follow shows what comes, until the stream ends: why, or the error that ended
// it.
func (l *live) follow(ctx context.Context, look func(context.Context, *live) error) (why string, err error) {
	var looks <-chan time.Time
	if look != nil {
		every := time.NewTicker(progressEvery)
		defer every.Stop()
		looks = every.C
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	recheck := time.NewTicker(recheckEvery)
	defer recheck.Stop()
	for {
		facts, at, cut := l.sub.take()
		if err := l.show(ctx, facts); err != nil {
			return "", err
		}
		switch {
		case l.ended:
			return endDone, nil
		case cut == endSlow:
			l.reset(cut, "events came faster than this client reads them; come back with the last id for what was missed")
			return cut, l.flush()
		case cut != "":
			l.reset(cut, "this server has lost its place in the events; come back with the last id for what was missed")
			return cut, l.flush()
		}
		l.shown = max(l.shown, upTo(at))
		select {
		case <-ctx.Done():
			return endClient, nil
		case <-l.sub.wake:
		case <-looks:
			if err := look(ctx, l); err != nil {
				return "", err
			}
		case <-beat.C:
			l.out.comment("beat")
		case <-recheck.C:
			if !l.mayRead(ctx, time.Now()) {
				return endRefused, nil
			}
		}
		if err := l.flush(); err != nil {
			return "", err
		}
		if l.ended {
			return endDone, nil
		}
	}
}

func (l *live) flush() error { return l.out.flush() }

// mayRead reports whether the client would still be let in.
func (l *live) mayRead(ctx context.Context, now time.Time) bool {
	c := l.call
	if c.shown.ID != "" {
		known, err := l.keys.byID(ctx, c.shown.ID, c.who.identity, now)
		if fault.Is(err, fault.NotFound) || err == nil && (!known.key.Live(now) || known.account.Suspended) {
			return false
		}
	}
	network := account.Subject{Kind: account.SubjectNetwork, ID: account.Network(c.who.identity).String()}
	for _, who := range []account.Subject{network, c.who.subject(account.ByIP), c.who.subject(account.ByKey), c.who.subject(account.ByAccount)} {
		if l.blocks.find(who, now) != nil {
			return false
		}
	}
	return true
}
