package scheduler

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/scheduler/limit"
)

const (
	frameBytes  = 512 << 10
	frameEvents = 1 << 15 // an index must fit the token's 16 bits
	// freshFor is how long after sending its last acknowledged append a leader
	// may take it that nobody else leads.
	freshFor = 700 * time.Millisecond
)

// leader is one reign: the board, the frames on their way into the ledger and
// the streams of API replicas and workers. Everything happens under mu, between
// enter and leave; what may be told only once it is durable is told by an
// effect of the frame that makes it so.
type leader struct {
	s *Scheduler

	mu      sync.Mutex
	board   *board          // guarded by mu, as all below
	policy  *account.Policy // that the board goes by
	epoch   uint64          // of this reign
	decided uint64          // every JOBS record up to here is decided
	frames  []*frame        // not yet sent; the last one is open
	flying  *frame          // sent, not yet acknowledged
	seq     uint64          // of the newest frame, open or not
	chain   stream.Chain
	timeUS  int64
	endedUS int64     // when the last job ended
	proved  time.Time // when the last acknowledged append was sent
	acked   uint64    // the last acknowledged frame
	over    bool      // the reign has ended: nothing happens any more
	last    uint64    // the frame that ends it, still to be stored; 0: none is
	now     time.Time // of the present entry

	fronts    map[string]*frontSession // by boot id of the API replica
	workers   map[string]*workSession  // by name of the worker
	idle      []*workSession           // workers with credit, the longest idle first
	waiting   map[string][]*lookup     // look-ups by job
	late      map[string]bool          // pictures whose result has come, and of which jobs are still to be ended
	backlog   backlog
	storage   storage
	rates     rates
	unplanned map[string][]*arrival // of accounts whose plan was not known yet

	ladder    *limit.Ladder
	bansRead  bool      // who is banned is known, if perhaps not to the last moment
	bansFresh bool      // what the archive had at the beginning of this reign, or later
	unfiled   []unfiled // the oldest first

	deciding deciding

	ackedBytes uint64 // of all frames up to acked, as the fold counts them
	needed     floors // what jobs needed at the end of the last acknowledged frame
	marks      marks

	sent     chan *frame   // to settle, in order
	toFile   chan struct{} // capacity 1: something is unfiled
	wakeLate chan struct{} // capacity 1: late has something
	heir     chan struct{} // capacity 1: another reign has been heard of
}

// frame is one ledger message being gathered or sent.
type frame struct {
	sealed  stream.Sealed
	ends    uint64 // the fold's bytes up to its end
	body    *pb.Frame
	needed  floors // what jobs need at its end; zero when more was decided before it was sent
	bytes   int
	charges map[coalesced]*pb.Charged // events that may yet grow, while it is open
	wanted  bool                      // worth appending, even without an event
	effects []func()                  // run under mu, in order, once it is acknowledged
	sentAt  time.Time
	ack     jetstream.PubAckFuture
}

// enter takes the lock and the time, once, for everything that follows.
func (l *leader) enter() {
	l.mu.Lock()
	l.now = time.Now()
}

// leave gives seats their jobs, sends frames and lets go.
func (l *leader) leave() {
	if !l.over {
		l.dispatch()
	}
	l.send()
	l.mu.Unlock()
}

// nowUS is the ledger's clock: the wall clock, never backwards.
func (l *leader) nowUS() int64 {
	l.timeUS = max(l.timeUS, l.now.UnixMicro())
	return l.timeUS
}

// endUS is the moment at which one more job ends: later than that of every job
// before it in the ledger, under any leader. So whoever reads ended jobs in the
// order of their ends, while the projector files them, misses none.
func (l *leader) endUS() int64 {
	l.timeUS = max(l.nowUS(), l.endedUS+1)
	l.endedUS = l.timeUS
	return l.timeUS
}

// open is the frame that gathers; it gets its place in the ledger, and its
// time, when it is opened.
func (l *leader) open() *frame { return l.room(0) }

// room is the open frame, or a new one when this one has no room for an event
// of so many bytes. One event alone is far below the bound of a message.
func (l *leader) room(bytes int) *frame {
	if n := len(l.frames); n > 0 {
		f := l.frames[n-1]
		if f.sealed.Data == nil && (f.bytes == 0 || f.bytes+bytes <= frameBytes && len(f.body.Events) < frameEvents) {
			return f
		}
		l.seal(f)
	}
	l.seq++
	f := &frame{sealed: stream.Sealed{Seq: l.seq}, body: &pb.Frame{Epoch: l.epoch, TimeUs: l.nowUS()}}
	l.frames = append(l.frames, f)
	return f
}

// seal fixes a frame's bytes.
func (l *leader) seal(f *frame) {
	if f.sealed.Data != nil {
		return
	}
	f.body.Jobs = l.decided
	data, chain, err := stream.Seal(l.chain, f.body)
	if err != nil {
		panic("scheduler: a frame of our own making does not marshal: " + err.Error())
	}
	f.sealed.Data, l.chain = data, chain
	l.board.head(f.sealed.Seq, l.epoch, l.decided, f.body.TimeUs)
	l.board.bytes += uint64(len(data))
	f.ends = l.board.bytes
}

