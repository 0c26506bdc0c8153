package audit

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// books is what the ledger says, job by job.
type books struct {
	jobs   map[string]*history
	byName map[string]*record // records of JOBS by custom_id; of a key, the last one
	bySeq  map[uint64]*record
	frames []frame
	last   uint64 // every JOBS record up to here is decided
	chains map[uint64]uint32
	reigns []reign
	// charges are those that are no job's end, by id; what comes twice counts once.
	charges map[string]*pb.Charged
	spent   map[account]*spending
}

// reign is one leader's.
type reign struct {
	began   time.Time // its first frame was stored
	ended   time.Time // the last frame before it was stored; zero for the first
	address string
}

// frame is a frame's head.
type frame struct {
	seq, epoch, jobs uint64
	stored           time.Time
	address          string // of the scheduler that wrote it
}

// record is a submitted job.
type record struct {
	seq    uint64
	stored time.Time
	*pb.Record
}

// history is one job's.
type history struct {
	accepted *pb.Accepted
	order    uint64    // token of its acceptance
	timeUS   int64     // of it, in ledger time
	stored   time.Time // of the frame with it
	seq      uint64    // of that frame
	reign    int       // index of the one that accepted it
	reserves bool      // its price is reserved
	leases   []*lease
	open     *lease
	attempts int32
	again    int // losses that were not counted
	end      *pb.Finished
	endSeq   uint64
	endAt    time.Time
	steps    []step
}

// lease is one attempt, open from one frame to another.
type lease struct {
	token        uint64
	worker, boot string
	began        time.Time // stored
	beganUS      int64
	wall         time.Duration
	ended        time.Time // stored; zero: open
}

// step is what a client may be shown of a job between two events.
type step struct {
	state    string
	attempts int32
}

func (h *history) now(state string) { h.steps = append(h.steps, step{state, h.attempts}) }

// read goes through both streams and keeps its own board beside them.
func (a *auditor) read() *books {
	b := &books{
		jobs: map[string]*history{}, byName: map[string]*record{}, bySeq: map[uint64]*record{}, chains: map[uint64]uint32{},
		charges: map[string]*pb.Charged{}, spent: map[account]*spending{},
	}
	published := map[string]bool{}
	for _, m := range a.Records {
		r := &record{seq: m.Seq, stored: m.Stored, Record: new(pb.Record)}
		if err := proto.Unmarshal(m.Data, r.Record); err != nil {
			a.wrong("I1", "record %d of JOBS: %v", m.Seq, err)
			continue
		}
		b.bySeq[m.Seq] = r
		// A line of a batch that was refused is offered again under its id.
		if id := r.Envelope.GetId(); published[id] && r.Envelope.GetBatch() == "" {
			a.wrong("I1", "%s was published twice", id)
		} else {
			published[id] = true
		}
		b.byName[r.Body.GetCustomId()] = r
	}
	w := &walk{auditor: a, books: b, first: map[int32]int{}, open: map[string]int{}, keys: map[string]string{}, touched: map[account]bool{}}
	for i, m := range a.Frames {
		if m.Seq != uint64(i)+1 {
			a.wrong("I8", "frame %d of LEDGER was not seen", i+1)
			break
		}
		w.frame(m)
	}
	a.report.Frames = len(b.frames)
	b.last = w.jobs
	for id, h := range b.jobs {
		if h.end == nil {
			a.wrong("I1", "%s was accepted and has no end", id)
		}
	}
	return b
}

// walk is the auditor's own board: no more than the rules need.
type walk struct {
	*auditor
	*books
	chain       uint32
	epoch, jobs uint64
	closedEpoch uint64 // that its leader ended on purpose
	timeUS      int64
	address     string
	lastStored  time.Time         // of the frame before
	touched     map[account]bool  // whose spending this frame changed
	first       map[int32]int     // E by tier
	open        map[string]int    // open leases by account
	keys        map[string]string // key hash → id, as accepted
}

