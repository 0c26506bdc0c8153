package scheduler

import (
	"container/list"
	"time"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// pins is what the unfinished jobs need of the streams. A job needs LEDGER from
// its Accepted on, or from where it was last carried, and its record in JOBS
// until it is carried with its body.
type pins struct {
	frames  *list.List // *entry, by the first frame that each needs
	records *list.List // *entry whose body is in JOBS, by record
	// Where the last one went that was put in by its order: they come almost
	// sorted.
	nearJob, nearRecord *list.Element
}

// pin is one job's part of it.
type pin struct {
	token    uint64 // of its Accepted, or of its last Carried: that frame is needed
	offset   uint64 // the fold's bytes before it
	inLedger bool   // the body is in that event; else in JOBS
	inFrames *list.Element
	inRecord *list.Element // nil when the body is not in JOBS
}

// frame is the first frame that the job needs.
func (p pin) frame() uint64 { return p.token >> 16 }

func newPins() pins { return pins{frames: list.New(), records: list.New()} }

// hold notes what a newly accepted job needs.
func (p *pins) hold(e *entry, tok, offset uint64) {
	e.pin = pin{token: tok, offset: offset, inFrames: p.frames.PushBack(e), inRecord: p.records.PushBack(e)}
}

// letGo notes that a job needs no frame and no record any more.
func (p *pins) letGo(e *entry) {
	p.frames.Remove(e.pin.inFrames)
	p.freeRecord(e)
	if e.pin.inFrames = nil; p.nearJob == e.element {
		p.nearJob = nil
	}
}

func (p *pins) freeRecord(e *entry) {
	if e.pin.inRecord == nil {
		return
	}
	if p.records.Remove(e.pin.inRecord); p.nearRecord == e.pin.inRecord {
		p.nearRecord = nil
	}
	e.pin.inRecord = nil
}

// needs is the first frame and the first record that unfinished jobs need;
// frames and records up to the given ones are needed by nobody else.
func (p *pins) needs(frame, record uint64) (uint64, uint64) {
	if el := p.frames.Front(); el != nil {
		frame = min(frame, el.Value.(*entry).pin.frame())
	}
	if el := p.records.Front(); el != nil {
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
		e.element = insert(f.unfinished, &f.nearJob, e)
		e.pin.inRecord = insert(f.records, &f.nearRecord, e)
	case e.end != nil:
		return
	default:
		f.frames.Remove(e.pin.inFrames)
		f.reserve(e, -1)
	}
	if c.Body != nil {
		f.freeRecord(e)
	}
	if e.env == nil { // it is met here
		e.env, e.place = c.Envelope, c.Place
		f.join(e)
	}
	e.env, e.jobsSeq, e.jobsBytes, e.tier, e.place = c.Envelope, c.JobsSeq, c.Bytes, c.Tier, c.Place
	e.acceptedUS, e.startedUS, e.began, e.attempts = c.AcceptedUs, c.StartedUs, c.Began, c.Attempts
	e.lostBy, e.notBeforeUS = c.LostBy, c.NotBeforeUs
	e.costs(c.Units, c.Period)
	f.reserve(e, +1)
	switch {
	case c.Token == 0:
		e.lease = nil
	case e.lease == nil || e.lease.token != c.Token: // else it is the leader's own, with its beats
		e.lease = newLease(c.Token, c.Started)
	}
	e.pin.token, e.pin.offset, e.pin.inLedger = tok, f.bytes, c.Body != nil
	e.pin.inFrames = f.frames.PushBack(e)
	if len(e.env.KeyHash) > 0 {
		f.keys[string(e.env.KeyHash)] = e.id
	}
}

// insert puts a job into a list that is sorted by acceptance. The search begins
// where the last one went.
func insert(l *list.List, near **list.Element, e *entry) *list.Element {
	at := *near
	if at == nil {
		at = l.Front()
	}
	for at != nil && at.Value.(*entry).order > e.order {
		at = at.Prev()
	}
	if at == nil {
		*near = l.PushFront(e)
		return *near
	}
	for next := at.Next(); next != nil && next.Value.(*entry).order < e.order; next = at.Next() {
		at = next
	}
	*near = l.InsertAfter(e, at)
	return *near
}

// carriedNow is what the facts say of an unfinished job, to be written again;
// body is nil when it stays in JOBS.
func carriedNow(e *entry, body *pb.Body) *pb.Carried {
	c := &pb.Carried{
		Envelope: e.env, JobsSeq: e.jobsSeq, Bytes: e.jobsBytes, Order: e.order, Tier: e.tier, Place: e.place,
		AcceptedUs: e.acceptedUS, StartedUs: e.startedUS, Began: e.began, Attempts: e.attempts,
		LostBy: e.lostBy, NotBeforeUs: e.notBeforeUS, Body: body, Units: e.units, Period: e.period,
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
