package scheduler

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/store"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func renders(limit int64) account.Quota {
	return account.Quota{Unit: account.UnitRender, Limit: limit, Period: account.MonthUTC, Status: 402}
}

// silentShelf says nothing of accounts either while it is away.
type silentShelf struct{ awayShelf }

func (a *silentShelf) Tenants(ctx context.Context, ids []string, since time.Time) ([]store.Tenant, error) {
	if a.away.Load() {
		return nil, errors.New("away")
	}
	return a.awayShelf.Tenants(ctx, ids, since)
}

// bill is what the leader says of the present month.
func (b *bubble) bill(s *Scheduler) (used, reserved int64) {
	b.t.Helper()
	synctest.Wait()
	l := s.leader.Load()
	l.enter()
	defer l.leave()
	if err := l.board.check(); err != nil {
		b.t.Error(err)
	}
	view := l.s.tenants.view(b.ctx, "acc_acme")
	p, _ := periodAt("acc_acme", view, l.nowUS())
	used, reserved, known := l.bill(p)
	if !known {
		b.t.Error("nobody knows what the account used")
	}
	return used, reserved
}

func (b *bubble) wantBill(s *Scheduler, when string, used, reserved int64) {
	b.t.Helper()
	if gotUsed, gotReserved := b.bill(s); gotUsed != 120*used || gotReserved != 120*reserved {
		b.t.Errorf("%s: %d units used and %d reserved, want %d and %d renders", when, gotUsed, gotReserved, used, reserved)
	}
}

// A quota counts what is under way as if it succeeded, gives back what does
// not, and holds through a change of leader and while the archive is away. A
// new month begins anew; what was accepted before it is charged to the old one.
func TestQuota(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		time.Sleep(31*24*time.Hour - time.Minute) // a minute before February
		away := &silentShelf{awayShelf{shelf: b.archive}}
		b.over = map[string]Archive{"a": away, "b": away}
		cfg := Config{Plans: []account.Plan{testPlan(renders(3))}}
		s, kill := b.start("a", cfg)
		api := b.front(s)
		refused := func(when string) *pb.Fault {
			t.Helper()
			f := decision(api, b.submit()).GetRefused()
			if f.GetKind() != "quota_exceeded" || f.GetCode() != "quota_exceeded" || f.GetPolicy() != "quota" {
				t.Fatalf("%s: %v, want a refusal for the quota", when, f)
			}
			return f
		}
		accepted := func(when string) string {
			t.Helper()
			id := b.submit()
			if d := decision(api, id); d.GetAccepted() == nil {
				t.Fatalf("%s: %v, want it accepted", when, d)
			}
			return id
		}
		first, second, third := accepted("first"), accepted("second"), accepted("third")
		f := refused("with three under way")
		if q := f.Quota; q.GetUsed() != 360 || q.GetLimit() != 360 || q.GetUnit() != "render" || q.GetResetsUs() != time.Date(2000, 2, 1, 0, 0, 0, 0, time.UTC).UnixMicro() {
			t.Errorf("the refusal says %v", q)
		}
		if wait := time.Until(time.Date(2000, 2, 1, 0, 0, 0, 0, time.UTC)).Milliseconds(); f.RetryAfterMs != wait {
			t.Errorf("to be retried after %d ms, want %d", f.RetryAfterMs, wait)
		}
		api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: third, Account: "acc_acme"}}})
		answer(api, 1)
		b.wantBill(s, "one was canceled", 0, 2)
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		a := assigned(w)
		w.send(done(a))
		committed(w, a.Token)
		b.wantBill(s, "one succeeded", 1, 1)
		failed := accepted("in its place")
		refused("one used, two under way")

		time.Sleep(5 * time.Second) // it is in the archive
		standby, _ := b.start("b", cfg)
		time.Sleep(10 * time.Second)
		away.away.Store(true)
		kill()
		b.leading(standby)
		s, api = standby, b.front(standby)
		b.wantBill(s, "with another leader, and no archive", 1, 2)
		refused("with another leader, and no archive")
		w, _ = b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 2})
		for range 2 {
			if a := assigned(w); a.Job == failed {
				w.send(&pb.WorkUp{Failed: []*pb.Failed{{Token: a.Token, Job: a.Job, Failure: &pb.Failure{Code: "name_not_resolved", Stage: "navigate"}}}})
				committed(w, a.Token)
			} else {
				w.send(&pb.WorkUp{Returned: []uint64{a.Token}})
			}
		}
		b.wantBill(s, "one failed", 1, 1)
		accepted("in the place of what failed")
		refused("again")

		away.away.Store(false)
		february := time.Date(2000, 2, 1, 0, 0, 0, 0, time.UTC)
		time.Sleep(time.Until(february) - 2*time.Second)
		w.send(&pb.WorkUp{Credit: 1})
		if a = assigned(w); a.Job != second {
			t.Fatalf("%s is assigned, want %s, beside %s", a.Job, second, first)
		}
		time.Sleep(4 * time.Second)
		b.wantBill(s, "in February", 0, 0)
		accepted("in February")
		b.wantBill(s, "in February", 0, 1)
		w.send(done(a))
		committed(w, a.Token)
		b.wantBill(s, "with January's job done", 0, 1)
		time.Sleep(5 * time.Second)
		january := february.AddDate(0, -1, 0)
		for _, id := range []string{first, second} {
			if c := b.archive.charge(id); c.Units != 120 || !c.Period.Equal(january) {
				t.Errorf("charged %+v, want a render of January", c)
			}
		}
		if c := b.archive.charge(failed); c.Units != 0 {
			t.Errorf("a failure is charged %+v", c)
		}
	})
}

