package scheduler

import (
	"fmt"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/scheduler/limit"
)

// rates is what a reign has counted of submissions and of requests. It is not
// in the ledger: a hot standby takes it over from what it saw accepted, a cold
// start begins with nothing. It is guarded by the leader's lock.
type rates struct {
	plans    map[account.Rate]*limit.Book
	requests map[account.HTTPLimit]*limit.Book
	turned   time.Time
	// What was accepted from since on, until another one's reign ended, is known;
	// zero: all that ever was.
	since, until time.Time
}

func newRates() rates {
	return rates{plans: map[account.Rate]*limit.Book{}, requests: map[account.HTTPLimit]*limit.Book{}}
}

// ofPlan is the book of a plan's rate. Plans with the same rate share it: their
// accounts and keys are others, and an address has one bucket.
func (r *rates) ofPlan(rate account.Rate) *limit.Book {
	b := r.plans[rate]
	if b == nil {
		b = limit.NewBook(rate)
		if !r.since.IsZero() && r.until.Sub(r.since) >= limit.Memory(rate) {
			b.Since(r.since) // whoever was quiet since then has a full bucket all the same
		}
		r.plans[rate] = b
	}
	return b
}

func (r *rates) ofRequests(h account.HTTPLimit) *limit.Book {
	b := r.requests[h]
	if b == nil {
		b = limit.NewBook(account.Rate{Algorithm: account.FixedWindow, Requests: h.Requests, Window: h.Window})
		r.requests[h] = b
	}
	return b
}

// ratesTurn is how often books are looked through for what is as good as new.
const ratesTurn = time.Second

// turn forgets what is as good as new, and rates that the policy has not any
// more.
func (r *rates) turn(now time.Time) {
	if now.Sub(r.turned) < ratesTurn {
		return
	}
	r.turned = now
	for rate, b := range r.plans {
		if !b.Turn(now) {
			delete(r.plans, rate)
		}
	}
	for h, b := range r.requests {
		if !b.Turn(now) {
			delete(r.requests, h)
		}
	}
}

// taken is what a submission took of its plan's rate.
type taken struct {
	book    *limit.Book
	who     account.Subject
	receipt limit.Receipt
}

// deciding is the record that is being decided.
type deciding struct {
	env *pb.Envelope
	// What it took of a rate that counts fresh successes alone: given back if it
	// is refused, or kept with the job; nil: nothing, or a rate that keeps all.
	taken *taken
}

// clock is the time that rates and blocks are counted by: the ledger's.
func (l *leader) clock() time.Time { return time.UnixMicro(l.nowUS()) }

// chargeRate takes one of what the plan's rate has left. Where the rate counts
// all submissions it stays so, whatever becomes of this one.
func (l *leader) chargeRate(rate account.Rate, env *pb.Envelope) *fault.Error {
	if !rate.Limited() || env.Revalidate {
		return nil
	}
	l.replayLate(env.Account, rate)
	book, who := l.rates.ofPlan(rate), rate.By.Subject(env.Account, env.Key, env.Address)
	if f := l.cooling(who); f != nil {
		return f
	}
	receipt, left := book.Take(who, l.clock())
	if receipt == 0 {
		return l.throttled(account.LimitRate, left, rateText(rate))
	}
	if rate.Charge == account.ChargeSuccess {
		l.deciding.taken = &taken{book, who, receipt}
	}
	return nil
}

// giveBack undoes what a submission took of its rate; c may be nil.
func (c *taken) giveBack() {
	if c != nil {
		c.book.GiveBack(c.who, c.receipt)
	}
}

// throttled is the refusal of a limit that has nothing left.
func (l *leader) throttled(name string, left limit.Left, text string) *fault.Error {
	l.s.metrics.throttled.WithLabelValues(limitLabel(name)).Inc()
	return &fault.Error{
		Kind: fault.RateLimited, Code: "rate_limit_exceeded", Policy: name,
		RetryAfter: wholeMillis(left.Wait),
		Detail:     text + "; wait for as long as Retry-After says",
	}
}

// rateText is what a plan allows, in words.
func rateText(r account.Rate) string {
	if r.Algorithm == account.FixedWindow {
		return fmt.Sprintf("the plan lets %s submit %d in each window of %d s", whose(r.By), r.Requests, r.Window/time.Second)
	}
	return fmt.Sprintf("the plan lets %s submit %d in %d s, and %d at once", whose(r.By), r.Requests, r.Window/time.Second, r.Burst)
}

// whose names what a limit counts together.
func whose(by account.By) string {
	switch by {
	case account.ByIP:
		return "an address"
	case account.ByKey:
		return "a key"
	}
	return "an account"
}
