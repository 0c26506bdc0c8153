package scheduler

import (
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/scheduler/limit"
)

const (
	// arrivalsMost bounds what a standby remembers: some tens of megabytes, and a
	// fraction of a second at the beginning of its reign. Of more acceptances than
	// that it forgets the oldest.
	arrivalsMost = 1 << 19
	// frameGathers is how long a frame gathers at most, as a rule: its events are
	// that much younger than it says.
	frameGathers = 250 * time.Millisecond
)

// arrivals are the acceptances that rates may still count. Rates are not in the
// ledger: a standby sees what was accepted, and takes it for what was charged.
// Refusals that a rate counts too are forgotten with the reign.
type arrivals struct {
	keep    time.Duration // how long they count; 0: nothing is remembered
	list    []*arrival    // the oldest first
	undated int           // the last ones, of a frame after which none came yet
	callers map[asker]*caller
}

// arrival is one acceptance.
type arrival struct {
	us   int64
	by   *caller
	job  *entry // nil once it has ended
	free bool   // it ended otherwise than as a fresh success
}

// caller is who made some of them. There are far fewer callers than arrivals.
type caller struct {
	asker
	n int
}

// add remembers an acceptance.
func (a *arrivals) add(e *entry, timeUS int64) {
	if a.keep == 0 || e.env.Revalidate {
		return
	}
	who := asker{e.account, e.env.Key, e.env.Address}
	by := a.callers[who]
	if by == nil {
		if a.callers == nil {
			a.callers = map[asker]*caller{}
		}
		by = &caller{asker: who}
		a.callers[who] = by
	}
	by.n++
	e.arrival = &arrival{us: timeUS, by: by, job: e}
	a.list = append(a.list, e.arrival)
	a.undated++
	if len(a.list) > arrivalsMost {
		a.drop(1)
	}
}

// date says when the next frame began: what was accepted in the last one was so
// no later.
func (a *arrivals) date(timeUS int64) {
	for _, x := range a.list[len(a.list)-a.undated:] {
		x.us = max(x.us, min(timeUS, x.us+frameGathers.Microseconds()))
	}
	a.undated = 0
	old := 0
	for old < len(a.list) && a.list[old].us < timeUS-a.keep.Microseconds() {
		old++
	}
	a.drop(old)
}

func (a *arrivals) drop(n int) {
	for i, x := range a.list[:n] {
		if x.job != nil {
			x.job.arrival = nil
		}
		if x.by.n--; x.by.n == 0 {
			delete(a.callers, x.by.asker)
		}
		a.list[i] = nil
	}
	a.list = a.list[n:]
	a.undated = min(a.undated, len(a.list))
}

// arrived notes how an accepted job has ended.
func (e *entry) arrived(fin *pb.Finished) {
	if e.arrival == nil {
		return
	}
	e.arrival.free = fin.Job.State != string(job.Succeeded) || fin.Job.Cached
	e.arrival.job, e.arrival = nil, nil
}

// remember keeps arrivals for as long as a rate of the policy counts them.
func (a *arrivals) remember(p *account.Policy) {
	a.keep = 0
	for _, plan := range p.Plans {
		if plan.Rate.Limited() {
			a.keep = max(a.keep, limit.Memory(plan.Rate))
		}
	}
	if a.keep == 0 {
		a.drop(len(a.list))
	}
}

// accounts are those of whom any is remembered.
func (a *arrivals) accounts() []string {
	var out []string
	for who := range a.callers {
		out = append(out, who.account)
	}
	return out
}

// replay charges the rates for what was accepted before this reign. What an
// account took whose plan nobody could read is charged when that is known.
func (l *leader) replay(a *arrivals) {
	l.unplanned = map[string][]*arrival{}
	for _, x := range a.list {
		if plan, known := l.s.tenants.planOf(x.by.account); known {
			l.replayOne(plan.Rate, x)
		} else {
			l.unplanned[x.by.account] = append(l.unplanned[x.by.account], x)
		}
	}
	*a = arrivals{} // a leader remembers in its books
}

// replayLate is replay for an account whose plan is known by now.
func (l *leader) replayLate(id string, rate account.Rate) {
	late := l.unplanned[id]
	if late == nil {
		return
	}
	delete(l.unplanned, id)
	for _, x := range late {
		l.replayOne(rate, x)
	}
}

func (l *leader) replayOne(rate account.Rate, x *arrival) {
	e, successes := x.job, rate.Charge == account.ChargeSuccess
	if e != nil {
		x.job, e.arrival = nil, nil
	}
	if !rate.Limited() || successes && x.free {
		return
	}
	t := &taken{book: l.rates.ofPlan(rate), who: rate.By.Subject(x.by.account, x.by.key, x.by.address)}
	t.receipt = t.book.Replay(t.who, time.UnixMicro(x.us))
	if successes && e != nil {
		e.taken = t
	}
}
