package scheduler

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

type frontPeer = peer[pb.FrontUp, pb.FrontDown]

// rated is a plan that lets so many submissions pass.
func rated(r account.Rate) Config {
	p := bubblePlan()
	p.Rate = r
	return Config{Alone: true, Plans: []account.Plan{p}}
}

// policyOf is a policy in force, with a queue.
func policyOf(p account.Policy) *account.Live {
	p.Queue = account.DefaultPolicy().Queue
	return account.NewLive(&p)
}

func perMinute(n int, by account.By, charge account.Charge) account.Rate {
	return account.Rate{Algorithm: account.TokenBucket, Requests: n, Window: time.Minute, Burst: n, By: by, Charge: charge}
}

// meter finds one of a name; nil when there is none.
func meter(meters []*pb.Meter, name string) *pb.Meter {
	for _, m := range meters {
		if m.Name == name {
			return m
		}
	}
	return nil
}

func wantMeter(t *testing.T, when string, meters []*pb.Meter, name string, limit, remaining int64) *pb.Meter {
	t.Helper()
	m := meter(meters, name)
	if m.GetLimit() != limit || m.GetRemaining() != remaining {
		t.Errorf("%s: %s is %v, want %d of %d", when, name, m, remaining, limit)
	}
	return m
}

// passes submits and says whether the rate let it.
func (b *bubble) passes(api *frontPeer, env *pb.Envelope) bool {
	b.t.Helper()
	d := decision(api, b.submitAs(env))
	if r := d.GetRefused(); r != nil && (r.Kind != "rate_limited" || r.Code != "rate_limit_exceeded" || r.Policy != "rate") {
		b.t.Errorf("refused with %v", r)
	}
	return d.GetAccepted() != nil
}

func TestRate(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", rated(perMinute(2, account.ByAccount, account.ChargeAll)))
		api := b.front(s)
		for left := int64(1); left >= 0; left-- {
			d := decision(api, b.submit())
			if d.GetAccepted() == nil {
				t.Fatalf("decided as %v", d)
			}
			m := wantMeter(t, "after a submission", d.Meters, "rate", 2, left)
			if m.GetKind() != pb.Meter_KIND_RATE || m.GetWindowS() != 60 || m.GetResetUs() != time.Now().Add(30*time.Second).UnixMicro() {
				t.Errorf("the meter says %v", m)
			}
			wantMeter(t, "after a submission", d.Meters, "threads", 2, left)
		}
		time.Sleep(10 * time.Second)
		d := decision(api, b.submit())
		r := d.GetRefused()
		if r.GetKind() != "rate_limited" || r.GetCode() != "rate_limit_exceeded" || r.GetPolicy() != "rate" || r.GetRetryAfterMs() != 20_000 {
			t.Errorf("the third: %v", d)
		}
		if wantMeter(t, "refused", d.Meters, "rate", 2, 0).GetResetUs() != time.Now().Add(20*time.Second).UnixMicro() {
			t.Errorf("refused: %v", d.Meters)
		}
		if !b.passes(api, &pb.Envelope{Account: "acc_other"}) {
			t.Error("another account was refused")
		}
		time.Sleep(20*time.Second - time.Millisecond)
		if b.passes(api, &pb.Envelope{Account: "acc_acme"}) {
			t.Error("it passed before its time")
		}
		time.Sleep(time.Millisecond)
		if !b.passes(api, &pb.Envelope{Account: "acc_acme"}) {
			t.Error("it did not pass when its time had come")
		}
		if b.passes(api, &pb.Envelope{Account: "acc_acme"}) {
			t.Error("two passed for one token")
		}
	})
}

// A farm's own refresh of what it has cached is nobody's submission.
func TestRateLeavesOutRefreshes(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", rated(perMinute(1, account.ByAccount, account.ChargeAll)))
		api := b.front(s)
		for range 3 {
			if !b.passes(api, &pb.Envelope{Account: "acc_acme", Revalidate: true}) {
				t.Error("a refresh was refused")
			}
		}
		if !b.passes(api, &pb.Envelope{Account: "acc_acme"}) {
			t.Error("refreshes were counted")
		}
	})
}

// SEED-SSAPI-6, at the leader: twice the number of a window within two seconds.
func TestRateWindow(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", rated(account.Rate{Algorithm: account.FixedWindow, Requests: 5, Window: time.Minute, By: account.ByAccount}))
		api := b.front(s)
		edge := time.Now().Truncate(time.Minute).Add(2 * time.Minute)
		time.Sleep(time.Until(edge.Add(-time.Second)))
		for at, wait := range []int64{1000, 59_000} {
			for n := range 5 {
				if !b.passes(api, &pb.Envelope{Account: "acc_acme"}) {
					t.Fatalf("window %d: the one after %d was refused", at, n)
				}
			}
			d := decision(api, b.submit())
			if got := d.GetRefused().GetRetryAfterMs(); got != wait {
				t.Errorf("window %d: wait %d ms, want %d", at, got, wait)
			}
			time.Sleep(2 * time.Second)
		}
	})
}

