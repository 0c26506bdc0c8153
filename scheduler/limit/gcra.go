package limit

import (
	"slices"
	"time"
)

// bucket is a token bucket, by the generic cell rate algorithm (ITU-T I.371):
// what is kept is not how many tokens there are but how much is owed. A token
// costs length, and requests of it are paid back each microsecond, so all that
// is counted is whole, whatever the rate.
type bucket struct {
	requests int64 // come back in each length
	length   int64 // microseconds
	burst    int64 // the debt is at most so many tokens
	refunds  bool  // takes may be given back
}

// past is what giving back needs to know of a bucket: what was owed, and what
// was taken since.
type past struct {
	at, debt int64
	takes    []passed // oldest first
}

type passed struct {
	at int64
	r  Receipt
}

// A take is given back until so many others have followed it: twice the burst,
// within these bounds.
const (
	followLeast = 64
	followMost  = 4096
)

// debt is what is still owed.
func (b bucket) debt(s state, now int64) int64 { return b.owed(s.at, s.used, now) }

// owed is what is left at now of a debt at another time.
func (b bucket) owed(at, debt, now int64) int64 {
	took := max(now-at, 0)
	if took > debt/b.requests {
		return 0
	}
	return debt - took*b.requests
}

func (b bucket) left(s state, now int64) Left {
	debt := b.debt(s, now)
	l := Left{
		Limit: b.burst, Window: after(b.burst*b.length, b.requests),
		Remaining: max(b.burst*b.length-debt, 0) / b.length,
	}
	next := after(debt-(b.burst-l.Remaining-1)*b.length, b.requests)
	if l.Remaining == 0 {
		l.Wait = next
	}
	if l.Remaining == b.burst {
		next = 0
	}
	l.Reset = time.UnixMicro(now).Add(next)
	return l
}

func (b bucket) take(s *state, now int64, serial Receipt) Receipt {
	debt := b.debt(*s, now)
	if b.refunds {
		b.remember(s, debt, now, serial)
	}
	s.at, s.used = max(s.at, now), b.add(debt)
	return serial
}

func (b bucket) add(debt int64) int64 { return min(debt+b.length, b.burst*b.length) }

// remember notes a take, before which so much was owed. With nothing owed,
// earlier ones have come back by themselves.
func (b bucket) remember(s *state, debt, now int64, serial Receipt) {
	if s.past == nil {
		s.past = new(past)
	}
	p := s.past
	if debt == 0 {
		p.takes = p.takes[:0]
	}
	if len(p.takes) == 0 {
		p.at, p.debt = now, debt
	}
	if len(p.takes) > 0 && int64(len(p.takes)) >= min(max(2*b.burst, followLeast), followMost) {
		first := p.takes[0]
		p.at, p.debt = first.at, b.add(b.owed(p.at, p.debt, first.at))
		p.takes = p.takes[1:]
	}
	p.takes = append(p.takes, passed{now, serial})
}

// giveBack makes the debt what it would be had the take never been: it is less
// by a token only as long as so much was owed at all times since.
func (b bucket) giveBack(s *state, r Receipt) {
	p := s.past
	if p == nil {
		return
	}
	i, found := slices.BinarySearchFunc(p.takes, r, func(t passed, r Receipt) int { return int(t.r) - int(r) })
	if !found {
		return
	}
	p.takes = slices.Delete(p.takes, i, i+1)
	s.at, s.used = p.at, p.debt
	for _, t := range p.takes {
		s.at, s.used = t.at, b.add(b.debt(*s, t.at))
	}
}

func (b bucket) begin(since int64) state { return state{at: since, used: b.burst * b.length} }

func (b bucket) forget() int64 { return after(b.burst*b.length, b.requests).Microseconds() }
