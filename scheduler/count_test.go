package scheduler

import (
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// reported sends one report and waits for its answer.
func reported(api *frontPeer, c *pb.Count) *pb.Answer {
	api.t.Helper()
	c.Call = 77
	api.send(&pb.FrontUp{Counts: []*pb.Count{c}})
	return answer(api, 77)
}

func limited(limits ...account.HTTPLimit) Config {
	return Config{Alone: true, Policy: policyOf(account.Policy{Plans: []account.Plan{bubblePlan()}, HTTPLimits: limits})}
}

// SEED-SHOTIT-1, at the leader: requests of an address are counted together,
// with a key and without.
func TestCountByAddress(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", limited(account.HTTPLimit{Class: "api", By: account.ByIP, Requests: 3, Window: time.Minute}))
		api := b.front(s)
		time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(90 * time.Second)))
		const name = "requests-api-ip"
		for n, c := range []*pb.Count{
			{Class: "api", Address: "203.0.113.7"},
			{Class: "api", Address: "203.0.113.7", Account: "acc_1", Key: "k1"},
			{Class: "api", Address: "203.0.113.7", BadKey: true},
		} {
			a := reported(api, c)
			if a.GetCounted() == nil {
				t.Fatalf("request %d: %v", n, a)
			}
			m := wantMeter(t, "let through", a.Meters, name, 3, int64(2-n))
			if m.GetKind() != pb.Meter_KIND_REQUESTS || m.GetWindowS() != 60 || m.GetResetUs() != time.Now().Add(30*time.Second).UnixMicro() {
				t.Errorf("the meter says %v", m)
			}
		}
		a := reported(api, &pb.Count{Class: "api", Address: "203.0.113.7", Account: "acc_2", Key: "k2"})
		if f := a.GetFault(); f.GetKind() != "rate_limited" || f.GetCode() != "rate_limit_exceeded" || f.GetPolicy() != name || f.GetRetryAfterMs() != 30_000 {
			t.Errorf("the fourth: %v", a)
		}
		wantMeter(t, "refused", a.Meters, name, 3, 0)
		for _, c := range []*pb.Count{{Class: "web", Address: "203.0.113.7"}, {Address: "203.0.113.7"}, {Class: "api", Address: "203.0.113.8"}, {Class: "api"}} {
			if a := reported(api, c); a.GetCounted() == nil {
				t.Errorf("%v: %v", c, a)
			}
		}
		time.Sleep(30 * time.Second)
		if a := reported(api, &pb.Count{Class: "api", Address: "203.0.113.7"}); a.GetCounted() == nil {
			t.Errorf("in the next window: %v", a)
		}
	})
}

// Of several limits of a class each counts every request, and the one that
// lasts longest is told.
func TestCountByEach(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", limited(
			account.HTTPLimit{Class: "media", By: account.ByKey, Requests: 1, Window: time.Minute},
			account.HTTPLimit{Class: "media", By: account.ByAccount, Requests: 2, Window: time.Hour},
		))
		api := b.front(s)
		time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(time.Hour)))
		c := func(key string) *pb.Count {
			return &pb.Count{Class: "media", Address: "203.0.113.7", Account: "acc_1", Key: key}
		}
		for _, step := range []struct {
			key, policy string
		}{{"k1", ""}, {"k1", "requests-media-key"}, {"k1", "requests-media-account"}, {"k2", "requests-media-account"}} {
			if a := reported(api, c(step.key)); a.GetFault().GetPolicy() != step.policy || (a.GetCounted() != nil) != (step.policy == "") {
				t.Errorf("with %s: %v, want %q", step.key, a, step.policy)
			}
		}
	})
}