func (w *walk) frame(m Message) {
	if len(m.Data) < 4 {
		w.wrong("I8", "frame %d has %d bytes", m.Seq, len(m.Data))
		return
	}
	said, body := binary.BigEndian.Uint32(m.Data), m.Data[4:]
	var prev [4]byte
	binary.BigEndian.PutUint32(prev[:], w.chain)
	if got := crc32.Update(crc32.Checksum(prev[:], castagnoli), castagnoli, body); got != said {
		w.wrong("I8", "frame %d: chain value %08x, worked out %08x", m.Seq, said, got)
	}
	w.chain = said
	w.chains[m.Seq] = said
	f := new(pb.Frame)
	if err := proto.Unmarshal(body, f); err != nil {
		w.wrong("I8", "frame %d: %v", m.Seq, err)
		return
	}
	if f.Epoch < w.epoch || f.Epoch > w.epoch+1 {
		w.wrong("I8", "frame %d of epoch %d stands behind one of epoch %d", m.Seq, f.Epoch, w.epoch)
	}
	if opened := len(f.Events) > 0 && f.Events[0].GetEpochOpened() != nil; opened != (f.Epoch > w.epoch) {
		w.wrong("I8", "frame %d: epoch %d after %d, and opened is %t", m.Seq, f.Epoch, w.epoch, opened)
	}
	if f.TimeUs < w.timeUS || f.Jobs < w.jobs {
		w.wrong("I8", "frame %d: time or records go backwards", m.Seq)
	}
	if w.closedEpoch > 0 && f.Epoch <= w.closedEpoch {
		w.wrong("I8", "frame %d stands behind the end of its own reign", m.Seq)
	}
	w.epoch, w.timeUS = max(w.epoch, f.Epoch), max(w.timeUS, f.TimeUs)
	for i, ev := range f.Events {
		tok := m.Seq<<16 | uint64(i)
		switch ev := ev.Fact.(type) {
		case *pb.Event_EpochOpened:
			w.report.Reigns++
			w.address = ev.EpochOpened.Address
			w.books.reigns = append(w.books.reigns, reign{m.Stored, w.lastStored, w.address})
		case *pb.Event_Accepted:
			w.accept(m, f, tok, ev.Accepted)
		case *pb.Event_Started:
			w.start(m, f, tok, ev.Started)
		case *pb.Event_Released:
			w.release(m, f, ev.Released)
		case *pb.Event_Finished:
			w.finish(m, f, ev.Finished)
		case *pb.Event_Carried:
			w.carry(m, ev.Carried)
		case *pb.Event_Charged:
			w.charge(ev.Charged)
		case *pb.Event_QuotaReached:
			w.reached(m, ev.QuotaReached)
		case *pb.Event_EpochClosed:
			w.closedEpoch = f.Epoch
		default:
			w.wrong("I8", "frame %d holds an event that the auditor does not know", m.Seq)
		}
	}
	w.withinQuota(m)
	w.lastStored = m.Stored
	w.jobs = max(w.jobs, f.Jobs)
	w.frames = append(w.frames, frame{m.Seq, f.Epoch, w.jobs, m.Stored, w.address})
}

func (w *walk) accept(m Message, f *pb.Frame, tok uint64, acc *pb.Accepted) {
	env := acc.Envelope
	if w.books.jobs[env.Id] != nil {
		w.wrong("I1", "%s is accepted again in frame %d", env.Id, m.Seq)
		return
	}
	if r := w.bySeq[acc.JobsSeq]; r != nil && r.Envelope.Id != env.Id {
		w.wrong("I1", "%s is accepted from record %d, which is not its own", env.Id, acc.JobsSeq)
	}
	if acc.JobsSeq <= w.jobs || acc.JobsSeq > f.Jobs {
		w.wrong("I8", "%s of record %d is accepted in frame %d, which decides those after %d up to %d", env.Id, acc.JobsSeq, m.Seq, w.jobs, f.Jobs)
	}
	plan, known := w.Rules.Plans[env.Account]
	if !known || plan.Tier != acc.Tier {
		w.wrong("I2", "%s of %s is accepted into tier %d", env.Id, env.Account, acc.Tier)
	}
	if acc.Place == pb.Place_PLACE_QUEUE {
		sum := 0
		for tier, n := range w.first {
			if tier >= acc.Tier {
				sum += n
			}
		}
		if sum >= w.Rules.Length {
			w.wrong("I2", "%s enters tier %d behind %d jobs, the length is %d", env.Id, acc.Tier, sum, w.Rules.Length)
		}
		w.first[acc.Tier]++
	}
	if key := string(env.KeyHash); key != "" {
		if w.keys[key] != "" {
			w.wrong("I10", "%s and %s have one key", w.keys[key], env.Id)
		}
		w.keys[key] = env.Id
	}
	h := &history{accepted: acc, order: tok, timeUS: f.TimeUs, stored: m.Stored, seq: m.Seq, reign: len(w.books.reigns) - 1}
	w.reserve(h)
	h.now("queued")
	w.books.jobs[env.Id] = h
	w.report.Accepted++
}

// begun takes a job out of those that wait for their first start.
func (w *walk) begun(h *history) {
	if h.accepted.Place == pb.Place_PLACE_QUEUE && len(h.leases) == 0 {
		w.first[h.accepted.Tier]--
	}
}