func TestRateBy(t *testing.T) {
	for _, c := range []struct {
		by   account.By
		same *pb.Envelope // counts with the first
		new  *pb.Envelope
	}{
		{account.ByAccount, &pb.Envelope{Account: "acc_1", Key: "k2", Address: "203.0.113.8"}, &pb.Envelope{Account: "acc_2", Key: "k1", Address: "203.0.113.7"}},
		{account.ByKey, &pb.Envelope{Account: "acc_1", Key: "k1", Address: "203.0.113.8"}, &pb.Envelope{Account: "acc_1", Key: "k2", Address: "203.0.113.7"}},
		{account.ByIP, &pb.Envelope{Account: "acc_2", Key: "k2", Address: "203.0.113.7"}, &pb.Envelope{Account: "acc_1", Key: "k1", Address: "203.0.113.8"}},
	} {
		t.Run(string(c.by), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				s, _ := b.start("a", rated(perMinute(1, c.by, account.ChargeAll)))
				api := b.front(s)
				if !b.passes(api, &pb.Envelope{Account: "acc_1", Key: "k1", Address: "203.0.113.7"}) {
					t.Fatal("the first was refused")
				}
				if b.passes(api, c.same) {
					t.Errorf("%v is counted by itself", c.same)
				}
				if !b.passes(api, c.new) {
					t.Errorf("%v is counted with the first", c.new)
				}
			})
		})
	}
}

// Where a rate counts successes, whatever does not become one is given back;
// where it counts all, nothing is.
func TestRateGivesBack(t *testing.T) {
	canceled := func(_ *testing.T, api *frontPeer, id string) {
		api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: id, Account: "acc_acme"}}})
		answer(api, 1)
	}
	worked := func(report func(a *pb.Assign) *pb.WorkUp) func(*bubble, *Scheduler, *frontPeer, string) {
		return func(b *bubble, s *Scheduler, _ *frontPeer, _ string) {
			w, hang := b.worker(s, "b1")
			defer hang()
			w.send(&pb.WorkUp{Credit: 1})
			a := assigned(w)
			w.send(report(a))
			committed(w, a.Token)
		}
	}
	for _, c := range []struct {
		name string
		end  func(b *bubble, s *Scheduler, api *frontPeer, id string)
		back bool // where successes are counted
	}{
		{"canceled", func(b *bubble, _ *Scheduler, api *frontPeer, id string) { canceled(b.t, api, id) }, true},
		{"failed", worked(func(a *pb.Assign) *pb.WorkUp {
			return &pb.WorkUp{Failed: []*pb.Failed{{Token: a.Token, Job: a.Job, Failure: &pb.Failure{Code: string(job.TLSError), Stage: "navigate"}}}}
		}), true},
		{"succeeded", worked(done), false},
		{"expired", func(*bubble, *Scheduler, *frontPeer, string) { time.Sleep(3 * time.Second) }, true},
	} {
		for _, charge := range []account.Charge{account.ChargeAll, account.ChargeSuccess} {
			t.Run(c.name+" "+string(charge), func(t *testing.T) {
				inBubble(t, func(t *testing.T, b *bubble) {
					cfg := rated(account.Rate{Algorithm: account.FixedWindow, Requests: 1, Window: time.Hour, By: account.ByAccount, Charge: charge})
					cfg.Queue.WaitLimit = 2 * time.Second
					s, _ := b.start("a", cfg)
					api := b.front(s)
					id := b.submit()
					decision(api, id)
					c.end(b, s, api, id)
					if back := b.passes(api, &pb.Envelope{Account: "acc_acme"}); back != (c.back && charge == account.ChargeSuccess) {
						t.Errorf("given back: %v", back)
					}
				})
			})
		}
	}
}

// A later check refuses: a rate that counts all has counted it.
func TestRateOfRefused(t *testing.T) {
	for _, charge := range []account.Charge{account.ChargeAll, account.ChargeSuccess} {
		inBubble(t, func(t *testing.T, b *bubble) {
			cfg := rated(account.Rate{Algorithm: account.FixedWindow, Requests: 3, Window: time.Hour, By: account.ByAccount, Charge: charge})
			cfg.Plans[0].Threads, cfg.Plans[0].OverThreads = 1, account.OverThreads{Action: account.Refuse}
			s, _ := b.start("a", cfg)
			api := b.front(s)
			first := b.submit()
			decision(api, first)
			left := int64(2)
			for n := range 4 {
				d := decision(api, b.submit())
				want := "concurrency_limit_exceeded"
				if charge == account.ChargeAll {
					if left--; left < 0 {
						want, left = "rate_limit_exceeded", 0
					}
				}
				if got := d.GetRefused().GetCode(); got != want {
					t.Errorf("%s, refusal %d: %s, want %s", charge, n, got, want)
				}
				wantMeter(t, string(charge), d.Meters, "rate", 3, left)
				wantMeter(t, string(charge), d.Meters, "threads", 1, 0)
			}
		})
	}
}

