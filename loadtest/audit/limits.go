package audit

import (
	"math"
	"slices"
	"time"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// price is what a fresh success costs, in 1/120 credit.
const price = 120

// account is one account in one period.
type account struct {
	id     string
	period int32 // its first day, in days since 1970-01-01 UTC
}

// spending is what an account was charged in a period, what its unfinished jobs
// may cost, and which shares of the quota it was told of.
type spending struct {
	charged, reserved int64
	told              []uint32
}

func (b *books) spending(of account) *spending {
	s := b.spent[of]
	if s == nil {
		s = new(spending)
		b.spent[of] = s
	}
	return s
}

// monthOf is the first day of the calendar month of a moment.
func monthOf(us int64) int32 {
	at := time.UnixMicro(us).UTC()
	return dayOf(time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC))
}

func dayOf(at time.Time) int32 { return int32(at.Unix() / (24 * 60 * 60)) }

// reserve: a job belongs to the month of its acceptance, and what it will cost
// if it succeeds is the plan's price; nothing, where it is answered from the
// cache.
func (w *walk) reserve(h *history) {
	acc := h.accepted
	id := acc.Envelope.Id
	want := int64(price)
	if w.Rules.Plans[acc.Envelope.Account].PerCall || acc.Place == pb.Place_PLACE_CACHED {
		want = 0
	}
	if acc.Units != want {
		w.wrong("I7", "%s is accepted for %d units, its plan's price is %d", id, acc.Units, want)
	}
	if month := monthOf(h.timeUS); acc.Period != month {
		w.wrong("I7", "%s is accepted into the period of day %d, that of its acceptance is %d", id, acc.Period, month)
	}
	if acc.Place != pb.Place_PLACE_FOLLOWER {
		w.hold(h, h.seq)
	}
}

// hold reserves a job's price. Of a picture and those that follow it one at most
// is charged, so a follower has nothing reserved unless it is rendered itself.
func (w *walk) hold(h *history, seq uint64) {
	if h.reserves {
		return
	}
	h.reserves = true
	acc := h.accepted
	of := account{acc.Envelope.Account, acc.Period}
	w.books.spending(of).reserved += acc.Units
	w.touched[of] = true
	w.over(of, "with "+acc.Envelope.Id+", in frame", seq)
}

// bill: what a job costs is what was reserved, if it is a fresh success, and
// nothing else.
func (w *walk) bill(h *history, fin *pb.Finished) {
	acc, id := h.accepted, fin.Job.Id
	want := int64(0)
	if fin.Job.State == "succeeded" && !fin.Job.Cached {
		want = acc.Units
	}
	if fin.Units != want || fin.Job.Billable != (want > 0) {
		w.wrong("I7", "%s ended as %s, cached %t: billable %t, %d units; want %d", id, fin.Job.State, fin.Job.Cached, fin.Job.Billable, fin.Units, want)
	}
	if fin.Period != acc.Period {
		w.wrong("I7", "%s is charged to the period of day %d, it was accepted in that of %d", id, fin.Period, acc.Period)
	}
	of := account{acc.Envelope.Account, acc.Period}
	s := w.books.spending(of)
	if h.reserves {
		s.reserved -= acc.Units
	}
	s.charged += fin.Units
	w.touched[of] = true
}

// charge adds a charge that is no job's end, once.
func (w *walk) charge(c *pb.Charged) {
	if w.books.charges[c.Id] != nil {
		return
	}
	w.books.charges[c.Id] = c
	of := account{c.Account, c.Period}
	w.books.spending(of).charged += c.Units
	w.touched[of] = true
}

// over cries out where what was charged and what may be is more than the quota.
func (w *walk) over(of account, what string, seq uint64) {
	s := w.books.spending(of)
	if limit := w.Rules.Plans[of.id].Quota; limit > 0 && s.charged+s.reserved > limit {
		w.wrong("I7", "%s %d: %s has used %d units and reserved %d, its quota is %d", what, seq, of.id, s.charged, s.reserved, limit)
	}
}