func (w *walk) start(m Message, f *pb.Frame, tok uint64, s *pb.Started) {
	h := w.books.jobs[s.Id]
	if h == nil || h.end != nil || h.open != nil {
		w.wrong("I4", "frame %d starts %s, which is not accepted, has ended or runs", m.Seq, s.Id)
		return
	}
	if n := len(h.leases); n > 0 && h.leases[n-1].token >= tok {
		w.wrong("I4", "the tokens of %s do not rise", s.Id)
	}
	w.begun(h)
	w.hold(h, m.Seq) // of a follower, which goes on alone
	account := h.accepted.Envelope.Account
	w.open[account]++
	if n := w.open[account]; n > w.Rules.Plans[account].Threads {
		w.wrong("I3", "frame %d opens lease %d of %s, which has %d threads", m.Seq, n, account, w.Rules.Plans[account].Threads)
	}
	h.attempts++
	if int(h.attempts) > w.Rules.Attempts {
		w.wrong("I14", "%s is started for attempt %d", s.Id, h.attempts)
	}
	h.open = &lease{
		token: tok, worker: s.Worker, boot: s.Boot, began: m.Stored, beganUS: f.TimeUs, wall: time.Duration(s.WallMs) * time.Millisecond,
	}
	h.leases = append(h.leases, h.open)
	h.now("running")
}

// carry: what the leader says again of a job is what it said before (I9).
func (w *walk) carry(m Message, c *pb.Carried) {
	h := w.books.jobs[c.Envelope.GetId()]
	if h == nil || h.end != nil {
		w.wrong("I9", "frame %d carries %s, which is not accepted or has ended", m.Seq, c.Envelope.GetId())
		return
	}
	w.report.Carried++
	tok, started := uint64(0), int64(0)
	if h.open != nil {
		tok = h.open.token
	}
	if n := len(h.leases); n > 0 {
		started = h.leases[n-1].beganUS
	}
	if acc := h.accepted; c.Order != h.order || c.JobsSeq != acc.JobsSeq || c.Tier != acc.Tier || c.Place != acc.Place || c.AcceptedUs != h.timeUS ||
		c.Units != acc.Units || c.Period != acc.Period || c.StartedUs != started || c.Began != (started > 0) || c.Attempts != uint32(h.attempts) || c.Token != tok || !proto.Equal(c.Envelope, acc.Envelope) {
		w.wrong("I9", "frame %d carries %s otherwise than it was: %v", m.Seq, c.Envelope.Id, c)
	}
}

// closed ends a job's lease.
func (w *walk) closed(m Message, f *pb.Frame, id string, h *history) {
	open := time.Duration(f.TimeUs-h.open.beganUS) * time.Microsecond
	if open > h.open.wall+w.Rules.LeaseGrace {
		w.wrong("I15", "lease %d of %s was open for %s with a budget of %s", h.open.token, id, open, h.open.wall)
	}
	h.open.ended, h.open = m.Stored, nil
	w.open[h.accepted.Envelope.Account]--
}

func (w *walk) release(m Message, f *pb.Frame, r *pb.Released) {
	h := w.books.jobs[r.Id]
	if h == nil || h.open == nil || h.open.token != r.Token {
		w.wrong("I6", "frame %d releases lease %d of %s, which is not open", m.Seq, r.Token, r.Id)
		return
	}
	w.closed(m, f, r.Id, h)
	w.report.Retried++
	switch r.Reason {
	case pb.Released_REASON_LOST, pb.Released_REASON_FAILED:
	case pb.Released_REASON_LOST_AGAIN:
		if h.again++; h.again > 2*w.Rules.Attempts {
			w.wrong("I14", "%s was lost again %d times without a cost", r.Id, h.again)
		}
		h.attempts--
	default:
		h.attempts--
	}
	h.now("queued")
}

func (w *walk) finish(m Message, f *pb.Frame, fin *pb.Finished) {
	id := fin.Job.GetId()
	h := w.books.jobs[id]
	switch {
	case h == nil:
		w.wrong("I5", "frame %d ends %s, which was never accepted", m.Seq, id)
		return
	case h.end != nil:
		w.wrong("I5", "frame %d ends %s, which ended in frame %d", m.Seq, id, h.endSeq)
		return
	case fin.Token != 0 && (h.open == nil || h.open.token != fin.Token):
		w.wrong("I6", "frame %d ends %s by lease %d, which is not open", m.Seq, id, fin.Token)
	case fin.Job.State == "succeeded" && fin.Token == 0:
		w.shared(m, f, id, h, fin)
	case fin.Job.Cached:
		w.wrong("I6", "frame %d: %s was rendered, or has no result, and ends as cached", m.Seq, id)
	}
	if h.accepted.Place == pb.Place_PLACE_CACHED && (h.seq != m.Seq || !fin.Job.Cached) {
		w.wrong("I6", "frame %d: %s was answered from the cache in frame %d and ends otherwise", m.Seq, id, h.seq)
	}
	w.bill(h, fin)
	w.begun(h)
	if h.open != nil {
		w.closed(m, f, id, h)
	}
	if fin.Job.Attempts != uint32(h.attempts) || fin.Job.Account != h.accepted.Envelope.Account {
		w.wrong("I9", "%s ends with %d attempts of %s, the ledger says %d of %s", id, fin.Job.Attempts, fin.Job.Account, h.attempts, h.accepted.Envelope.Account)
	}
	h.end, h.endSeq, h.endAt = fin, m.Seq, m.Stored
	h.now(fin.Job.State)
	w.report.Ends[fin.Job.State]++
}
