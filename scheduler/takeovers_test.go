package scheduler

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/scheduler/limit"
)

// excess is by how much the most that came in any time is more than a bucket
// lets through in that time and so much more: not positive if it held.
func excess(r account.Rate, all []time.Time, slack time.Duration) float64 {
	worst := -1.0
	for i := range all {
		for j := i; j < len(all); j++ {
			let := float64(r.Burst) + float64(r.Requests)*(all[j].Sub(all[i])+slack).Seconds()/r.Window.Seconds()
			worst = max(worst, float64(j-i+1)-let)
		}
	}
	return worst
}

// A bucket that is in debt for longer than it takes to fill is so for the next
// leader too, and the one after it, although the ledger has been purged.
func TestSteadyLoadThroughTakeovers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		rate := account.Rate{Algorithm: account.TokenBucket, Requests: 60, Window: time.Minute, Burst: 5, By: account.ByAccount, Charge: account.ChargeAll}
		cfg := rated(rate)
		cfg.Alone = false
		leader, kill := b.start("s0", cfg)
		b.leading(leader)
		var passed []time.Time
		reigns := 5
		for reign := range reigns {
			next, killNext := b.start(fmt.Sprint("s", reign+1), cfg)
			api := b.front(leader)
			for from := time.Now(); time.Since(from) < 100*time.Second; time.Sleep(100 * time.Millisecond) {
				id := b.submit()
				if decision(api, id).GetAccepted() == nil {
					continue
				}
				passed = append(passed, time.Now())
				api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: id, Account: "acc_acme"}}}) // or it is never purged
				answer(api, 1)
			}
			kill()
			b.leading(next)
			leader, kill = next, killNext
		}
		if st, _ := b.streams.LedgerState(b.ctx); st.First < 2 {
			t.Error("nothing was purged")
		}
		if over := excess(rate, passed, frameGathers); over > 1e-6 {
			t.Errorf("%.1f more passed than the rate lets through", over)
		}
		// Nor is anybody kept waiting: but for the takeovers it is the whole rate.
		if least := 95 * reigns; len(passed) < least {
			t.Errorf("%d passed, want %d at least", len(passed), least)
		}
	})
}

// succession is a ledger, one who leads and one who stands by, without the time
// that passes between them.
type succession struct {
	s      *Scheduler
	policy *account.Policy
	rate   account.Rate
	now    time.Time
	wrote  int64 // the last event

	frames  []stream.Link
	front   int // frames before it are purged
	leader  *leader
	own     *facts // the leader's
	standby *facts
}

func newSuccession(t *rapid.T, rate account.Rate) *succession {
	plan := bubblePlan()
	plan.Rate = rate
	live := policyOf(account.Policy{Plans: []account.Plan{plan}})
	log := slog.New(slog.DiscardHandler)
	s := &Scheduler{policy: live, tenants: newTenants(live, nil, log), log: log}
	var err error
	if s.metrics, err = newMetrics(nil, s); err != nil {
		t.Fatal(err)
	}
	s.tenants.put(store.Tenant{ID: "acc", Account: &account.Account{ID: "acc", Plan: plan.Name}})
	x := &succession{s: s, policy: live.Now(), rate: rate, now: time.UnixMicro(1_800_000_000_000_000)}
	x.standby = x.follower()
	x.takeOver()
	return x
}

func (x *succession) follower() *facts {
	f := newFacts()
	f.arrivals.remember(x.policy)
	return f
}

// write stores a frame that was begun so long ago, but after the one before it
// had all its events.
func (x *succession) write(ago time.Duration, ev ...*pb.Event) {
	us := max(x.now.Add(-ago).UnixMicro(), x.wrote)
	x.wrote = x.now.UnixMicro()
	l := stream.Link{Seq: uint64(len(x.frames)) + 1, Frame: &pb.Frame{TimeUs: us, Events: ev}}
	x.frames = append(x.frames, l)
	if x.own != nil {
		x.own.fold(l)
	}
}

// read has the standby read so many frames.
func (x *succession) read(n int) {
	if int(x.standby.seq) < x.front && x.standby.seq > 0 {
		x.standby = x.follower()
	}
	next := max(int(x.standby.seq), x.front)
	for ; n > 0 && next < len(x.frames); n, next = n-1, next+1 {
		x.standby.fold(x.frames[next])
	}
	x.standby.arrivals.settle(x.s.tenants.planOf)
}

