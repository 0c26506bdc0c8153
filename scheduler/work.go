package scheduler

import (
	"context"
	"slices"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// leaseFor is how long a lease lives after its last beat; a worker aborts
	// two seconds earlier.
	leaseFor  = 12 * time.Second
	beatEvery = 2 * time.Second
	// wallGrace is added to an attempt's budget before its lease ends whatever
	// its beats say (seed 003: the slot comes back 35 s after the wall time).
	wallGrace = 35 * time.Second
	// putGrace is how much longer than its lease an upload URL lives.
	putGrace = time.Minute
	// maxBefore bounds how many displaced processes of one name are remembered:
	// more than anybody starts under one name by mistake.
	maxBefore = 64
)

// workSession is the stream of one worker.
type workSession struct {
	name, boot string
	before     []string // boots of its name that it or its predecessors displaced, the latest last
	seats      int
	credit     int // seats offered and not yet taken; guarded by the leader's mu
	out        *outbox[pb.WorkDown]
	assigning  []assigning   // started for it, to be told once the body is read; guarded by the leader's mu
	assign     chan struct{} // assigning has something; capacity 1
}

// Connect serves one worker for as long as this process leads.
func (s workService) Connect(stream pb.Work_ConnectServer) error {
	sendAway := func(address string) error {
		return stream.Send(&pb.WorkDown{NotLeader: &pb.NotLeader{Address: address}})
	}
	l, elsewhere := s.s.whoLeads(stream.Context(), nil)
	if l == nil {
		return sendAway(elsewhere)
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if h := first.Hello; h == nil || h.Worker == "" || h.Boot == "" || h.Seats < 1 || h.Seats > 1024 {
		return wire.FaultStatus(fault.New(fault.Invalid, "the first message must be a hello with worker, boot and 1 to 1024 seats"))
	}
	w := &workSession{
		name: first.Hello.Worker, boot: first.Hello.Boot, seats: int(first.Hello.Seats),
		out: newOutbox[pb.WorkDown](), assign: make(chan struct{}, 1),
	}
	welcome, err := l.workHello(w, first.Hello)
	if err != nil {
		return wire.FaultStatus(err)
	}
	if !welcome {
		_, elsewhere = s.s.whoLeads(stream.Context(), l)
		return sendAway(elsewhere)
	}
	defer l.workGone(w)
	return serve(stream, first, w.out,
		func(ctx context.Context, m *pb.WorkUp) { l.workMessage(ctx, w, m) },
		func(ctx context.Context) { l.assign(ctx, w) })
}

// workHello registers a worker and brings its leases and the board's together.
// It reports false when the reign is over, and a fault when the worker is one
// that the present one of its name has displaced: a restart brings a new boot,
// so the old one is alive, and taking turns would cost both all their leases.
func (l *leader) workHello(w *workSession, h *pb.Hello) (bool, error) {
	l.enter()
	defer l.leave()
	if l.over {
		return false, nil
	}
	if old := l.workers[w.name]; old != nil {
		if slices.Contains(old.before, w.boot) {
			return false, fault.New(fault.Conflict, "another process is connected as worker %q: give each worker its own --name", w.name)
		}
		w.before = old.before
		if old.boot != w.boot { // a restart whose old stream has not broken yet, or a namesake
			w.before = append(w.before, old.boot)
			w.before = w.before[max(0, len(w.before)-maxBefore):]
		}
		l.idle = slices.DeleteFunc(l.idle, func(i *workSession) bool { return i == old })
		old.out.close()
	}
	l.workers[w.name] = w
	w.out.put(16, func(m *pb.WorkDown) {
		m.Welcome = &pb.Welcome{Epoch: l.epoch, BeatMs: uint32(beatEvery.Milliseconds()), LeaseMs: uint32(leaseFor.Milliseconds())}
	})
	held := map[uint64]bool{}
	for _, t := range h.Held {
		held[t.Token] = true
		switch e := l.held(w, t.Token); {
		case e != nil:
			e.lease.assigned = true
			e.lease.beatBy = l.now.Add(leaseFor)
		case !l.endedBy(t.Job, t.Token):
			// An end that this token brought is told when its report comes again.
			l.afterTell(w, func(m *pb.WorkDown) { m.Stale = append(m.Stale, t.Token) })
		}
	}
	for tok, e := range l.board.leases {
		if e.lease.worker != w.name || held[tok] {
			continue
		}
		if e.lease.boot == w.boot {
			e.lease.assigned = false // it lives and does not hold it: it never heard of it
		}
		l.lostSoon(e, tok)
	}
	l.board.fillAll(l.now) // seats may be threads
	return true, nil
}

// lostSoon ends a lease that its worker does not hold, whose job's body may
// have to be read first.
func (l *leader) lostSoon(e *entry, tok uint64) {
	if e.body != nil || e.attempts < maxAttempts || !e.lease.assigned {
		l.lost(e)
		return
	}
	e.lease.beatBy = time.Time{} // the next sweep reads the body and ends it
}

// endedBy reports whether the job's end was brought by this lease.
func (l *leader) endedBy(id string, tok uint64) bool {
	e := l.board.entries[id]
	return e != nil && e.end != nil && e.end.Token == tok
}

func (l *leader) workGone(w *workSession) {
	l.enter()
	defer l.leave()
	l.idle = slices.DeleteFunc(l.idle, func(i *workSession) bool { return i == w })
	if l.workers[w.name] == w {
		delete(l.workers, w.name) // its leases live until their beats run out
	}
}

func (l *leader) workMessage(ctx context.Context, w *workSession, m *pb.WorkUp) {
	l.enter()
	if l.over || l.workers[w.name] != w {
		l.leave()
		return
	}
	if m.Beat != nil {
		l.beat(w, m.Beat)
	}
	for _, tok := range m.Returned {
		if e := l.held(w, tok); e != nil {
			l.board.release(e, pb.Released_REASON_DRAINED, 0, l.now, l.nowUS())
		}
	}
	if m.Credit > 0 {
		l.offer(w, int(m.Credit))
	}
	if m.Draining {
		w.credit, w.seats = 0, 0
	}
	l.leave()
	for _, d := range m.Done {
		l.withBody(ctx, d.Job, func(e *entry) {
			l.report(w, e, d.Token, ending{
				state: job.Succeeded, result: cleanResult(d.Result), timings: d.Timings, evidence: cleanEvidence(d.Evidence),
			})
		})
	}
	for _, f := range m.Failed {
		l.withBody(ctx, f.Job, func(e *entry) {
			l.report(w, e, f.Token, ending{
				state: job.Failed, failure: cleanFailure(f.Failure), timings: f.Timings, evidence: cleanEvidence(f.Evidence),
			})
		})
	}
}

// offer adds to the seats that a worker has free.
func (l *leader) offer(w *workSession, n int) {
	if w.credit = min(w.credit+n, w.seats); w.credit > 0 && !slices.Contains(l.idle, w) {
		l.idle = append(l.idle, w)
	}
}

// held finds the lease of this token, if it is this worker's.
func (l *leader) held(w *workSession, tok uint64) *entry {
	if e := l.board.leases[tok]; e != nil && e.lease.worker == w.name && e.lease.boot == w.boot {
		return e
	}
	return nil
}

// beat keeps leases alive; those that are gone are named stale.
func (l *leader) beat(w *workSession, b *pb.Beat) {
	for _, tok := range b.Tokens {
		if e := l.held(w, tok); e != nil {
			e.lease.beatBy = l.now.Add(leaseFor)
			continue
		}
		// Durable or not, its end is told by its own effect; a lease that nobody
		// knows was another reign's.
		if !l.knownToken(tok) {
			l.afterTell(w, func(m *pb.WorkDown) { m.Stale = append(m.Stale, tok) })
		}
	}
	w.out.put(8, func(m *pb.WorkDown) { m.Beaten = &pb.Beaten{Number: b.Number} })
}

// knownToken reports whether a job's end names this token: then Committed or
// Revoke is on its way, or comes when the report is repeated.
func (l *leader) knownToken(tok uint64) bool {
	for el := l.board.ended.Back(); el != nil; el = el.Prev() {
		e := el.Value.(*entry)
		if e.end.Token == tok {
			return true
		}
		if e.endSeq < tok>>16 {
			return false // ends before the lease began cannot name it
		}
	}
	return false
}

// report takes what came of a lease. It may come twice, and late.
func (l *leader) report(w *workSession, e *entry, tok uint64, end ending) {
	if l.over {
		return
	}
	switch {
	case e != nil && l.held(w, tok) == e: // its own: tokens can be guessed
		end.token = tok
		if end.state == job.Succeeded {
			contentType := e.env.ContentType
			end.result.Object, end.result.ContentType = objectKey(e.account, e.id, tok, contentType), contentType
			l.finish(e, end)
		} else {
			l.attemptFailed(e, end)
		}
	case e != nil && e.end != nil && e.end.Token == tok:
		// Its first report took effect; the answer was lost.
	default:
		l.afterTell(w, func(m *pb.WorkDown) { m.Stale = append(m.Stale, tok) })
		return
	}
	l.afterTell(w, func(m *pb.WorkDown) { m.Committed = append(m.Committed, tok) })
}

// afterTell tells a worker something once all that has happened is durable.
func (l *leader) afterTell(w *workSession, fill func(*pb.WorkDown)) {
	l.after(func() { w.out.put(16, fill) })
}
