package scheduler

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func credits(limit int64) account.Quota {
	return account.Quota{Unit: account.UnitCredit, Limit: limit, Period: account.MonthUTC}
}

// count has a replica report requests, in one step.
func (b *bubble) count(s *Scheduler, counts ...*pb.Count) (faults []*fault.Error) {
	b.t.Helper()
	l := s.leader.Load()
	for _, c := range counts {
		c.Account = "acc_acme"
	}
	view := s.tenants.view(b.ctx, "acc_acme")
	l.enter()
	for _, c := range counts {
		faults = append(faults, l.charge(view, c))
	}
	l.leave()
	synctest.Wait()
	return faults
}

func (b *bubble) wantUnits(s *Scheduler, when string, used int64) {
	b.t.Helper()
	if got, reserved := b.bill(s); got != used || reserved != 0 {
		b.t.Errorf("%s: %d units are used and %d reserved, want %d", when, got, reserved, used)
	}
}

// charged are the charges that the ledger has, in its order.
func (b *bubble) charged() (out []*pb.Charged) {
	b.t.Helper()
	b.streams.mu.Lock()
	defer b.streams.mu.Unlock()
	for seq := range uint64(len(b.streams.frames)) {
		l, err := b.streams.link(seq + 1)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, ev := range l.Frame.Events {
			if c := ev.GetCharged(); c != nil {
				out = append(out, c)
			}
		}
	}
	return out
}

// The charges of one frame are one event for each reason, and another one for
// what is given back; a job of such a plan costs nothing itself.
func TestChargesOfCalls(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, kill := b.start("a", Config{Plans: []account.Plan{testPlan(credits(10))}})
		b.leading(s)
		call := func() *pb.Count { return &pb.Count{Class: "api", Units: 120, Reason: "call"} }
		back := func() *pb.Count { return &pb.Count{Class: "api", Units: -120, Reason: "call"} }
		download := func(units int64) *pb.Count { return &pb.Count{Class: "media", Units: units, Reason: "download"} }
		b.count(s, call(), call(), download(4), call(), back(), download(15))
		b.wantUnits(s, "three calls, one given back, two downloads", 259)
		all := b.charged()
		if len(all) != 3 {
			t.Fatalf("charged %v, want three events", all)
		}
		for i, want := range []*pb.Charged{{Units: 360, Count: 3, Reason: "call"}, {Units: 19, Count: 2, Reason: "download"}, {Units: -120, Count: 1, Reason: "call"}} {
			if got := all[i]; got.Units != want.Units || got.Count != want.Count || got.Reason != want.Reason || got.Account != "acc_acme" || got.Period != 10957 {
				t.Errorf("event %d: %v, want %v", i, got, want)
			}
		}
		faults := b.count(s, call(), call(), call(), call(), call(), call(), call(), call(), download(60), download(1))
		if faults[6] != nil || faults[7] == nil || faults[7].Kind != fault.QuotaExceeded || faults[7].Quota.Used != 1099 || faults[8] != nil || faults[9] != nil {
			t.Errorf("at the edge of the quota: %v", faults)
		}
		b.wantUnits(s, "up to the quota", 259+7*120+60+1)
		id := b.submit()
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		a := assigned(w)
		w.send(done(a))
		committed(w, a.Token)
		if j := b.look(s, id); j.State != string(job.Succeeded) || j.Billable {
			t.Errorf("a job of a plan that counts calls: %v", j)
		}
		b.wantUnits(s, "a render", 1160)
		kill()
		s, _ = b.start("b", Config{Plans: []account.Plan{testPlan(credits(10))}})
		b.leading(s)
		b.wantUnits(s, "with another leader", 1160)
		if f := b.count(s, back(), back(), back(), back(), back(), back(), back(), back(), back(), back(), back()); f[10] != nil {
			t.Errorf("giving back: %v", f)
		}
		b.wantUnits(s, "more given back than was used", 0)
	})
}

// A link that the cache answers is a call at a lower price: what is given back
// of it undoes no call.
func TestPartOfACall(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", Config{Plans: []account.Plan{testPlan(credits(10))}})
		b.leading(s)
		b.count(s, &pb.Count{Units: 120, Reason: "call"}, &pb.Count{Units: -108, Reason: "call"})
		b.wantUnits(s, "a link", 12)
		if all := b.charged(); len(all) != 2 || all[0].Reason != "call" || all[1].Reason != "download" {
			t.Errorf("charged %v", all)
		}
	})
}

