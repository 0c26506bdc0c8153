package scheduler

import (
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/scheduler/limit"
)

const (
	// arrivalsMost bounds what a standby remembers one by one: some tens of
	// megabytes, and a fraction of a second at the beginning of its reign. Of more
	// acceptances than that the oldest are counted before.
	arrivalsMost = 1 << 19
	// arrivalsStay is how long they are remembered at least, by which time a
	// standby has heard of a plan that was changed.
	arrivalsStay = 2 * tenantFresh
	// frameGathers is how long a frame gathers at most, as a rule: its events are
	// that much younger than it says.
	frameGathers = 250 * time.Millisecond
)

// arrivals are the acceptances that rates may still count. Rates are not in the
// ledger: a standby sees what was accepted, and takes it for what was charged.
// Refusals that a rate counts too are forgotten with the reign. The latest are
// kept one by one, so that a plan which has just become another one counts them
// too; older ones are in the books, since a bucket may have been in debt for
// longer than anybody remembers.
type arrivals struct {
	keep    time.Duration // how long they count; 0: nothing is remembered
	list    []*arrival    // the oldest first
	undated int           // the last ones, of a frame after which none came yet
	callers map[asker]*caller
	nowUS   int64 // of the last frame
	rates         // what is not in the list any more
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
}

// date says when the next frame began: what was accepted in the last one was so
// no later.
func (a *arrivals) date(timeUS int64) {
	for _, x := range a.list[len(a.list)-a.undated:] {
		x.us = max(x.us, min(timeUS, x.us+frameGathers.Microseconds()))
	}
	a.undated, a.nowUS = 0, max(a.nowUS, timeUS)
}

// settle moves what is old from the list into the books, by the plans of this
// moment. What an account took whose plan nobody could read stays in the list
// until that is known.
func (a *arrivals) settle(planOf func(id string) (account.Plan, bool)) {
	a.until = time.UnixMicro(a.nowUS)
	old, n := a.nowUS-max(a.keep, arrivalsStay).Microseconds(), 0
	for ; n < len(a.list)-a.undated; n++ {
		tooMany := len(a.list)-n > arrivalsMost
		if a.list[n].us >= old && !tooMany {
			break
		}
		plan, known := planOf(a.list[n].by.account)
		if known {
			a.replay(plan.Rate, a.list[n])
		} else if !tooMany {
			break
		}
	}
	if a.drop(n); len(a.list) > 0 {
		old = min(old, a.list[0].us)
	}
	a.turn(time.UnixMicro(old)) // what comes into the books next is no older
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
	free := fin.Job.State != string(job.Succeeded) || fin.Job.Cached
	if e.arrival != nil {
		e.arrival.free = free
		e.arrival.job, e.arrival = nil, nil
	}
	if free {
		e.taken.giveBack()
	}
	e.taken = nil
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
		a.plans = map[account.Rate]*limit.Book{}
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
	l.rates = a.rates
	l.rates.until = time.UnixMicro(a.nowUS)
	for _, x := range a.list {
		if plan, known := l.s.tenants.planOf(x.by.account); known {
			l.rates.replay(plan.Rate, x)
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
		l.rates.replay(rate, x)
	}
}

// replay charges a rate for what was accepted in another one's reign.
func (r *rates) replay(rate account.Rate, x *arrival) {
	e, successes := x.job, rate.Charge == account.ChargeSuccess
	if e != nil {
		x.job, e.arrival = nil, nil
	}
	if !rate.Limited() || successes && x.free {
		return
	}
	t := &taken{book: r.ofPlan(rate), who: rate.By.Subject(x.by.account, x.by.key, x.by.address)}
	t.receipt = t.book.Replay(t.who, time.UnixMicro(x.us))
	if successes && e != nil {
		e.taken = t
	}
}
