package scheduler

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/deploy/policies"
	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// What the five seed services publish about clocks, on their shipped policies
// and in virtual time. The rest is in loadtest/seeds, through HTTP; docs/seeds.md
// has a row for each line.

// shipped is a plan of a shipped policy, as that of the bubble's account.
func shipped(t *testing.T, policy, plan string) account.Plan {
	t.Helper()
	text, ok := policies.Text(policy)
	if !ok {
		t.Fatalf("no policy %s", policy)
	}
	p, err := account.ParsePolicy(policy+".yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	of, ok := p.Plan(plan)
	if !ok {
		t.Fatalf("%s has no plan %s", policy, plan)
	}
	of.Name = "test"
	return of
}

// spent makes the bubble's account have used so many renders of a period.
func (b *bubble) spent(period time.Time, renders int64) {
	b.archive.mu.Lock()
	defer b.archive.mu.Unlock()
	if b.archive.charges == nil {
		b.archive.charges = map[string]store.Charge{}
	}
	id := fmt.Sprint("before ", period)
	b.archive.charges[id] = store.Charge{ID: id, Account: "acc_acme", Period: period, Units: renders * account.UnitsPerCredit, Reason: "render", Happened: period}
}

// shot submits with a key and returns why it was refused; nil if it was not.
// What is accepted is rendered at once.
func (b *bubble) shot(api *peer[pb.FrontUp, pb.FrontDown], w *peer[pb.WorkUp, pb.WorkDown], key string) *pb.Fault {
	b.t.Helper()
	id := string(job.NewID())
	b.streams.publish(&pb.Record{
		Envelope: &pb.Envelope{Id: id, Account: "acc_acme", Key: key, Address: "203.0.113.7", Api: "api", SentUs: time.Now().UnixMicro(), ContentType: "image/png"},
		Body:     &pb.Body{Spec: []byte(`{}`)},
	})
	if d := decision(api, id); d.GetAccepted() == nil {
		return d.GetRefused()
	}
	w.send(&pb.WorkUp{Credit: 1})
	a := assigned(w)
	w.send(done(a))
	committed(w, a.Token)
	return nil
}

// ends walks over the end of a period: one render is left of it, which passes;
// then there is none, to the last moment; and at the first of the next period
// there is the whole quota again, and nothing of the old one.
func (b *bubble) ends(plan account.Plan, begins, end time.Time) {
	b.t.Helper()
	b.spent(begins, plan.Quota.Limit-1)
	time.Sleep(time.Until(end) - 10*time.Second)
	s, _ := b.start("a", Config{Alone: true, Plans: []account.Plan{plan}})
	api, w := b.front(s), (*peer[pb.WorkUp, pb.WorkDown])(nil)
	w, _ = b.worker(s, "b1")
	if f := b.shot(api, w, "one"); f != nil {
		b.t.Fatalf("the last of %d: %v", plan.Quota.Limit, f)
	}
	refused := func(when string) {
		b.t.Helper()
		f := b.shot(api, w, "one")
		if f.GetKind() != "quota_exceeded" || f.Quota.GetResetsUs() != end.UnixMicro() || f.Quota.GetUsed() != plan.Quota.Units() {
			b.t.Errorf("%s: %v, want a refusal for the quota until %s", when, f, end)
		}
	}
	refused("with none left")
	time.Sleep(time.Until(end) - time.Microsecond)
	refused("at the last moment")
	time.Sleep(time.Until(end))
	if f := b.shot(api, w, "one"); f != nil {
		b.t.Errorf("in the new period: %v", f)
	}
	b.wantLeft(s, "in the new period", plan.Quota.Limit-1)
}

// wantLeft compares the quota's meter with so many whole renders.
func (b *bubble) wantLeft(s *Scheduler, when string, renders int64) {
	b.t.Helper()
	synctest.Wait()
	l := s.leader.Load()
	l.enter()
	defer l.leave()
	if m := l.quotaMeter("acc_acme"); m.GetRemaining() != renders*account.UnitsPerCredit {
		b.t.Errorf("%s: %v, want %d left", when, m, renders)
	}
}

func TestSeeds(t *testing.T) {
	february := time.Date(2000, 2, 1, 0, 0, 0, 0, time.UTC)
	january := february.AddDate(0, -1, 0)

	// The first second of each calendar month in UTC, whenever one subscribed.
	t.Run("SEED-SSAPI-4", func(t *testing.T) {
		for _, subscribed := range []int{1, 17, 31} {
			inBubble(t, func(t *testing.T, b *bubble) {
				b.archive.billing = subscribed
				b.ends(shipped(t, "screenshot-api", "free"), january, february)
			})
		}
	})
	t.Run("SEED-SHOTIT-7", func(t *testing.T) {
		for _, plan := range []string{"free", "$100"} {
			inBubble(t, func(t *testing.T, b *bubble) {
				b.ends(shipped(t, "shotit", plan), january, february)
			})
		}
	})

	// The billing period begins on the account's own day.
	t.Run("SEED-URLBOX-3", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bubble) {
			b.archive.billing = 25
			b.ends(shipped(t, "urlbox", "trial"), time.Date(1999, 12, 25, 0, 0, 0, 0, time.UTC), time.Date(2000, 1, 25, 0, 0, 0, 0, time.UTC))
		})
		inBubble(t, func(t *testing.T, b *bubble) { // a day that February has not
			b.archive.billing = 31
			b.ends(shipped(t, "urlbox", "trial"), time.Date(2000, 1, 31, 0, 0, 0, 0, time.UTC), time.Date(2000, 2, 29, 0, 0, 0, 0, time.UTC))
		})
	})

	// The slot of a worker that has crashed, or does not let go, is free 35 s
	// after the wall budget at the latest.
	t.Run("SEED-SSAPI-9", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bubble) {
			plan := shipped(t, "screenshot-api", "free")
			s, _ := b.start("a", Config{Alone: true, Plans: []account.Plan{plan}})
			w, _ := b.worker(s, "b1")
			w.send(&pb.WorkUp{Credit: 1})
			id := b.submit()
			a := assigned(w)
			until := time.Now().Add(plan.Wall + 35*time.Second)
			for n := uint64(0); time.Until(until) > beatEvery; n++ {
				time.Sleep(beatEvery)
				w.send(&pb.WorkUp{Beat: &pb.Beat{Number: n, Tokens: []uint64{a.Token}}})
			}
			time.Sleep(time.Until(until))
			b.want(s, "at the wall budget and 35 s", id, job.Running, 1)
			time.Sleep(slack)
			b.want(s, "and a sweep later", id, job.Queued, 1)
		})
		inBubble(t, func(t *testing.T, b *bubble) { // one that says nothing any more
			plan := shipped(t, "screenshot-api", "free")
			s, _ := b.start("a", Config{Alone: true, Plans: []account.Plan{plan}})
			w, hang := b.worker(s, "b1")
			w.send(&pb.WorkUp{Credit: 1})
			id := b.submit()
			assigned(w)
			hang()
			time.Sleep(plan.Wall + 35*time.Second + slack)
			if j := b.look(s, id); j.State == string(job.Running) {
				t.Errorf("the slot is held still: %v", j)
			}
		})
	})
}
