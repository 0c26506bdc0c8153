package scheduler

import (
	"container/list"
	"iter"
	"time"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// pins is what the unfinished jobs need of the streams. A job needs LEDGER from
// its Accepted on, and its record in JOBS, until it is carried: then it needs
// LEDGER from its last Carried on, and nothing of JOBS.
type pins struct {
	fresh   *list.List    // *entry, never carried: by acceptance, so by record too
	carried *list.List    // *entry, by their last Carried
	near    *list.Element // of unfinished: where the last carried job was put in
}

// pin is one job's part of it.
type pin struct {
	token   uint64        // of its Accepted, or of its last Carried: its frame is needed
	offset  uint64        // the fold's bytes before that frame
	carried bool          // its body is in that event; else in JOBS
	element *list.Element // in fresh or in carried; nil once it has ended
}

// frame is the first frame that the job needs.
func (p pin) frame() uint64 { return p.token >> 16 }

func newPins() pins { return pins{fresh: list.New(), carried: list.New()} }

// hold notes what a newly accepted job needs.
func (p *pins) hold(e *entry, tok, offset uint64) {
	e.pin = pin{token: tok, offset: offset, element: p.fresh.PushBack(e)}
}

// letGo notes that a job has ended.
func (p *pins) letGo(e *entry) {
	of := p.fresh
	if e.pin.carried {
		of = p.carried
	}
	of.Remove(e.pin.element)
	if e.pin.element = nil; p.near == e.element {
		p.near = nil
	}
}

// byFrame goes through the unfinished jobs by the first frame that each needs.
func (p *pins) byFrame() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		fresh, carried := p.fresh.Front(), p.carried.Front()
		for fresh != nil || carried != nil {
			var e *entry
			if carried == nil || fresh != nil && fresh.Value.(*entry).pin.token < carried.Value.(*entry).pin.token {
				e, fresh = fresh.Value.(*entry), fresh.Next()
			} else {
				e, carried = carried.Value.(*entry), carried.Next()
			}
			if !yield(e) {
				return
			}
		}
	}
}

// needs is the first frame and the first record that unfinished jobs need;
// frames and records up to the given ones are needed by nobody else.
func (p *pins) needs(frame, record uint64) (uint64, uint64) {
	for e := range p.byFrame() {
		frame = min(frame, e.pin.frame())
		break
	}
	if el := p.fresh.Front(); el != nil {
		record = min(record, el.Value.(*entry).jobsSeq)
	}
	return frame, record
}

// carry replaces all that is known of an unfinished job by what the event says.
// A fold that began behind its Accepted meets the job here, and gives it its
// place by acceptance.
func (f *facts) carry(tok uint64, c *pb.Carried) {
	e := f.entries[c.Envelope.Id]
	switch {
	case e == nil:
		e = &entry{id: c.Envelope.Id, account: c.Envelope.Account, order: c.Order}
		f.entries[e.id] = e
		f.enroll(e)
		f.place(e)
	case e.end != nil:
		return
	default:
		f.letGo(e)
	}
	e.env, e.jobsSeq, e.jobsBytes, e.tier, e.place = c.Envelope, c.JobsSeq, c.Bytes, c.Tier, c.Place
	e.acceptedUS, e.startedUS, e.began, e.attempts = c.AcceptedUs, c.StartedUs, c.Began, c.Attempts
	e.lostBy, e.notBeforeUS = c.LostBy, c.NotBeforeUs
	switch {
	case c.Token == 0:
		e.lease = nil
	case e.lease == nil || e.lease.token != c.Token: // else it is the leader's own, with its beats
		e.lease = newLease(c.Token, c.Started)
	}
	e.pin = pin{token: tok, offset: f.bytes, carried: true, element: f.pins.carried.PushBack(e)}
	if len(e.env.KeyHash) > 0 {
		f.keys[string(e.env.KeyHash)] = e.id
	}
}

// place puts a job that was met by its Carried among the unfinished ones. They
// are carried almost in order, so the search begins where the last one went.
func (f *facts) place(e *entry) {
	at := f.near
	if at == nil {
		at = f.unfinished.Front()
	}
	for at != nil && at.Value.(*entry).order > e.order {
		at = at.Prev()
	}
	if at == nil {
		e.element = f.unfinished.PushFront(e)
	} else {
		for next := at.Next(); next != nil && next.Value.(*entry).order < e.order; next = at.Next() {
			at = next
		}
		e.element = f.unfinished.InsertAfter(e, at)
	}
	f.near = e.element
}

// carriedNow is what the facts say of an unfinished job, to be written again.
func carriedNow(e *entry, body *pb.Body) *pb.Carried {
	c := &pb.Carried{
		Envelope: e.env, JobsSeq: e.jobsSeq, Bytes: e.jobsBytes, Order: e.order, Tier: e.tier, Place: e.place,
		AcceptedUs: e.acceptedUS, StartedUs: e.startedUS, Began: e.began, Attempts: e.attempts,
		LostBy: e.lostBy, NotBeforeUs: e.notBeforeUS, Body: body,
	}
	if le := e.lease; le != nil {
		c.Token = le.token
		c.Started = &pb.Started{Worker: le.worker, Boot: le.boot, WallMs: le.wall.Milliseconds()}
	}
	return c
}

// newLease is the lease that a Started of this token opened.
func newLease(tok uint64, s *pb.Started) *lease {
	return &lease{token: tok, worker: s.Worker, boot: s.Boot, wall: time.Duration(s.WallMs) * time.Millisecond}
}