// Other plans are charged for no call, and nothing that a replica says is taken
// for one of the leader's own events.
func TestChargesThatAreNone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, kill := b.start("a", Config{Plans: []account.Plan{testPlan(renders(10))}})
		b.leading(s)
		b.count(s, &pb.Count{Class: "api", Units: 120, Reason: "call"})
		b.wantUnits(s, "in a plan that counts renders", 0)
		kill()
		s, _ = b.start("b", Config{Plans: []account.Plan{testPlan(credits(10))}})
		b.leading(s)
		for _, name := range []string{"job_1", "chg_1", "lost_1", "a b", "é", string(make([]byte, 200))} {
			b.count(s, &pb.Count{Units: 120, Reason: "call", Event: name})
		}
		b.count(s, &pb.Count{Units: -120, Reason: "lost", Event: "lost_job_1"}, &pb.Count{Units: -120, Reason: "lost", Event: "job_1", Period: 10957},
			&pb.Count{Reason: "lost", Event: "lost_job_1", Period: 10957}, &pb.Count{Units: 7, Reason: "lost", Event: "lost_job_1", Period: 10957})
		b.wantUnits(s, "names that are the leader's", 0)
		once := &pb.Count{Units: 120, Reason: "call", Event: "mine"}
		b.count(s, once, once)
		b.count(s, once)
		b.wantUnits(s, "the same event three times", 120)
	})
}

// What a lost artifact cost comes back once, to its own period, whether the
// archive has the charge or the leader alone.
func TestLostArtifact(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		time.Sleep(31*24*time.Hour - 5*time.Second) // before February
		s, kill := b.start("a", Config{Plans: []account.Plan{testPlan(renders(10))}})
		b.leading(s)
		w, _ := b.worker(s, "b1")
		render := func() string {
			id := b.submit()
			w.send(&pb.WorkUp{Credit: 1})
			a := assigned(w)
			w.send(done(a))
			committed(w, a.Token)
			return id
		}
		lost := func(id string, units int64) *pb.Count {
			return &pb.Count{Reason: "lost", Event: "lost_" + id, Units: -units, Period: 10957}
		}
		one, two := render(), render()
		b.wantUnits(s, "two renders", 240)
		b.count(s, lost(one, 0), lost(one, 120)) // this leader knows what it cost
		b.count(s, lost(one, 120), lost("job_nobody", 0))
		b.wantUnits(s, "one is lost", 120)
		time.Sleep(3 * time.Minute) // February, and January's jobs are forgotten
		b.wantUnits(s, "in February", 0)
		kill()
		s, _ = b.start("b", Config{Plans: []account.Plan{testPlan(renders(10))}})
		b.leading(s)
		b.count(s, lost(two, 120), lost(two, 120))
		b.wantUnits(s, "in February, January's is lost", 0)
		time.Sleep(5 * time.Second)
		var sum int64
		for _, id := range []string{one, two, "lost_" + one, "lost_" + two} {
			c := b.archive.charge(id)
			if sum += c.Units; c.Units == 0 || account.DayNumber(c.Period) != 10957 {
				t.Errorf("%s is filed as %+v", id, c)
			}
		}
		if n := len(b.charged()); sum != 0 || n != 2 {
			t.Errorf("January comes to %d units, given back in %d events", sum, n)
		}
	})
}

