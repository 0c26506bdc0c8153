package scheduler

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/scheduler/limit"
)

// takeCounts answers reports of HTTP requests. Those of accounts that nobody
// has read yet wait for the archive by themselves.
func (l *leader) takeCounts(ctx context.Context, f *frontSession, reports []*pb.Count) {
	ctx = context.WithoutCancel(ctx) // what is read of an account is of use to others than this stream
	var known, strange []*pb.Count
	for _, c := range reports {
		if c.Account == "" || l.s.tenants.knows(c.Account) {
			known = append(known, c)
		} else {
			strange = append(strange, c)
		}
	}
	if len(strange) > 0 {
		l.s.tenants.wg.Go(func() { l.countAll(ctx, f, strange) })
	}
	l.countAll(ctx, f, known)
}

func (l *leader) countAll(ctx context.Context, f *frontSession, reports []*pb.Count) {
	var ids []string
	for _, c := range reports {
		if c.Account != "" {
			ids = append(ids, c.Account)
		}
	}
	tenants := l.s.tenants.views(ctx, ids)
	l.enter()
	defer l.leave()
	if l.over {
		return
	}
	for _, c := range reports {
		a := &pb.Answer{Call: c.Call, Answer: &pb.Answer_Counted{Counted: &pb.Counted{}}}
		if err := l.count(tenants[c.Account], c); err != nil {
			a.Answer = &pb.Answer_Fault{Fault: wire.Fault(err)}
		}
		a.Meters = l.meters(c.Account, c.Key, c.Address)
		if m := l.badKeyMeter(c); m != nil {
			a.Meters = append(a.Meters, m)
		}
		// At once: what is counted is not in the ledger, and a charge that a takeover
		// loses is free.
		f.out.put(proto.Size(a), func(m *pb.FrontDown) { m.Answers = append(m.Answers, a) })
	}
}

// count holds one request against the limits of its class, and charges it where
// the plan charges for calls.
func (l *leader) count(t tenantView, c *pb.Count) *fault.Error {
	if err := l.barred(c.Account, c.Key, c.Address); err != nil {
		return err
	}
	if err := l.countRequest(c); err != nil {
		return err
	}
	if c.BadKey {
		return l.countBadKey(c)
	}
	return l.charge(t, c)
}

// countRequest takes one of every limit of the class, also where one of them
// refuses: they count what is asked for.
func (l *leader) countRequest(c *pb.Count) *fault.Error {
	var full account.HTTPLimit
	var longest limit.Left
	var cooling *fault.Error
	for _, h := range l.policy.HTTPLimits {
		if h.Class != c.Class {
			continue
		}
		who := h.By.Subject(c.Account, c.Key, c.Address)
		if who == (account.Subject{}) {
			continue
		}
		if f := l.cooling(who); f != nil && (cooling == nil || f.RetryAfter > cooling.RetryAfter) {
			cooling = f
		}
		receipt, left := l.rates.ofRequests(h).Take(who, l.clock())
		if receipt == 0 && left.Wait > longest.Wait {
			full, longest = h, left
		}
	}
	if cooling != nil {
		return cooling
	}
	if longest.Wait == 0 {
		return nil
	}
	return l.throttled(full.Name(), longest,
		fmt.Sprintf("%s may make %d requests of this kind in each window of %d s", whose(full.By), full.Requests, full.Window/time.Second))
}

// countBadKey lets a wrong key cost its address a token of the anonymous
// clients' rate: guessing keys is not free.
func (l *leader) countBadKey(c *pb.Count) *fault.Error {
	plan, ok := l.s.tenants.anonymousPlan()
	if !ok || !plan.Rate.Limited() || c.Address == "" {
		return nil
	}
	r := plan.Rate
	who := r.By.Subject("", "", c.Address)
	if r.By == account.ByAccount {
		who = account.Subject{Kind: account.SubjectAccount, ID: account.AnonymousIDOf(c.Address)}
	}
	if f := l.cooling(who); f != nil {
		return f
	}
	receipt, left := l.rates.ofPlan(r).Take(who, l.clock())
	if receipt == 0 {
		return l.throttled(account.LimitRate, left, rateText(r)+", and keys that are none count")
	}
	return nil
}

// badKeyMeter is what the address of a bad key has left of the rate that it was
// charged to; nil where none was.
func (l *leader) badKeyMeter(c *pb.Count) *pb.Meter {
	r, who, ok := l.rateOfGuesses(c)
	if !ok {
		return nil
	}
	return meterOf(pb.Meter_KIND_RATE, account.LimitRate, l.rates.ofPlan(r).Left(who, l.clock()))
}

// rateOfGuesses is the rate that a bad key is charged to, and whom it counts.
func (l *leader) rateOfGuesses(c *pb.Count) (r account.Rate, who account.Subject, ok bool) {
	plan, open := l.s.tenants.anonymousPlan()
	r = plan.Rate
	if !c.BadKey || !open || !r.Limited() || c.Address == "" {
		return r, who, false
	}
	if r.By == account.ByAccount {
		return r, account.Subject{Kind: account.SubjectAccount, ID: account.AnonymousIDOf(c.Address)}, true
	}
	return r, r.By.Subject("", "", c.Address), true
}

// limitLabel is what a limit is called in metrics.
func limitLabel(name string) string {
	if account.LimitsRequests(name, "") {
		return "requests"
	}
	return name
}
