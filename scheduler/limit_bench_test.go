package scheduler

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/store"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/scheduler/limit"
)

// benchLeader has a hundred accounts with a rate, and ten thousand addresses.
func benchLeader(b *testing.B, rate account.Rate) (*leader, []*pb.Envelope) {
	plan := bubblePlan()
	plan.Rate = rate
	policy := policyOf(account.Policy{Plans: []account.Plan{plan}, HTTPLimits: []account.HTTPLimit{
		{Class: "api", By: account.ByIP, Requests: 1_000_000, Window: time.Minute},
	}})
	log := slog.New(slog.DiscardHandler)
	s := &Scheduler{policy: policy, tenants: newTenants(policy, nil, log), log: log}
	var err error
	if s.metrics, err = newMetrics(nil, s); err != nil {
		b.Fatal(err)
	}
	l := &leader{s: s, policy: policy.Now(), now: time.Now(), rates: newRates(), ladder: limit.NewLadder(), bansRead: true}
	f := newFacts()
	l.board = newBoard(f, Queue(l.policy.Queue), l.threadsOf, l.slotsByKey, nil, l.now, l.nowUS())
	l.ladder.Set(l.clock(), account.Subject{Kind: account.SubjectNetwork, ID: "203.0.113.0/24"}, time.Time{}, "")
	var envs []*pb.Envelope
	for n := range 10_000 {
		id := fmt.Sprintf("acc_%026d", n%100)
		if n < 100 {
			s.tenants.put(store.Tenant{ID: id, Account: &account.Account{ID: id, Name: id, Plan: plan.Name}})
		}
		envs = append(envs, &pb.Envelope{Account: id, Key: fmt.Sprintf("key_%026d", n%200), Address: fmt.Sprintf("198.51.%d.%d", n/256, n%256)})
	}
	return l, envs
}

// BenchmarkLimits is what limits add to one decision: the ladder, the rate, and
// what the answer tells of both.
func BenchmarkLimits(b *testing.B) {
	for _, by := range []account.By{account.ByAccount, account.ByIP} {
		for _, charge := range []account.Charge{account.ChargeAll, account.ChargeSuccess} {
			rate := account.Rate{Algorithm: account.TokenBucket, Requests: 10_000, Window: time.Second, Burst: 10_000, By: by, Charge: charge}
			b.Run("check by "+string(by)+" "+string(charge), func(b *testing.B) {
				l, envs := benchLeader(b, rate)
				b.ReportAllocs()
				for n := 0; b.Loop(); n++ {
					env := envs[n%len(envs)]
					l.now = l.now.Add(10 * time.Microsecond)
					if f := l.barred(env.Account, env.Key, env.Address); f != nil {
						b.Fatal(f)
					}
					if f := l.chargeRate(rate, env); f != nil {
						b.Fatal(f)
					}
				}
			})
		}
	}
	rate := account.Rate{Algorithm: account.FixedWindow, Requests: 1_000_000, Window: time.Second, By: account.ByAccount}
	b.Run("meters", func(b *testing.B) {
		l, envs := benchLeader(b, rate)
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			env := envs[n%len(envs)]
			if m := l.meters(env.Account, env.Key, env.Address); len(m) != 3 {
				b.Fatalf("%d meters", len(m))
			}
		}
	})
	b.Run("refusal", func(b *testing.B) {
		tight := account.Rate{Algorithm: account.FixedWindow, Requests: 1, Window: time.Hour, By: account.ByAccount}
		l, envs := benchLeader(b, tight)
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			l.chargeRate(tight, envs[n%len(envs)])
		}
	})
}
