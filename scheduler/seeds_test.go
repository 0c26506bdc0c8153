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

	// What is left of a month's calls ends with it: however many those are, the
	// next month has the plan's number and no more.
	t.Run("SEED-P2I-6", func(t *testing.T) {
		for _, used := range []int64{0, 5, 19_999} {
			inBubble(t, func(t *testing.T, b *bubble) {
				plan := shipped(t, "page2images", "1-thread")
				if used > 0 {
					b.spent(january, used)
				}
				time.Sleep(time.Until(february) - 10*time.Second)
				s, _ := b.start("a", Config{Alone: true, Plans: []account.Plan{plan}})
				api := b.front(s)
				call := func() *pb.Answer {
					return reported(api, &pb.Count{Class: "api", Account: "acc_acme", Key: "one", Units: account.UnitsPerCredit, Reason: reasonCall})
				}
				if f := call().GetFault(); f != nil {
					t.Errorf("in January, after %d: %v", used, f)
				}
				b.wantLeft(s, "in January", plan.Quota.Limit-used-1)
				time.Sleep(time.Until(february) + time.Second)
				b.wantLeft(s, "in February", plan.Quota.Limit)
				if f := call().GetFault(); f != nil {
					t.Errorf("in February: %v", f)
				}
				b.wantLeft(s, "after a call in February", plan.Quota.Limit-1)
			})
		}
	})

	// Around a full minute twice the cap passes, within two seconds.
	t.Run("SEED-SSAPI-6", func(t *testing.T) {
		for _, name := range []string{"free", "starter", "pro"} {
			inBubble(t, func(t *testing.T, b *bubble) {
				plan := shipped(t, "screenshot-api", name)
				time.Sleep(time.Until(time.Date(2000, 1, 1, 0, 4, 59, 0, time.UTC)))
				s, _ := b.start("a", Config{Alone: true, Plans: []account.Plan{plan}})
				api := b.front(s)
				w, _ := b.worker(s, "b1")
				began := time.Now()
				burst := func(when string) {
					t.Helper()
					for n := range plan.Rate.Requests {
						if f := b.shot(api, w, "one"); f != nil {
							t.Fatalf("%s, request %d of %d: %v", when, n+1, plan.Rate.Requests, f)
						}
					}
					if f := b.shot(api, w, "one"); f.GetCode() != "rate_limit_exceeded" {
						t.Errorf("%s, one too many: %v", when, f)
					}
				}
				burst("at the end of a minute")
				time.Sleep(time.Until(time.Date(2000, 1, 1, 0, 5, 0, 0, time.UTC)))
				burst("at the beginning of the next")
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("that took %s", took)
				}
			})
		}
	})

	// Who comes back after two blocks and earns a third one within the week is
	// banned, for good; whose blocks lie further apart is blocked again.
	t.Run("SEED-WEBSHOT-12", func(t *testing.T) {
		for apart, want := range map[time.Duration]pb.Block_Step{24 * time.Hour: pb.Block_STEP_BANNED, 4 * 24 * time.Hour: pb.Block_STEP_BLOCKED} {
			inBubble(t, func(t *testing.T, b *bubble) {
				cfg := Config{Alone: true, Plans: []account.Plan{shipped(t, "webshot", "free")}, Bans: newBanShelf()}
				const who = "address:203.0.113.7"
				var last *pb.Block
				for range 3 {
					s, kill := b.start("a", cfg) // it is in the archive, whoever leads
					api := b.front(s)
					api.send(strikes(who, 1_000))
					last = block(api, who)
					synctest.Wait()
					time.Sleep(time.Second) // to be filed
					kill()
					time.Sleep(apart)
				}
				if last.Step != want || (last.UntilUs == 0) != (want == pb.Block_STEP_BANNED) {
					t.Errorf("the third block, each %s after the last: %v, want %s", apart, last, want)
				}
				s, _ := b.start("a", cfg)
				api := b.front(s)
				w, _ := b.worker(s, "b1")
				f := b.shot(api, w, "one")
				if banned := f.GetCode() == "banned"; banned != (want == pb.Block_STEP_BANNED) || banned && f.RetryAfterMs != 0 || !banned && f != nil {
					t.Errorf("days later: %v", f)
				}
			})
		}
	})
}