// An account is told at 80 and at 100 per cent of what is settled, once in a
// period and through a change of leader; with a price for more it goes on.
func TestQuotaReached(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		plan := testPlan(renders(5))
		plan.Quota.Overage = account.Overage{Above: 5, PriceNano: 1, Allowed: true}
		cfg := Config{Plans: []account.Plan{plan}}
		s, kill := b.start("a", cfg)
		api := b.front(s)
		w, _ := b.worker(s, "b1")
		want := func(when string, percents ...int) {
			t.Helper()
			time.Sleep(5 * time.Second)
			b.archive.mu.Lock()
			defer b.archive.mu.Unlock()
			ok := len(b.archive.reached) == len(percents)
			for i, q := range b.archive.reached {
				ok = ok && q.Percent == percents[i] && q.Used == int64(percents[i])*6 && q.Limit == 600 &&
					q.ResetsAt.Equal(time.Date(2000, 2, 1, 0, 0, 0, 0, time.UTC)) && q.Account == "acc_acme"
			}
			if !ok {
				t.Errorf("%s: told of %+v, want %d", when, b.archive.reached, percents)
			}
		}
		render := func() {
			t.Helper()
			if d := decision(api, b.submit()); d.GetAccepted() == nil {
				t.Fatalf("refused: %v", d)
			}
			w.send(&pb.WorkUp{Credit: 1})
			a := assigned(w)
			w.send(done(a))
			committed(w, a.Token)
		}
		for range 3 {
			render()
		}
		ids := []string{b.submit(), b.submit()}
		want("three used, two under way")
		for _, id := range ids {
			api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: id, Account: "acc_acme"}}})
			answer(api, 1)
		}
		render()
		want("four used", 80)
		kill()
		s, kill = b.start("b", cfg)
		api = b.front(s)
		w, _ = b.worker(s, "b1")
		render()
		want("five used", 80, 100)
		kill()
		s, _ = b.start("c", cfg)
		api = b.front(s)
		w, _ = b.worker(s, "b1")
		render()
		want("six used", 80, 100)
		b.wantBill(s, "six used", 6, 0)
		l := s.leader.Load()
		l.enter()
		m := l.quotaMeter("acc_acme")
		l.leave()
		if m.GetKind() != pb.Meter_KIND_QUOTA || m.GetName() != "quota" || m.GetLimit() != 600 || m.GetRemaining() != 0 || m.GetWindowS() != 31*86400 ||
			m.GetResetUs() != time.Date(2000, 2, 1, 0, 0, 0, 0, time.UTC).UnixMicro() {
			t.Errorf("the meter says %v", m)
		}
	})
}

// A job accepted by a release that said neither price nor period costs what it
// did then: a credit, in the month of its acceptance.
func TestBillsOfAnOlderLedger(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", Config{Plans: []account.Plan{testPlan(renders(10))}})
		b.leading(s)
		l := s.leader.Load()
		id := string(job.NewID())
		l.enter()
		l.board.accept(&pb.Accepted{Envelope: &pb.Envelope{Id: id, Account: "acc_acme"}, Place: pb.Place_PLACE_QUEUE}, &pb.Body{Spec: []byte("{}")}, l.now)
		l.leave()
		b.wantBill(s, "accepted", 0, 1)
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		a := assigned(w)
		w.send(done(a))
		committed(w, a.Token)
		b.wantBill(s, "ended", 1, 0)
	})
	old := ended(&pb.Finished{Job: &pb.Job{Id: "job_1", AcceptedUs: time.Date(2026, 10, 31, 23, 59, 59, 0, time.UTC).UnixMicro(), FinishedUs: 1}, Units: 120})
	if !old.Period.Equal(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("an end without a period is charged to %s", old.Period)
	}
}

// What is left of a nearly full ledger is for the ends of jobs: calls are free.
func TestChargesOfAFullLedger(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", Config{Plans: []account.Plan{testPlan(credits(10))}})
		b.leading(s)
		b.count(s, &pb.Count{Class: "api", Units: 120, Reason: "call"})
		view, l := s.tenants.view(b.ctx, "acc_acme"), s.leader.Load()
		l.enter()
		l.storage.ledger.MaxBytes, l.storage.ledger.Bytes = 1000, 801
		for _, units := range []int64{120, -120} {
			if f := l.charge(view, &pb.Count{Class: "api", Account: "acc_acme", Units: units, Reason: "call"}); f != nil {
				t.Error(f)
			}
		}
		l.leave()
		synctest.Wait()
		if all := b.charged(); len(all) != 1 {
			t.Errorf("charged %v, want the one from before", all)
		}
	})
}

// While nobody knows what an account used, no more is given back than was taken
// since: what was charged may have been lost with the last leader.
func TestNoMoreIsGivenBackThanTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		q := credits(10)
		q.Overage = account.Overage{Allowed: true}
		s, _ := b.start("a", Config{Plans: []account.Plan{testPlan(q)}})
		b.leading(s)
		s.tenants.view(b.ctx, "acc_acme")
		b.archive.setAway(true)
		s.tenants.mu.Lock()
		s.tenants.known["acc_acme"].usage = nil
		s.tenants.mu.Unlock()
		b.count(s, &pb.Count{Class: "api", Units: -120, Reason: "call"})
		if all := b.charged(); len(all) != 0 {
			t.Fatalf("charged %v, although nothing was taken", all)
		}
		b.count(s, &pb.Count{Class: "api", Units: 120, Reason: "call"}, &pb.Count{Class: "api", Units: -240, Reason: "call"})
		if all := b.charged(); len(all) != 2 || all[0].Units != 120 || all[1].Units != -120 {
			t.Errorf("charged %v, want what was taken to be given back", all)
		}
	})
}
