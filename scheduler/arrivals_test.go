package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func hourly(algorithm account.Algorithm, n int, charge account.Charge) account.Rate {
	return account.Rate{Algorithm: algorithm, Requests: n, Window: time.Hour, Burst: n, By: account.ByAccount, Charge: charge}
}

// toTheHour waits for a full hour: a window begins then.
func toTheHour() { time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(time.Hour))) }

// A standby that takes over lets nobody pass more than the rate; a cold start
// may.
func TestRateThroughTakeover(t *testing.T) {
	for _, algorithm := range []account.Algorithm{account.TokenBucket, account.FixedWindow} {
		for _, hot := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s hot=%v", algorithm, hot), func(t *testing.T) {
				inBubble(t, func(t *testing.T, b *bubble) {
					toTheHour()
					cfg := rated(hourly(algorithm, 5, account.ChargeAll))
					first, kill := b.start("a", cfg)
					api := b.front(first)
					standby := cfg
					standby.Alone = false
					var second *Scheduler
					if hot {
						second, _ = b.start("b", standby)
						time.Sleep(time.Second)
					}
					for n := range 5 {
						id := b.submit()
						if d := decision(api, id); d.GetAccepted() == nil {
							t.Fatalf("submission %d: %v", n, d)
						}
						api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: id, Account: "acc_acme"}}})
						answer(api, 1)
					}
					decision(api, b.submitAs(&pb.Envelope{Account: "acc_other"}))
					if b.passes(api, &pb.Envelope{Account: "acc_acme"}) {
						t.Fatal("a sixth passed")
					}
					time.Sleep(time.Minute)
					kill()
					if !hot {
						st, _ := b.streams.LedgerState(b.ctx)
						b.streams.PurgeLedger(b.ctx, st.Last) //nolint:errcheck // it is in memory
						second, _ = b.start("b", standby)
					}
					api = b.front(second)
					passed := 0
					for b.passes(api, &pb.Envelope{Account: "acc_acme"}) {
						passed++
					}
					if want := map[bool]int{true: 0, false: 5}[hot]; passed != want {
						t.Errorf("%d passed within the minute, want %d", passed, want)
					}
					if d := decision(api, b.submitAs(&pb.Envelope{Account: "acc_other"})); hot {
						wantMeter(t, "another account", d.Meters, "rate", 5, 3)
					}
					// And its time comes as it would have.
					toTheHour()
					if !b.passes(api, &pb.Envelope{Account: "acc_acme"}) {
						t.Error("nothing passes in the next hour")
					}
				})
			})
		}
	}
}

// What did not become a fresh success is free for the next leader too, also when
// it ends in its reign.
func TestSuccessesThroughTakeover(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		toTheHour()
		cfg := rated(hourly(account.FixedWindow, 5, account.ChargeSuccess))
		first, kill := b.start("a", cfg)
		api := b.front(first)
		cfg.Alone = false
		second, _ := b.start("b", cfg)
		var ids []string
		for range 5 {
			ids = append(ids, b.submit())
			decision(api, ids[len(ids)-1])
		}
		cancel := func(id string) {
			api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: id, Account: "acc_acme"}}})
			answer(api, 1)
		}
		cancel(ids[0])
		synctest.Wait()
		kill()
		api = b.front(second)
		if d := decision(api, b.submit()); d.GetAccepted() == nil {
			t.Errorf("one was canceled before: %v", d)
		} else {
			wantMeter(t, "one was canceled before", d.Meters, "rate", 5, 0)
		}
		cancel(ids[1])
		if !b.passes(api, &pb.Envelope{Account: "acc_acme"}) {
			t.Error("one was canceled after the takeover")
		}
		if b.passes(api, &pb.Envelope{Account: "acc_acme"}) {
			t.Error("a sixth passed")
		}
	})
}