// here is the token of the next event, or one between that and the last: what
// is known now follows from the events before it.
func (l *leader) here() uint64 {
	if n := len(l.frames); n > 0 && l.frames[n-1].sealed.Data == nil {
		return token(l.frames[n-1].sealed.Seq, len(l.frames[n-1].body.Events))
	}
	return token(l.seq+1, 0)
}

// emit appends an event to the open frame and applies it to the facts.
func (l *leader) emit(ev *pb.Event) uint64 {
	size := proto.Size(ev) + 8
	f := l.room(size)
	tok := token(f.sealed.Seq, len(f.body.Events))
	f.body.Events = append(f.body.Events, ev)
	f.bytes += size
	f.wanted = true
	l.board.apply(tok, f.body.TimeUs, ev)
	return tok
}

// after runs fn, under mu, when everything that has happened so far is
// durable: at once if it is and this reign was proved a moment ago.
func (l *leader) after(fn func()) {
	switch {
	case len(l.frames) > 0:
		f := l.frames[len(l.frames)-1]
		f.wanted = true
		f.effects = append(f.effects, fn)
	case l.flying != nil:
		l.flying.effects = append(l.flying.effects, fn)
	case l.now.Sub(l.proved) < freshFor:
		fn()
	default:
		f := l.open()
		f.wanted = true
		f.effects = append(f.effects, fn)
	}
}

// send appends what has gathered, while no frame is in flight. There is no
// timer: what happens until the acknowledgement gathers in the next frame. A
// second one in flight could be stored behind another leader's frame that took
// the place of the first: its expected sequence would be right, and the chain
// broken (docs/adr/0004-one-frame-in-flight.md).
func (l *leader) send() {
	if l.flying != nil || len(l.frames) == 0 || !l.frames[0].wanted {
		return
	}
	f := l.frames[0]
	if l.over && f.sealed.Seq > l.last {
		return
	}
	l.seal(f)
	l.frames, l.flying = l.frames[1:], f
	if len(l.frames) == 0 {
		f.needed = l.need()
	}
	f.sentAt = time.Now()
	if ack, err := l.s.streams.Append(f.sealed); err == nil {
		f.ack = ack
	} // else Settle looks whether it is there and sends it again
	l.sent <- f // has room for the one in flight
}

// settle waits for the frames in order and runs their effects. It returns when
// the reign is over, with the reason.
func (l *leader) settle(ctx context.Context) error {
	for {
		var f *frame
		select {
		case <-ctx.Done():
			return ctx.Err()
		case f = <-l.sent:
		}
		if err := l.append(ctx, f); err != nil {
			return err
		}
		l.stored(f)
	}
}

// stored runs the effects of a frame that is durable.
func (l *leader) stored(f *frame) {
	l.enter()
	defer l.leave()
	l.flying = nil
	l.grew(len(f.sealed.Data))
	l.proved, l.acked, l.ackedBytes = f.sentAt, f.sealed.Seq, f.ends
	if f.needed != (floors{}) {
		l.needed = f.needed
	}
	for _, effect := range f.effects {
		effect()
	}
	l.s.metrics.frames.Inc()
}

// depose ends the reign: nothing that is not yet acknowledged is told to
// anybody, and every stream is sent away.
func (l *leader) depose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over, l.last = true, 0
	address := l.s.leaderAddress()
	for _, f := range l.fronts {
		f.out.put(0, func(m *pb.FrontDown) { m.NotLeader = &pb.NotLeader{Address: address} })
		f.out.close()
	}
	for _, w := range l.workers {
		w.out.put(0, func(m *pb.WorkDown) { m.NotLeader = &pb.NotLeader{Address: address} })
		w.out.close()
	}
	for _, waits := range l.waiting {
		for _, w := range waits {
			w.timer.Stop()
		}
	}
}

// probe appends a frame although nothing has happened: if another process
// leads, it is refused, and this reign is over.
func (l *leader) probe() {
	l.enter()
	defer l.leave()
	if !l.over {
		l.open().wanted = true
	}
}

// sweepEvery is how often leases and back-offs are looked at.
const sweepEvery = 250 * time.Millisecond

// sweep ends leases that ran out and wakes jobs whose back-off is over.
func (l *leader) sweep(ctx context.Context) error {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		l.enter()
		if l.now.Sub(last) > 2*time.Second {
			// This process stood still: no worker could have reached it, and
			// another one may lead.
			for _, e := range l.board.leases {
				e.lease.beatBy = l.now.Add(leaseFor)
			}
			l.open().wanted = true
		}
		late := l.board.overdue(l.now)
		l.leave()
		for _, e := range late {
			l.withBody(ctx, e.id, func(e *entry) {
				if e != nil && e.lease != nil && e.lease.over(l.now) {
					l.s.metrics.expired.Inc()
					l.lost(e)
				}
			})
		}
		l.s.tenants.loadSoon(ctx)
		l.enter()
		l.refill()
		l.board.ripen(l.now)
		l.forget()
		l.rates.turn(l.clock())
		l.ladder.Turn(l.clock())
		l.leave()
		last = time.Now() // reading bodies may have taken long; that is no standing still
	}
}

// forget drops jobs that ended and were filed long enough ago.
func (l *leader) forget() { l.s.forget(l.board.facts, l.now) }
