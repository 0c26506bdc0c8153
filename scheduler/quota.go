package scheduler

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// quotaSteps are the shares of a quota, in percent, that an account is told of
// when its settled usage comes to them, once in each period.
var quotaSteps = []uint32{80, 100}

// bill is what an account has used in a period: charges that are settled, of
// which the archive has summed up some, and what its unfinished jobs will cost
// if they succeed. known is false while nobody can tell what the archive has.
func (l *leader) bill(p period) (used, reserved int64, known bool) {
	f := l.board.facts
	base := l.s.tenants.usageOf(p.account, f)
	if base != nil {
		used, known = base.units[p.day], true
	}
	if b := f.bills.of[p]; b != nil {
		reserved = b.reserved
		if known {
			used += b.after(base.seq)
		}
	}
	return used, reserved, known
}

// periodAt is the period of an account that a moment of the ledger's time lies
// in, and when it ends.
func periodAt(id string, t tenantView, us int64) (p period, ends time.Time) {
	start, end := t.plan.Quota.Period.Span(time.UnixMicro(us), t.billing)
	return period{id, account.DayNumber(start)}, end
}

// overQuota refuses what would bring an account over its quota. All that is
// under way counts as if it succeeded, so the bound holds whatever becomes of
// it; and all decisions are made here, one after the other, so it holds for any
// number of replicas. A plan with a price for more refuses nothing.
func (l *leader) overQuota(p period, t tenantView, units int64, ends time.Time) *fault.Error {
	q := t.plan.Quota
	if units <= 0 || !q.Limited() || q.Overage.Allowed {
		return nil
	}
	used, reserved, known := l.bill(p)
	switch {
	case !known:
		return fault.New(fault.Unavailable, "the account's usage cannot be read at the moment; try again")
	case used+reserved+units <= q.Units():
		return nil
	}
	underWay := ""
	if reserved > 0 {
		underWay = ", with what is under way"
	}
	return &fault.Error{
		Kind: fault.QuotaExceeded, Code: "quota_exceeded", Policy: account.LimitQuota, RetryAfter: max(ends.Sub(l.now), time.Second),
		Quota: &fault.Quota{Used: used + reserved, Limit: q.Units(), ResetsAt: ends, Unit: string(q.Unit)},
		Detail: fmt.Sprintf("the account has used %s of the %d %ss of its plan%s; the quota begins anew at %s",
			creditText(used+reserved), q.Limit, q.Unit, underWay, ends.Format(time.RFC3339)),
	}
}

// creditText is units as a client counts them.
func creditText(units int64) string {
	return strconv.FormatFloat(float64(units)/account.UnitsPerCredit, 'f', -1, 64)
}

// settled follows a charge: when an account's usage has come to a share of its
// quota, it is told, once. Where its usage is not known, the next charge finds
// out.
func (l *leader) settled(p period, reason string, units int64) {
	if units <= 0 {
		if units < 0 {
			l.s.metrics.givenBack.WithLabelValues(reason).Add(float64(-units))
		}
		return
	}
	l.s.metrics.charged.WithLabelValues(reason).Add(float64(units))
	plan, billing, known := l.s.tenants.billed(p.account)
	if !known || !plan.Quota.Limited() {
		return
	}
	used, _, known := l.bill(p)
	if !known {
		return
	}
	limit := plan.Quota.Units()
	for _, percent := range quotaSteps {
		if used*100 < limit*int64(percent) || l.told(p, percent) {
			continue
		}
		_, ends := plan.Quota.Period.Span(account.DayOf(p.day), billing)
		l.emit(&pb.Event{Fact: &pb.Event_QuotaReached{QuotaReached: &pb.QuotaReached{
			Account: p.account, Period: p.day, Percent: percent, Used: used, Limit: limit, ResetsUs: wire.Micros(ends),
		}}})
		l.s.log.Info("quota reached", "account", p.account, "percent", percent)
	}
}

// told reports whether an account knows that it came to a share of its quota.
func (l *leader) told(p period, percent uint32) bool {
	if b := l.board.bills.of[p]; b != nil && slices.ContainsFunc(b.told, func(s step) bool { return s.percent == percent }) {
		return true
	}
	base := l.s.tenants.usageOf(p.account, l.board.facts)
	return base != nil && slices.Contains(base.told[p.day], percent)
}

// quotaMeter is how much an account has left of its quota; nil when its plan
// has none, or nobody knows.
func (l *leader) quotaMeter(id string) *pb.Meter {
	plan, billing, known := l.s.tenants.billed(id)
	if !known || !plan.Quota.Limited() {
		return nil
	}
	start, end := plan.Quota.Period.Span(time.UnixMicro(l.nowUS()), billing)
	used, reserved, known := l.bill(period{id, account.DayNumber(start)})
	if !known {
		return nil
	}
	limit := plan.Quota.Units()
	return &pb.Meter{
		Kind: pb.Meter_KIND_QUOTA, Name: account.LimitQuota, Limit: limit, Remaining: max(0, limit-used-reserved),
		WindowS: int64(end.Sub(start) / time.Second), ResetUs: wire.Micros(end),
	}
}