// What an account took is charged once its plan can be read, but for what has
// been canceled meanwhile.
func TestTakeoverReplaysLate(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		toTheHour()
		cfg := rated(hourly(account.FixedWindow, 2, account.ChargeSuccess))
		archive := new(shutShelf)
		b.over = map[string]Archive{"b": archive}
		first, kill := b.start("a", cfg)
		api := b.front(first)
		cfg.Alone = false
		second, _ := b.start("b", cfg)
		var ids []string
		for range 2 {
			ids = append(ids, b.submit())
			decision(api, ids[len(ids)-1])
		}
		synctest.Wait()
		kill()
		api = b.front(second)
		if f := decision(api, b.submit()).GetRefused(); f.GetKind() != "unavailable" {
			t.Errorf("nobody knows the plan: %v", f)
		}
		api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: ids[0], Account: "acc_acme"}}})
		answer(api, 1)
		archive.open.Store(true)
		time.Sleep(2 * tenantRest)
		if !b.passes(api, &pb.Envelope{Account: "acc_acme"}) {
			t.Error("what was canceled meanwhile is charged")
		}
		if b.passes(api, &pb.Envelope{Account: "acc_acme"}) {
			t.Error("what it took before the takeover is forgotten")
		}
	})
}

func TestArrivalsAreBounded(t *testing.T) {
	f, known := newFacts(), true
	seq := uint64(0)
	fold := func(at time.Time, n int) {
		seq++
		frame := &pb.Frame{Epoch: 1, TimeUs: at.UnixMicro()}
		for i := range n {
			id := fmt.Sprint(seq, "-", i)
			frame.Events = append(frame.Events,
				&pb.Event{Fact: &pb.Event_Accepted{Accepted: &pb.Accepted{Envelope: &pb.Envelope{Id: id, Account: fmt.Sprint("acc_", i)}}}},
				&pb.Event{Fact: &pb.Event_Finished{Finished: &pb.Finished{Job: &pb.Job{Id: id, State: "failed"}}}})
		}
		f.fold(stream.Link{Seq: seq, Frame: frame})
		f.arrivals.settle(func(string) (account.Plan, bool) { return account.Plan{}, known })
	}
	now := time.UnixMicro(time.Now().UnixMicro())
	fold(now, 10)
	if len(f.arrivals.list) != 0 {
		t.Error("arrivals are remembered that no rate counts")
	}
	f.arrivals.remember(&account.Policy{Plans: []account.Plan{{Rate: hourly(account.FixedWindow, 1, "")}, {Rate: account.Rate{
		Algorithm: account.TokenBucket, Requests: 1, Window: time.Hour, Burst: 3,
	}}}})
	if f.arrivals.keep != 3*time.Hour {
		t.Errorf("remembered for %s, want the time of a whole bucket", f.arrivals.keep)
	}
	fold(now, 10)
	fold(now.Add(20*time.Millisecond), 1)
	fold(now.Add(time.Minute), 0)
	us := func(i int) time.Duration { return time.UnixMicro(f.arrivals.list[i].us).Sub(now) }
	if us(0) != 20*time.Millisecond || us(9) != 20*time.Millisecond || us(10) != 20*time.Millisecond+frameGathers {
		t.Errorf("dated %s and %s after the first frame", us(0), us(10))
	}
	if len(f.arrivals.list) != 11 || len(f.arrivals.callers) != 10 || !f.arrivals.list[0].free || f.arrivals.list[0].job != nil {
		t.Errorf("%d arrivals of %d callers", len(f.arrivals.list), len(f.arrivals.callers))
	}
	known = false
	fold(now.Add(3*time.Hour+time.Second), 2)
	if len(f.arrivals.list) != 13 {
		t.Errorf("%d arrivals while nobody knows the plans", len(f.arrivals.list))
	}
	known = true
	fold(now.Add(3*time.Hour+time.Second), 0)
	if len(f.arrivals.list) != 2 || len(f.arrivals.callers) != 2 {
		t.Errorf("after all have come back: %d arrivals of %d callers", len(f.arrivals.list), len(f.arrivals.callers))
	}
	f.arrivals.remember(&account.Policy{Plans: []account.Plan{{}}})
	if len(f.arrivals.list) != 0 || len(f.arrivals.callers) != 0 {
		t.Error("arrivals are remembered that no rate counts any more")
	}
}

// shutShelf is an archive that answers nothing about accounts until it is
// opened.
type shutShelf struct {
	shelf
	open atomic.Bool
}

func (s *shutShelf) Tenants(ctx context.Context, ids []string, since time.Time) ([]store.Tenant, error) {
	if !s.open.Load() {
		return nil, errors.New("shut")
	}
	return s.shelf.Tenants(ctx, ids, since)
}