// An address has the quota of the plan of anonymous clients, through a change of
// leader too, and its neighbour has its own.
func TestQuotaOfAnAddress(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		free := testPlan(renders(1))
		free.Name = "free"
		cfg := Config{Policy: policyOf(account.Policy{Plans: []account.Plan{testPlan(account.Quota{}), free}, AnonymousPlan: "free"})}
		s, kill := b.start("a", cfg)
		api := b.front(s)
		submit := func(address string) *pb.Decision {
			return decision(api, b.submitAs(&pb.Envelope{Account: account.AnonymousIDOf(address), Address: address}))
		}
		if d := submit("203.0.113.7"); d.GetAccepted() == nil {
			t.Fatalf("the first: %v", d)
		}
		b.leading(s)
		if d := submit("203.0.113.7"); d.GetRefused().GetCode() != "quota_exceeded" {
			t.Errorf("one more: %v", d)
		}
		if d := submit("203.0.113.8"); d.GetAccepted() == nil {
			t.Errorf("the neighbour: %v", d)
		}
		next, _ := b.start("b", cfg)
		kill()
		b.leading(next)
		api = b.front(next)
		if d := submit("203.0.113.7"); d.GetRefused().GetCode() != "quota_exceeded" {
			t.Errorf("after a change of leader: %v", d)
		}
	})
}

// While accounts cannot be read, what the archive takes in and the fold forgets
// is added to what was read before: the bill stays right for as long as it takes,
// and for a standby that takes over.
func TestUsageOutlivesTheFold(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		cfg := Config{Plans: []account.Plan{testPlan(renders(100))}}
		s, kill := b.start("a", cfg)
		b.leading(s)
		standby, _ := b.start("b", cfg)
		w, _ := b.worker(s, "b1")
		render := func() {
			t.Helper()
			b.submit()
			w.send(&pb.WorkUp{Credit: 1})
			a := assigned(w)
			w.send(done(a))
			committed(w, a.Token)
		}
		render()
		time.Sleep(10 * time.Second) // both have read it
		b.archive.setAway(true)
		for n := range 10 {
			render()
			b.wantBill(s, "while nobody can read accounts", int64(n+2), 0)
			time.Sleep(20 * time.Second)
		}
		for name, x := range map[string]*Scheduler{"the leader": s, "the standby": standby} {
			x.tenants.mu.Lock()
			since, read := x.tenants.since, x.tenants.known["acc_acme"].usage
			x.tenants.mu.Unlock()
			if since == 0 || read.seq < since || read.units[10957] < 120*5 {
				t.Errorf("%s has forgotten up to frame %d, and knows %+v", name, since, read)
			}
		}
		kill()
		b.leading(standby)
		b.wantBill(standby, "with the standby", 11, 0)
		b.archive.setAway(false)
		time.Sleep(10 * time.Second)
		b.bill(standby) // has it read
		time.Sleep(time.Second)
		b.wantBill(standby, "read anew", 11, 0)
	})
}

// A sum that is older than what a fold remembers is not used: with a quota the
// account is refused until it can be read.
func TestUsageTooOld(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", Config{Plans: []account.Plan{testPlan(renders(3))}})
		api := b.front(s)
		b.wantBill(s, "at first", 0, 0)
		b.archive.setAway(true)
		s.tenants.cut(1 << 40)
		l := s.leader.Load()
		l.enter()
		m := l.quotaMeter("acc_acme")
		l.leave()
		if d := decision(api, b.submit()); d.GetRefused().GetKind() != "unavailable" || m != nil {
			t.Errorf("%v, and the meter %v, though nobody knows what was used", d, m)
		}
		s.tenants.cut(0)
		b.archive.setAway(false)
		time.Sleep(5 * time.Second)
		if d := decision(api, b.submit()); d.GetAccepted() == nil {
			t.Errorf("read anew: %v", d)
		}
	})
}

// A decision goes by the time of its frame: a refusal at the end of a period may
// come when the next one has begun, and says to wait all the same.
func TestQuotaAtTheEdge(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", Config{Plans: []account.Plan{testPlan(renders(1))}})
		b.leading(s)
		view, l := s.tenants.view(b.ctx, "acc_acme"), s.leader.Load()
		l.enter()
		defer l.leave()
		p, _ := periodAt("acc_acme", view, l.nowUS())
		if f := l.overQuota(p, view, 240, l.now.Add(-time.Millisecond)); f == nil || f.RetryAfter <= 0 {
			t.Errorf("%v, want it refused with a wait", f)
		}
	})
}
