package scheduler

import (
	"container/list"
	"maps"
	"slices"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// keepKnown is how much older than the last frame, in ledger time, a finished
// job's frame must be before the fold forgets it. Until then a look-up is
// answered from memory and need not wait for the archive.
const keepKnown = time.Minute

// facts is a fold of the ledger: what was decided, and nothing that could be
// decided otherwise. A fresh fold of the same frames is equal to it (I9).
type facts struct {
	epoch  uint64
	seq    uint64 // last frame
	chain  stream.Chain
	jobs   uint64 // every JOBS record up to here is decided
	timeUS int64  // of the last frame, or of the last end of a job where that is later
	bytes  uint64 // of the frames so far, as far as this fold has met them
	past   []milestone

	entries    map[string]*entry
	keys       map[string]string // key hash → id of its job
	fresh      map[string]*entry // cache key → the last job whose result answers others
	twins      map[string]*line  // cache key → its unfinished jobs, by acceptance
	tails      map[string]*line  // cache key → those of them that were accepted to follow
	unfinished *list.List        // *entry, by acceptance
	ended      *list.List        // *entry, by end
	rolls      map[string]*roll  // by account
	arrivals   arrivals          // what rates may still count; a leader has none
	pins                         // what the unfinished ones need of the streams
	bills      bills
}

// milestone is how long the ledger was at a moment of its own time.
type milestone struct {
	timeUS int64
	seq    uint64
	bytes  uint64 // of all frames up to it
}

// milestonesMost bounds what a fold remembers: some ten minutes.
const milestonesMost = 256

// entry is one job that the farm knows.
type entry struct {
	id, account string
	env         *pb.Envelope // nil when the fold met only its end
	jobsSeq     uint64
	jobsBytes   uint32
	order       uint64 // token of its Accepted
	tier        int32
	place       pb.Place
	units       int64 // that it costs if it succeeds
	period      int32 // that it is charged to, by its first day
	acceptedUS  int64
	startedUS   int64  // of the last attempt
	began       bool   // was started at least once
	attempts    uint32 // started and counted
	lease       *lease
	lostBy      []string // boots of the workers that lost it, by loss
	notBeforeUS int64    // of the last release
	end         *pb.Finished
	endToken    uint64 // of its Finished
	endSeq      uint64
	endUS       int64
	element     *list.Element // in unfinished or in ended
	pin         pin           // what it needs of the streams while it is unfinished

	// What the leader adds. A standby leaves it empty.
	body      *pb.Body // nil: in JOBS at jobsSeq, or in LEDGER where it was carried
	standing  standing
	tenant    *tenant   // its holder's share of the board
	readyAt   time.Time // while standing is retrying
	since     time.Time // in its queue since
	turn      uint64    // in its queue: which join that was
	waitUntil time.Time // it expires when no worker holds it then
	arrival   *arrival  // of a standby; nil where it is not remembered
	hurried   bool      // a line of a batch that a job which is none waits for
	taken     *taken    // what it gives back unless it ends as a fresh success; nil: nothing
	orphan    bool      // its client has gone away, and it goes on for those that follow it
}

// lease is a job in a worker's hands.
type lease struct {
	token        uint64
	worker, boot string
	wall         time.Duration

	// The leader's own, on its monotonic clock.
	beatBy   time.Time // it ends without a beat until then
	endBy    time.Time // it ends then, whatever the beats say
	assigned bool      // its worker was told, or is not known not to have been
}

// over reports whether the lease has run out.
func (l *lease) over(now time.Time) bool { return now.After(l.beatBy) || now.After(l.endBy) }

func newFacts() *facts {
	return &facts{
		entries: map[string]*entry{}, keys: map[string]string{}, fresh: map[string]*entry{}, twins: map[string]*line{}, tails: map[string]*line{},
		unfinished: list.New(), ended: list.New(), rolls: map[string]*roll{}, pins: newPins(), bills: newBills(),
		arrivals: arrivals{rates: newRates()},
	}
}

// token is the position of an event in the ledger.
func token(seq uint64, index int) uint64 { return seq<<16 | uint64(index) }

// fold adds one frame.
func (f *facts) fold(l stream.Link) {
	if f.seq == 0 {
		if f.bills.since = l.Seq - 1; l.Seq > 1 {
			f.arrivals.since = time.UnixMicro(l.Frame.TimeUs)
		}
	}
	f.head(l.Seq, l.Frame.Epoch, l.Frame.Jobs, l.Frame.TimeUs)
	f.arrivals.date(l.Frame.TimeUs)
	f.chain = l.Chain
	for i, ev := range l.Frame.Events {
		f.apply(token(l.Seq, i), l.Frame.TimeUs, ev)
	}
	f.bytes += uint64(l.Size)
	if n := len(f.past); n == 0 || f.timeUS-f.past[n-1].timeUS >= (purgeEvery/2).Microseconds() {
		f.past = append(f.past, milestone{f.timeUS, l.Seq, f.bytes})
		f.past = f.past[max(0, len(f.past)-milestonesMost):]
	}
}

func (f *facts) head(seq, epoch, jobs uint64, timeUS int64) {
	f.seq, f.epoch, f.jobs, f.timeUS = seq, epoch, max(f.jobs, jobs), max(f.timeUS, timeUS)
}

// apply adds one event. Events of a job whose acceptance was purged, and that
// was not carried before them, concern a finished job, of which only the end is
// worth keeping, or one that is carried later, with all that they say.
func (f *facts) apply(tok uint64, timeUS int64, ev *pb.Event) {
	switch ev := ev.Fact.(type) {
	case *pb.Event_Accepted:
		a := ev.Accepted
		if f.entries[a.Envelope.Id] != nil {
			return
		}
		e := &entry{
			id: a.Envelope.Id, account: a.Envelope.Account, env: a.Envelope, jobsSeq: a.JobsSeq, jobsBytes: a.Bytes,
			order: tok, tier: a.Tier, place: a.Place, acceptedUS: timeUS,
		}
		e.costs(a.Units, a.Period)
		f.entries[e.id] = e
		f.enroll(e)
		e.element = f.unfinished.PushBack(e)
		f.arrivals.add(e, timeUS)
		f.join(e)
		f.reserve(e, +1)
		f.hold(e, tok, f.bytes)
		if len(e.env.KeyHash) > 0 {
			f.keys[string(e.env.KeyHash)] = e.id
		}
	case *pb.Event_Started:
		e := f.entries[ev.Started.Id]
		if e == nil || e.end != nil {
			return
		}
		e.lease = newLease(tok, ev.Started)
		e.startedUS, e.began, e.attempts, e.notBeforeUS = timeUS, true, e.attempts+1, 0
	case *pb.Event_Released:
		e := f.entries[ev.Released.Id]
		if e == nil || e.lease == nil || e.lease.token != ev.Released.Token {
			return
		}
		switch ev.Released.Reason {
		case pb.Released_REASON_LOST, pb.Released_REASON_LOST_AGAIN:
			e.lostBy = append(e.lostBy, e.lease.boot)
		}
		e.lease, e.notBeforeUS = nil, ev.Released.NotBeforeUs
		if !counted(ev.Released.Reason) {
			e.attempts--
		}
	case *pb.Event_Finished:
		f.finish(tok, timeUS, ev.Finished)
	case *pb.Event_Carried:
		f.carry(tok, ev.Carried)
	case *pb.Event_Charged:
		f.bills.charged(tok>>16, ev.Charged)
	case *pb.Event_QuotaReached:
		f.bills.tell(tok>>16, ev.QuotaReached)
	}
}

// counted reports whether a release costs an attempt.
func counted(r pb.Released_Reason) bool {
	return r == pb.Released_REASON_LOST || r == pb.Released_REASON_FAILED
}

func (f *facts) finish(tok uint64, timeUS int64, fin *pb.Finished) {
	f.timeUS = max(f.timeUS, fin.Job.FinishedUs) // a frame has the time at which it was opened
	e := f.entries[fin.Job.Id]
	switch {
	case e == nil:
		e = &entry{id: fin.Job.Id, account: fin.Job.Account, tier: fin.Job.Tier, acceptedUS: fin.Job.AcceptedUs}
		f.entries[e.id] = e
		f.enroll(e)
	case e.end != nil:
		return // one end per job (I5); the first one stands
	default:
		f.letGo(e)
		f.part(e)
		f.unfinished.Remove(e.element)
		f.reserve(e, -1)
	}
	if e.endToken = tok; len(fin.CacheKey) > 0 {
		f.fresh[string(fin.CacheKey)] = e
	}
	f.bills.spend(tok>>16, period{e.account, periodOf(fin.Period, fin.Job.AcceptedUs)}, fin.Units)
	e.arrived(fin)
	e.end, e.endSeq, e.endUS, e.lease, e.body = fin, tok>>16, timeUS, nil, nil
	e.element = f.ended.PushBack(e)
	if len(fin.KeyHash) > 0 {
		f.keys[string(fin.KeyHash)] = e.id
	}
}

// forget drops finished jobs that the archive has and that are a minute older
// than the last frame.
func (f *facts) forget(projected uint64) {
	f.bills.prune(min(projected, f.seq))
	for el := f.ended.Front(); el != nil; el = f.ended.Front() {
		e := el.Value.(*entry)
		if e.endSeq > projected || e.endUS > f.timeUS-keepKnown.Microseconds() {
			return
		}
		if k := string(e.end.CacheKey); f.fresh[k] == e && len(f.served(k, 1)) > 0 {
			return // else they would wait for it for ever
		}
		f.ended.Remove(el)
		delete(f.entries, e.id)
		f.strike(e)
		if h := string(e.end.KeyHash); f.keys[h] == e.id {
			delete(f.keys, h)
		}
		if k := string(e.end.CacheKey); f.fresh[k] == e {
			delete(f.fresh, k)
		}
	}
}

// accounts are those that have unfinished jobs, or did something lately.
func (f *facts) accounts() []string {
	seen := map[string]bool{}
	for account := range f.rolls {
		seen[account] = true
	}
	for p := range f.bills.of {
		seen[p.account] = true
	}
	return slices.Collect(maps.Keys(seen))
}

// state is what a client may be told of e.
func (e *entry) state() job.State {
	switch {
	case e.end != nil:
		return job.State(e.end.Job.State)
	case e.lease != nil:
		return job.Running
	}
	return job.Queued
}