// Guessing keys costs the address what it costs to submit without one.
func TestCountBadKey(t *testing.T) {
	for _, by := range []account.By{account.ByIP, account.ByKey, account.ByAccount} {
		t.Run(string(by), func(t *testing.T) {
			free := bubblePlan()
			free.Name, free.Rate = "free", perMinute(2, by, account.ChargeSuccess)
			inBubble(t, func(t *testing.T, b *bubble) {
				s, _ := b.start("a", Config{Alone: true, Policy: policyOf(account.Policy{Plans: []account.Plan{bubblePlan(), free}, AnonymousPlan: "free"})})
				api := b.front(s)
				guess := &pb.Count{Class: "api", Address: "203.0.113.7", BadKey: true}
				for n := range 2 {
					if a := reported(api, guess); a.GetCounted() == nil {
						t.Errorf("guess %d: %v", n, a)
					}
				}
				last := reported(api, guess)
				if m := meter(last.Meters, "rate"); m.GetLimit() != 2 || m.GetRemaining() != 0 {
					t.Errorf("what the third guess is told: %v", last.Meters)
				}
				if f := last.GetFault(); f.GetCode() != "rate_limit_exceeded" || f.GetPolicy() != "rate" || f.GetRetryAfterMs() != 30_000 {
					t.Errorf("the third guess: %v", f)
				}
				if b.passes(api, &pb.Envelope{Account: account.AnonymousIDOf("203.0.113.7"), Address: "203.0.113.7"}) {
					t.Error("the address may still submit")
				}
			})
		})
	}
}

// A report of an account that nobody can read is counted all the same, and
// delays nobody.
func TestCountStranger(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.over = map[string]Archive{"a": new(blindShelf)}
		s, _ := b.start("a", limited(account.HTTPLimit{Class: "api", By: account.ByKey, Requests: 1, Window: time.Hour}))
		api := b.front(s)
		c := &pb.Count{Class: "api", Account: "acc_1", Key: "k1"}
		a := reported(api, c)
		if a.GetCounted() == nil || meter(a.Meters, "threads") != nil {
			t.Errorf("the first: %v", a)
		}
		if a := reported(api, c); a.GetFault().GetPolicy() != "requests-api-key" {
			t.Errorf("the second: %v", a)
		}
	})
}

// Look-ups and cancels tell how much is left, as far as they say who asks.
func TestMetersOfAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		cfg := limited(account.HTTPLimit{Class: "api", By: account.ByIP, Requests: 9, Window: time.Hour})
		cfg.Policy.Now().Plans[0].Rate = perMinute(5, account.ByKey, account.ChargeAll)
		s, _ := b.start("a", cfg)
		api := b.front(s)
		id := b.submitAs(&pb.Envelope{Account: "acc_acme", Key: "k1"})
		decision(api, id)
		api.send(&pb.FrontUp{Lookups: []*pb.Lookup{
			{Call: 1, Id: id, Account: "acc_acme", Key: "k1", Address: "203.0.113.7"},
			{Call: 2, Id: id, Account: "acc_acme"},
			{Call: 3, Id: "job_none", Account: "acc_acme", Key: "k2"},
			{Call: 4, Id: id},
			{Call: 6, Id: id, Account: "acc_acme", WaitMs: 60_000},
		}, Cancels: []*pb.Cancel{{Call: 5, Id: id, Account: "acc_acme", Key: "k1"}}})
		first := answer(api, 1)
		wantMeter(t, "with all said", first.Meters, "rate", 5, 4)
		wantMeter(t, "with all said", first.Meters, "threads", 2, 1)
		wantMeter(t, "with all said", first.Meters, "requests-api-ip", 9, 9)
		if a := answer(api, 2); len(a.Meters) != 1 {
			t.Errorf("with the account alone: %v", a.Meters)
		}
		if a := answer(api, 3); !a.GetUnknown() {
			t.Errorf("no job: %v", a)
		} else {
			wantMeter(t, "no job", a.Meters, "rate", 5, 5)
		}
		if a := answer(api, 4); len(a.Meters) != 0 {
			t.Errorf("with nothing said: %v", a.Meters)
		}
		wantMeter(t, "canceled", answer(api, 5).Meters, "threads", 2, 2)
		wantMeter(t, "waited", answer(api, 6).Meters, "threads", 2, 2)
	})
}