// hot reports whether the standby has seen all that the rate may count.
func (x *succession) hot() bool {
	since := x.standby.arrivals.since
	return since.IsZero() || x.now.Sub(since) >= limit.Memory(x.rate)
}

// takeOver ends the reign: who led stands by, and knows nothing any more.
func (x *succession) takeOver() {
	x.own = nil
	x.write(0, &pb.Event{Fact: &pb.Event_EpochOpened{EpochOpened: &pb.EpochOpened{}}})
	x.read(len(x.frames))
	x.own, x.standby = x.standby, x.follower()
	x.leader = &leader{s: x.s, policy: x.policy, now: x.now, rates: newRates(), ladder: limit.NewLadder()}
	x.leader.replay(&x.own.arrivals)
}

// submit reports whether the rate let a job pass.
func (x *succession) submit(id string, gathering time.Duration) bool {
	x.leader.now, x.leader.deciding = x.now, deciding{}
	env := &pb.Envelope{Id: id, Account: "acc"}
	if x.leader.chargeRate(x.rate, env) != nil {
		return false
	}
	x.write(gathering, &pb.Event{Fact: &pb.Event_Accepted{Accepted: &pb.Accepted{Envelope: env}}})
	x.own.entries[id].taken = x.leader.deciding.taken
	return true
}

// However often the leader changes, what passes is no more than one bucket
// lets through: of what it counts, to the microsecond.
func TestTakeoversPassNoMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := account.Rate{
			Algorithm: account.TokenBucket, Requests: rapid.IntRange(1, 12).Draw(t, "requests"),
			Window: time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second, Burst: rapid.IntRange(1, 8).Draw(t, "burst"),
			By: account.ByAccount, Charge: rapid.SampledFrom([]account.Charge{account.ChargeAll, account.ChargeSuccess}).Draw(t, "charge"),
		}
		x := newSuccession(t, rate)
		type passed struct {
			id string
			at time.Time
		}
		var all []passed
		var open []string
		each := rate.Window / time.Duration(rate.Requests)
		for n := range rapid.IntRange(1, 400).Draw(t, "steps") {
			switch k := rapid.IntRange(0, 19).Draw(t, "step"); {
			case k < 5:
				x.now = x.now.Add(time.Duration(rapid.Int64Range(0, each.Microseconds()).Draw(t, "pause")) * time.Microsecond)
			case k < 6:
				x.now = x.now.Add(time.Duration(rapid.Int64Range(0, 5).Draw(t, "tokens")) * each)
			case k < 7: // more than may pass, for a while
				for i := range rapid.IntRange(1, 100).Draw(t, "load") {
					if x.now = x.now.Add(each / 3); x.submit(fmt.Sprint(n, "-", i), 0) {
						all = append(all, passed{fmt.Sprint(n, "-", i), x.now})
					}
				}
			case k < 14:
				gathering := time.Duration(rapid.Int64Range(0, frameGathers.Milliseconds()).Draw(t, "gathering")) * time.Millisecond
				if id := fmt.Sprint(n); x.submit(id, gathering) {
					all, open = append(all, passed{id, x.now}), append(open, id)
				}
			case k < 16 && len(open) > 0:
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				id := open[i]
				open = slices.Delete(open, i, i+1)
				state := rapid.SampledFrom([]string{"succeeded", "failed"}).Draw(t, "state")
				x.write(0, &pb.Event{Fact: &pb.Event_Finished{Finished: &pb.Finished{Job: &pb.Job{Id: id, Account: "acc", State: state}}}})
				if state == "failed" && rate.Charge == account.ChargeSuccess {
					all = slices.DeleteFunc(all, func(p passed) bool { return p.id == id })
				}
			case k < 17:
				x.read(rapid.IntRange(1, 50).Draw(t, "frames"))
			case k < 18: // a minute is the least that is kept; here it is a second
				for x.front < len(x.frames)-1 && x.now.UnixMicro()-x.frames[x.front].Frame.TimeUs > time.Second.Microseconds() {
					x.front++
				}
			default:
				if x.read(len(x.frames)); x.hot() {
					x.takeOver()
				}
			}
		}
		var at []time.Time
		for _, p := range all {
			at = append(at, p.at)
		}
		if over := excess(rate, at, 0); over > 1e-6 {
			t.Fatalf("%.3f more passed than %d at once and %d in %s", over, rate.Burst, rate.Requests, rate.Window)
		}
	})
}
