package scheduler

import (
	"time"

	"github.com/tintype/tintype/pkg/account"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/scheduler/limit"
)

// asker is who is told how much of its limits is left.
type asker struct{ account, key, address string }

// counts reports whether a limit by this counts what the asker does: a look-up
// need not say from where it comes.
func (a asker) counts(by account.By) bool {
	return a.address != "" || by == account.ByAccount && a.account != "" || by == account.ByKey && a.key != ""
}

// meters is how much is left of all that bounds an account, after what has been
// decided so far. A limit that there is not has none, and nor has one of an
// account whose plan nobody could read yet.
func (l *leader) meters(id, key, address string) []*pb.Meter {
	a, now := asker{id, key, address}, l.clock()
	var out []*pb.Meter
	for _, h := range l.policy.HTTPLimits {
		if a.counts(h.By) {
			left := l.rates.ofRequests(h).Left(h.By.Subject(id, key, address), now)
			out = append(out, meterOf(pb.Meter_KIND_REQUESTS, h.Name(), left))
		}
	}
	if id == "" {
		return out
	}
	plan, known := l.s.tenants.planOf(id)
	if !known {
		return out
	}
	if r := plan.Rate; r.Limited() && a.counts(r.By) {
		out = append(out, meterOf(pb.Meter_KIND_RATE, account.LimitRate, l.rates.ofPlan(r).Left(r.By.Subject(id, key, address), now)))
	}
	if m := l.quotaMeter(id); m != nil {
		out = append(out, m)
	}
	return append(out, l.threadsMeter(id, key, plan))
}

// metersOf is meters for whoever asked, if that was said.
func (l *leader) metersOf(a asker) []*pb.Meter {
	if a == (asker{}) {
		return nil
	}
	return l.meters(a.account, a.key, a.address)
}

func meterOf(kind pb.Meter_Kind, name string, left limit.Left) *pb.Meter {
	return &pb.Meter{
		Kind: kind, Name: name, Limit: left.Limit, Remaining: left.Remaining,
		WindowS: int64((left.Window + time.Second - 1) / time.Second), ResetUs: left.Reset.UnixMicro(),
	}
}

// threadsMeter is how many slots an account has, or this key of it, and how many
// are free.
func (l *leader) threadsMeter(id, key string, plan account.Plan) *pb.Meter {
	m := &pb.Meter{Kind: pb.Meter_KIND_THREADS, Name: account.LimitThreads, Limit: int64(l.threads(plan))}
	m.Remaining = m.Limit
	if t := l.board.holder(id, key); t != nil {
		m.Remaining = max(0, m.Limit-int64(t.busy))
	}
	return m
}