// What the cache answers is no fresh success.
func TestRateOfCached(t *testing.T) {
	for _, charge := range []account.Charge{account.ChargeAll, account.ChargeSuccess} {
		inBubble(t, func(t *testing.T, b *bubble) {
			s, _ := b.start("a", rated(account.Rate{Algorithm: account.FixedWindow, Requests: 2, Window: time.Hour, By: account.ByAccount, Charge: charge}))
			api := b.front(s)
			hit := &pb.Hit{Job: "job_1", Result: &pb.Result{Object: "o"}, MadeUs: time.Now().UnixMicro(), ExpiresUs: time.Now().Add(time.Hour).UnixMicro()}
			d := decision(api, b.submitAs(&pb.Envelope{Account: "acc_acme", CacheKey: []byte("k"), TtlMs: 60_000, Hit: hit}))
			if d.GetAccepted().GetPlace() != pb.Place_PLACE_CACHED {
				t.Fatalf("decided as %v", d)
			}
			left := int64(1)
			if charge == account.ChargeSuccess {
				left = 2
			}
			d = decision(api, b.submit())
			wantMeter(t, string(charge), d.Meters, "rate", 2, left-1)
		})
	}
}

// blindShelf knows no account and cannot be asked.
type blindShelf struct{ shelf }

func (*blindShelf) Tenants(context.Context, []string, time.Time) ([]store.Tenant, error) {
	return nil, errors.New("nobody is to ask")
}

// An address without a key is an account with the anonymous plan, of which the
// archive is not asked.
func TestAnonymous(t *testing.T) {
	free := bubblePlan()
	free.Name, free.Tier, free.Rate = "free", 3, perMinute(1, account.ByIP, account.ChargeAll)
	inBubble(t, func(t *testing.T, b *bubble) {
		b.over = map[string]Archive{"a": new(blindShelf), "b": new(blindShelf)}
		cfg := Config{Alone: true, Policy: policyOf(account.Policy{Plans: []account.Plan{bubblePlan(), free}, AnonymousPlan: "free"})}
		s, kill := b.start("a", cfg)
		api := b.front(s)
		env := func(address string) *pb.Envelope {
			return &pb.Envelope{Account: account.AnonymousIDOf(address), Address: address}
		}
		id := b.submitAs(env("203.0.113.7"))
		if d := decision(api, id); d.GetAccepted().GetTier() != 3 || d.GetAccepted().GetPlace() != pb.Place_PLACE_QUEUE {
			t.Errorf("an address without a key: %v", d)
		}
		if b.passes(api, env("203.0.113.7")) || !b.passes(api, env("2001:db8::/64")) {
			t.Error("addresses are not counted each for itself")
		}
		api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 1, Id: id, Account: account.AnonymousIDOf("203.0.113.7"), Address: "203.0.113.7"}}})
		a := answer(api, 1)
		wantMeter(t, "a look-up", a.Meters, "rate", 1, 0)
		wantMeter(t, "a look-up", a.Meters, "threads", 2, 1)
		kill()

		s, _ = b.start("b", cfg)
		b.leading(s)
		b.want(s, "after a takeover", id, job.Queued, 0)

		// One thread less, and no rate.
		free.Threads, free.Rate = 1, account.Rate{}
		changed := *cfg.Policy.Now()
		changed.Plans = []account.Plan{bubblePlan(), free}
		cfg.Policy.Set(&changed)
		api = b.front(s)
		synctest.Wait()
		if d := decision(api, b.submitAs(env("203.0.113.7"))); d.GetAccepted().GetPlace() != pb.Place_PLACE_PARKED {
			t.Errorf("under another policy: %v", d)
		}
	})
}

// Where the policy takes nobody without a key, none is taken.
func TestNoAnonymousPlan(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", Config{Alone: true})
		api := b.front(s)
		d := decision(api, b.submitAs(&pb.Envelope{Account: account.AnonymousIDOf("203.0.113.7"), Address: "203.0.113.7"}))
		if d.GetRefused().GetKind() != "unauthenticated" {
			t.Errorf("decided as %v", d)
		}
	})
}
