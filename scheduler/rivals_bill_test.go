package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"time"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// Quotas of the rivals' world: of acc_a in renders, of acc_b in credits. acc_c
// has none.
const (
	simRenders = 5
	simCalls   = 8
)

// accounts is the judge's own account of the bills, from the frames that were
// stored and from nothing else.
type accounts struct {
	limits   map[string]int64
	spent    map[period]int64
	reserved map[period]int64
	ids      map[string]bool // of charges
	costs    map[string]int64
	told     map[string]bool
	full     bool // some quota was used up
	back     int  // lost results that were paid back
}

func newAccounts() *accounts {
	return &accounts{
		limits: map[string]int64{"acc_a": 120 * simRenders, "acc_b": 120 * simCalls},
		spent:  map[period]int64{}, reserved: map[period]int64{}, ids: map[string]bool{}, costs: map[string]int64{}, told: map[string]bool{},
	}
}

// within: what is used and what is under way is never more than the quota, and
// never less than nothing. A frame is one step: calls are summed up in it.
func (a *accounts) within(j *judge, frame uint64) {
	for p, spent := range a.spent {
		limit, limited := a.limits[p.account]
		if sum := spent + a.reserved[p]; limited && sum > limit {
			j.fail("I7: frame %d brings %s to %d units in period %d, over %d", frame, p.account, sum, p.day, limit)
		}
		if spent < 0 {
			j.fail("I7: frame %d brings %s to %d units in period %d", frame, p.account, spent, p.day)
		}
		a.full = a.full || limited && spent == limit
	}
}

func (a *accounts) accepted(j *judge, f *pb.Frame, acc *pb.Accepted) {
	who := acc.Envelope.Account
	want := int64(120)
	if who == "acc_b" {
		want = 0
	}
	month := time.UnixMicro(f.TimeUs).UTC()
	first := time.Date(month.Year(), month.Month(), 1, 0, 0, 0, 0, time.UTC)
	if acc.Units != want || int64(acc.Period) != first.Unix()/86400 {
		j.fail("%s is accepted for %d units in period %d at %s", acc.Envelope.Id, acc.Units, acc.Period, month)
	}
	p := period{who, acc.Period}
	a.reserved[p] += acc.Units
}

func (a *accounts) finished(j *judge, o *judged, fin *pb.Finished) {
	p, want := period{o.account, o.period}, int64(0)
	if fin.Job.State == "succeeded" && !fin.Job.Cached {
		want = o.units
	}
	if fin.Units != want || fin.Period != o.period || fin.Job.Billable != (want > 0) || a.ids[fin.Job.Id] {
		j.fail("I7: %s ends as %s for %d units in %d, accepted for %d in %d", fin.Job.Id, fin.Job.State, fin.Units, fin.Period, o.units, o.period)
	}
	a.reserved[p] -= o.units
	a.spent[p] += fin.Units
	a.ids[fin.Job.Id], a.costs[fin.Job.Id] = true, fin.Units
}

func (a *accounts) charged(j *judge, c *pb.Charged) {
	if a.ids[c.Id] {
		j.fail("I7: charge %s is there twice", c.Id)
	}
	a.ids[c.Id] = true
	p := period{c.Account, c.Period}
	if c.Reason == reasonLost {
		id := c.Id[len(lostPrefix):]
		if o := j.jobs[id]; o == nil || !o.ended || o.account != c.Account || o.period != c.Period || a.costs[id] != -c.Units || c.Units == 0 {
			j.fail("I7: %v gives back what was not paid", c)
		}
		a.back++
	} else if c.Account != "acc_b" || c.Units == 0 || c.Count < 1 {
		j.fail("I7: charged %v", c)
	}
	a.spent[p] += c.Units
}

func (a *accounts) reached(j *judge, q *pb.QuotaReached) {
	p := period{q.Account, q.Period}
	key := fmt.Sprint(p, q.Percent)
	if a.told[key] || q.Limit != a.limits[p.account] || q.Used > q.Limit || q.Used*100 < q.Limit*int64(q.Percent) {
		j.fail("%v is told, before: %t", q, a.told[key])
	}
	a.told[key] = true
}

// archived: the archive's months are the sums of its charges, and of the
// ledger's.
func (a *accounts) archived(j *judge, s *shelf) {
	filed := map[period]int64{}
	for _, c := range s.charges {
		filed[period{c.Account, int32(c.Period.Unix() / 86400)}] += c.Units
	}
	for p, units := range a.spent {
		if filed[p] != units {
			j.fail("I7: %s used %d units in %d, and is filed with %d", p.account, units, p.day, filed[p])
		}
	}
}

// remembered: a leader, with nothing on its way, knows what the ledger says.
func (a *accounts) remembered(j *judge, l *leader) {
	for p, units := range a.spent {
		used, reserved, known := l.bill(p)
		if known && used != units || reserved != a.reserved[p] {
			j.fail("I7: the leader has %s at %d used and %d reserved in %d, the ledger at %d and %d", p.account, used, reserved, p.day, units, a.reserved[p])
		}
	}
}

// call has a replica count requests of acc_b: some are given back.
func (w *world) call(l *leader) {
	view := l.s.tenants.view(w.ctx, "acc_b")
	l.enter()
	defer l.leave()
	if l.over {
		return
	}
	l.refill() // of an account that was not known a moment ago
	if view.fault != nil {
		return
	}
	for range 1 + w.rng.IntN(4) {
		c := &pb.Count{Class: "api", Account: "acc_b", Units: []int64{120, 120, 60, 4}[w.rng.IntN(4)], Reason: "call"}
		if f := l.charge(view, c); f == nil && w.rng.IntN(4) == 0 {
			c.Units = -c.Units
			l.charge(view, c)
		}
	}
}

// lostReport is what a replica has found out of a lost artifact, and when.
type lostReport struct {
	count *pb.Count
	at    time.Time
}

// lose has a replica find that a result is gone. It asks the archive what that
// cost, and reports it, sooner or later.
func (w *world) lose() {
	ids := slices.Sorted(maps.Keys(w.log.judge.jobs))
	if len(ids) == 0 {
		return
	}
	id := ids[w.rng.IntN(len(ids))]
	paid, charged := w.shelf.charges[id]
	if _, back := w.shelf.charges[lostPrefix+id]; back {
		return
	}
	c := &pb.Count{Account: w.log.judge.jobs[id].account, Reason: "lost", Event: lostPrefix + id}
	if charged {
		c.Units, c.Period = -paid.Units, int32(paid.Period.Unix()/86400)
	}
	w.lost = append(w.lost, &lostReport{c, time.Now()})
	if w.rng.IntN(2) == 0 { // another replica has found it too
		w.lost = append(w.lost, &lostReport{c, time.Now()})
	}
}

func (w *world) reportLost(l *leader) {
	if len(w.lost) == 0 {
		return
	}
	r := w.lost[0]
	w.lost = w.lost[1:]
	if time.Since(r.at) > 10*time.Second {
		return // its request has gone
	}
	view := l.s.tenants.view(w.ctx, r.count.Account)
	l.enter()
	defer l.leave()
	if !l.over {
		l.refill()
		l.charge(view, r.count)
	}
}

// forget has a process forget the charges that the archive has had for long
// enough. The jobs it keeps, so that it can be compared with a fold.
func (w *world) forget(n *simNode) {
	f := n.f
	if n.l != nil {
		f = n.l.board.facts
	}
	upTo := min(n.s.filed.upTo(n.s.projected.Load(), time.Now()), f.seq)
	n.s.tenants.absorb(f, upTo)
	f.bills.prune(upTo)
}