// withinQuota looks at whoever the frame charged. What a frame sums up of calls
// stands where the first of them came, so they are judged at its end.
func (w *walk) withinQuota(m Message) {
	for of := range w.touched {
		w.over(of, "at the end of frame", m.Seq)
		if s := w.books.spending(of); s.charged < 0 {
			w.wrong("I7", "frame %d: %s is given back %d units more than it was charged", m.Seq, of.id, -s.charged)
		}
	}
	clear(w.touched)
}

// reached: an account is told of a share of its quota once, when it has come
// to it.
func (w *walk) reached(m Message, q *pb.QuotaReached) {
	s, limit := w.books.spending(account{q.Account, q.Period}), w.Rules.Plans[q.Account].Quota
	switch {
	case slices.Contains(s.told, q.Percent):
		w.wrong("I7", "frame %d: %s is told of %d %% of its quota again", m.Seq, q.Account, q.Percent)
	case limit == 0 || q.Limit != limit || q.Used > limit || q.Used*100 < limit*int64(q.Percent):
		w.wrong("I7", "frame %d: %s is told of %d %%, with %d of %d units; its quota is %d", m.Seq, q.Account, q.Percent, q.Used, q.Limit, limit)
	}
	s.told = append(s.told, q.Percent)
}

// shared: a job that nobody rendered has the artifact of another one of its
// account that is the same picture, succeeded before it, and is not too old.
func (w *walk) shared(m Message, f *pb.Frame, id string, h *history, fin *pb.Finished) {
	w.report.Cached++
	env := h.accepted.Envelope
	place := h.accepted.Place
	if !fin.Job.Cached || place != pb.Place_PLACE_CACHED && place != pb.Place_PLACE_FOLLOWER {
		w.wrong("I6", "frame %d: %s succeeded and nobody rendered it", m.Seq, id)
		return
	}
	source, tok, err := leaseOf(fin.Job.Result.GetObject())
	of := w.books.jobs[source]
	switch {
	case err != nil || of == nil || of.end == nil || of.end.Token != tok || of.end.Job.State != "succeeded" || of.end.Job.Cached:
		w.wrong("I6", "frame %d: %s is answered with %s, which is no job's result", m.Seq, id, fin.Job.Result.GetObject())
	case of.accepted.Envelope.Account != env.Account:
		w.wrong("I6", "frame %d: %s of %s is answered with %s of %s", m.Seq, id, env.Account, source, of.accepted.Envelope.Account)
	case len(env.CacheKey) == 0 || string(of.accepted.Envelope.CacheKey) != string(env.CacheKey):
		w.wrong("I6", "frame %d: %s is answered with %s, which is another picture", m.Seq, id, source)
	case place == pb.Place_PLACE_CACHED && time.Duration(f.TimeUs-of.end.Job.FinishedUs)*time.Microsecond > w.Rules.Plans[env.Account].Cache:
		w.wrong("I6", "frame %d: %s is answered with %s, which is too old", m.Seq, id, source)
	}
}

// usages: what an account is told at the end is what its ledger comes to, in
// the body and in the headers.
func (a *auditor) usages() {
	told := map[string]bool{}
	for _, u := range a.Usages {
		told[u.Account] = true
		plan := a.Rules.Plans[u.Account]
		var units int64
		for of, s := range a.books.spent {
			if of.id == u.Account { // a run is shorter than a month, and may lie in two
				units = max(units, s.charged)
			}
		}
		// A call that asks for its usage may be charged itself, after it was read.
		if plan.PerCall && u.Units > units || !plan.PerCall && u.Units != units {
			a.wrong("I7", "%s is told that it used %d units, the charges are %d", u.Account, u.Units, units)
		}
		if limit := plan.Quota / price; u.Limit != limit {
			a.wrong("I7", "%s is told of a quota of %d, it is %d", u.Account, u.Limit, limit)
		}
		if plan.Quota == 0 {
			if u.Headers != nil {
				a.wrong("I7", "%s has no quota and headers of one", u.Account)
			}
			continue
		}
		left := max(plan.Quota-u.Units, 0) / price
		if u.Remaining != left && !plan.PerCall {
			a.wrong("I7", "%s is told that %d are left, it used %d units of %d", u.Account, u.Remaining, u.Units, plan.Quota)
		}
		if h := u.Headers; h != nil && (h.Limit != u.Limit || h.Remaining != u.Remaining) {
			a.wrong("I7", "%s is told in headers that %d of %d are left, and in the body %d of %d", u.Account, h.Remaining, h.Limit, u.Remaining, u.Limit)
		}
	}
	for id, plan := range a.Rules.Plans {
		if !told[id] {
			a.wrong("I7", "%s was not asked what it used", id)
		}
		for of, s := range a.books.spent {
			if of.id == id && plan.Quota > 0 {
				a.report.Spent[id] = max(a.report.Spent[id], int(100*s.charged/plan.Quota))
			}
		}
	}
}

