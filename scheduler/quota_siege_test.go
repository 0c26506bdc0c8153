package scheduler

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// TestQuotaThroughTakeovers has a hundred submitters at the door while leaders
// are killed, on real streams and a real archive: no frame of the ledger brings
// the account over its quota, and what it used in the end is what it was
// charged, by every sum.
func TestQuotaThroughTakeovers(t *testing.T) {
	const limit, submitters, each = 30, 100, 3
	f := newFarm(t)
	cfg := Config{Plans: []account.Plan{{
		Name: "default", Threads: 6, OverThreads: account.OverThreads{Backlog: account.Unlimited}, Wall: time.Minute, Retention: time.Hour,
		Quota: renders(limit),
	}}}
	n := f.start("a", cfg)
	n.front(t, &pb.FrontHello{Api: "api"}) // it leads

	var sent sync.WaitGroup
	for range submitters {
		sent.Go(func() {
			for range each {
				rec := f.record()
				if _, err := f.pub.Publish(t.Context(), rec); err != nil {
					t.Error(err)
				}
			}
		})
	}
	rendered := 0
	// render takes what is assigned: of each three jobs one fails.
	render := func(n *node, boot string, jobs int) {
		w := n.worker(t, hello(boot))
		w.send(&pb.WorkUp{Credit: 2})
		for range jobs {
			a := assigned(w)
			up := done(a)
			if rendered++; rendered%3 == 0 {
				up = &pb.WorkUp{Failed: []*pb.Failed{{Token: a.Token, Job: a.Job, Failure: &pb.Failure{Code: "name_not_resolved", Stage: "navigate"}}}}
			}
			up.Credit = 1
			w.send(up)
			committed(w, a.Token)
		}
	}
	render(n, "b1", 8)
	n.kill()
	n = f.start("b", cfg)
	render(n, "b2", 8)
	n.kill()
	sent.Wait()
	n = f.start("c", cfg)
	w := n.worker(t, hello("b3"))
	w.send(&pb.WorkUp{Credit: 1})
	published := uint64(submitters * each)
	idle := func() (over, full bool) {
		st, err := f.streams.JobsState(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l := n.leader.Load()
		l.enter()
		defer l.leave()
		for p := range l.board.bills.of {
			used, _, _ := l.bill(p)
			full = full || used == 120*limit
		}
		return st.Last == published && l.decided == st.Last && l.board.unfinished.Len() == 0 && l.acked == l.seq && n.projected.Load() == l.acked, full
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(30 * time.Second); ; {
		over, full := idle()
		if over && full {
			break
		}
		if over { // what failed last is given back, and nobody was left to use it
			f.publish(f.record())
			published++
		}
		select {
		case m := <-w.down:
			for _, a := range m.Assign {
				up := done(a)
				up.Credit = 1
				w.send(up)
			}
		case <-tick.C:
		case <-end:
			t.Fatal("not all is decided and rendered")
		}
	}

	j := &judge{accounts: newAccounts(), jobs: map[string]*judged{}}
	j.accounts.limits[f.account] = 120 * limit
	errRead := errors.New("read")
	st, err := f.streams.LedgerState(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = f.streams.Follow(t.Context(), 0, 0, func(links []stream.Link) error {
		for _, l := range links {
			for _, ev := range l.Frame.Events {
				switch ev := ev.Fact.(type) {
				case *pb.Event_Accepted:
					a := ev.Accepted
					j.jobs[a.Envelope.Id] = &judged{account: a.Envelope.Account, units: a.Units, period: a.Period}
					j.accounts.accepted(j, l.Frame, a)
				case *pb.Event_Finished:
					j.accounts.finished(j, j.job(ev.Finished.Job.Id, "ends"), ev.Finished)
				case *pb.Event_QuotaReached:
					j.accounts.reached(j, ev.QuotaReached)
				}
			}
			if j.accounts.within(j, l.Seq); l.Seq >= st.Last {
				return errRead
			}
		}
		return nil
	})
	if !errors.Is(err, errRead) || len(j.faults) > 0 {
		t.Fatalf("%v, %q", err, j.faults)
	}
	for p, units := range j.accounts.spent {
		day := account.DayOf(p.day)
		events, sum, month, err := f.store.Audit(t.Context(), f.account, day)
		l := n.leader.Load()
		l.enter()
		used, reserved, known := l.bill(p)
		l.leave()
		if err != nil || sum != units || month != units || int64(events)*120 != units || used != units || reserved != 0 || !known {
			t.Errorf("the ledger has %d units, the archive %d in %d events and %d in its month, the leader %d and %d reserved; %v",
				units, sum, events, month, used, reserved, err)
		}
		told, err := f.store.QuotaEvents(t.Context(), f.account, day)
		if err != nil || len(told) != 2 || told[0].Percent != 80 || told[1].Percent != 100 {
			t.Errorf("told of %+v, %v", told, err)
		}
	}
}