// rates: between any two acceptances of an account no more were accepted than
// its rate lets through. A record is decided after its frame was begun, by the
// frame's own time, and before it was stored: the first of them counts from the
// one and the last up to the other. A leader that was a standby while the one
// before it led goes on where that was; one that was not may forget it all.
func (a *auditor) rates() {
	by := map[string][]*history{}
	for _, h := range a.books.jobs {
		if env := h.accepted.Envelope; a.Rules.Plans[env.Account].Rate.Requests > 0 && !env.Revalidate {
			by[env.Account] = append(by[env.Account], h)
		}
	}
	for id, all := range by {
		slices.SortFunc(all, func(x, y *history) int { return int(int64(x.order) - int64(y.order)) })
		if rate := a.Rules.Plans[id].Rate; rate.Burst > 0 {
			a.bucket(id, rate, all)
		} else {
			a.fixed(id, rate, all)
		}
	}
}

// bucket: n ≤ burst + rate × time, for any n that follow each other.
func (a *auditor) bucket(id string, r Rate, all []*history) {
	perUS := float64(r.Requests) / float64(r.Window.Microseconds())
	most, first, reign, began := math.Inf(-1), 0, -1, all[0].timeUS
	for i, h := range all {
		if h.reign != reign && a.cold(h.reign) {
			most = math.Inf(-1)
		}
		reign = h.reign
		// Of all that began before: the one since which the most came.
		if since := perUS*float64(h.timeUS-began) - float64(i); since > most {
			most, first = since, i
		}
		n := float64(i+1) + most - perUS*float64(h.stored.UnixMicro()-began)
		if n > float64(r.Burst)+1e-6 {
			a.wrong("rate", "%d of %s were accepted in %s, from %s in reign %d to %s in reign %d: %.1f more than %d in %s and a burst of %d",
				i+1-first, id, h.stored.Sub(time.UnixMicro(all[first].timeUS)).Round(time.Millisecond), all[first].accepted.Envelope.Id, all[first].reign+1,
				h.accepted.Envelope.Id, h.reign+1, n-float64(r.Burst), r.Requests, r.Window, r.Burst)
		}
	}
}

// fixed: no window has more than its number; those that may lie in either of two
// are left out.
func (a *auditor) fixed(id string, r Rate, all []*history) {
	type slot struct {
		window int64
		part   int // counts cold starts: each may forget a window
	}
	counts, part, reign := map[slot]int{}, 0, -1
	for _, h := range all {
		if h.reign != reign && a.cold(h.reign) {
			part++
		}
		reign = h.reign
		window := r.Window.Microseconds()
		at := slot{h.timeUS / window, part}
		if h.stored.UnixMicro()/window != at.window {
			continue
		}
		if counts[at]++; counts[at] > r.Requests {
			a.wrong("rate", "%s is number %d of %s in a window of %s, which has %d", h.accepted.Envelope.Id, counts[at], id, r.Window, r.Requests)
		}
	}
}

// hotAfter is how long a scheduler must have run beside the leader before it
// that it counts as a standby which saw what was accepted.
const hotAfter = 3 * time.Second

// cold reports whether a reign's leader may have seen nothing of the reign
// before: its process was started too late for that.
func (a *auditor) cold(n int) bool {
	if n <= 0 {
		return true
	}
	r := a.books.reigns[n]
	var started time.Time
	for _, s := range a.Starts {
		if (s.Address == r.address || s.Address == "") && s.At.Before(r.began) && s.At.After(started) {
			started = s.At
		}
	}
	return started.IsZero() || started.Add(hotAfter).After(r.ended)
}
