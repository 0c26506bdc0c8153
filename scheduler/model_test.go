package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// model says the board's rules again, slowly: one list of jobs by acceptance,
// everything else counted from it each time it is asked for.
type model struct {
	queue  Queue
	byKey  map[string]bool // accounts each key of which has slots of its own
	jobs   []mjob          // by acceptance
	turn   int             // of the last job that became eligible
	starts int
}

type mjob struct {
	account, host string
	key           string // that submitted it
	picture       string // what it wants; empty: something of its own
	follower      bool   // accepted to wait for a twin
	line          bool   // of a batch
	hurried       bool   // a job that is no line waits for it
	began         bool
	tier          int32
	counts        bool // against the queue's length: accepted into it and never started
	standing      standing
	attempts      int
	turn          int
	since         time.Time // in its queue
	acceptedAt    time.Time
	startedAt     time.Time
	waitUntil     time.Time
	notBefore     time.Time // of the last release
	beatBy, endBy time.Time
	ended         bool
}

func (m *model) clone() *model {
	c := *m
	c.jobs, c.byKey = slices.Clone(m.jobs), maps.Clone(m.byKey)
	return &c
}

// count is how many jobs match.
func (m *model) count(match func(mjob) bool) int {
	n := 0
	for _, j := range m.jobs {
		if !j.ended && match(j) {
			n++
		}
	}
	return n
}

func (j mjob) hasSlot() bool { return j.standing == queued || j.standing == running }

// holds reports whether two jobs share their slots.
func (m *model) holds(a, b mjob) bool {
	return a.account == b.account && (!m.byKey[a.account] || a.key == b.key)
}

// mayTake reports whether a job may take a slot.
func (m *model) mayTake(e mjob, threads int) bool {
	if m.count(func(j mjob) bool { return m.holds(e, j) && j.hasSlot() }) >= threads {
		return false
	}
	return m.queue.PerHost == 0 || e.host == "" ||
		m.count(func(j mjob) bool { return m.holds(e, j) && j.host == e.host && j.hasSlot() }) < m.queue.PerHost
}

// twin is the number of the oldest unfinished job of a picture, or -1.
func (m *model) twin(picture string) int {
	return slices.IndexFunc(m.jobs, func(j mjob) bool { return picture != "" && !j.ended && j.picture == picture })
}

// ahead is the sum that the queue's length bounds.
func (m *model) ahead(tier int32) int {
	return m.count(func(j mjob) bool {
		return j.tier >= tier && (j.counts || m.queue.CountRunning && j.standing == running)
	})
}

func (m *model) judge(e mjob, force bool, threads int, terms terms) verdict {
	busy := m.count(func(j mjob) bool { return m.holds(e, j) && j.hasSlot() })
	waiting := m.count(func(j mjob) bool { return m.holds(e, j) && j.standing == parked })
	if m.twin(e.picture) >= 0 && !force && !terms.refuse {
		if m.count(func(j mjob) bool { return m.holds(e, j) && j.standing == following }) >= terms.backlog {
			return backlogFull
		}
		return mayFollow
	}
	switch {
	case terms.refuse && busy+waiting >= threads:
		return threadsFull
	case m.mayTake(e, threads) && m.ahead(e.tier) >= m.queue.Length:
		return queueFull
	case m.mayTake(e, threads):
		return mayQueue
	case !terms.refuse && waiting >= terms.backlog:
		return backlogFull
	}
	return mayPark
}

// rank is whose turn it is first among parked jobs: of those that no batch has,
// or that such a one waits for, before lines of batches, and of each those that
// followed a twin in vain before the others.
func (j mjob) rank() int {
	rank := 0
	if j.line && !j.hurried {
		rank = 2
	}
	if !j.follower {
		rank++
	}
	return rank
}

// settle gives every free slot to the first of those that may take it, by rank
// and then by acceptance.
func (m *model) settle(now time.Time, threads func(string) int) {
	for rank := range 4 {
		for i := range m.jobs {
			if j := &m.jobs[i]; !j.ended && j.standing == parked && j.rank() == rank && m.mayTake(*j, threads(j.account)) {
				m.enqueue(i, now)
			}
		}
	}
}

// hold goes by slots of this account, or of each of its keys.
func (m *model) hold(account string, byKey bool) {
	if m.byKey[account] == byKey {
		return
	}
	m.byKey[account] = byKey
	for i := range m.jobs {
		if j := &m.jobs[i]; !j.ended && j.account == account && j.standing == queued {
			j.standing = parked
		}
	}
}

func (m *model) enqueue(i int, now time.Time) {
	m.turn++
	m.jobs[i].standing, m.jobs[i].turn, m.jobs[i].since = queued, m.turn, now
}

// waiting lists jobs, by number, that stand so, in an order.
func (m *model) waiting(match func(mjob) bool, order func(a, b int) int) []int {
	out := []int{}
	for i, j := range m.jobs {
		if !j.ended && match(j) {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, order)
	return out
}

// next is the number of the job to start, or -1.
func (m *model) next(now time.Time) int {
	all := m.waiting(func(j mjob) bool { return j.standing == queued }, func(a, b int) int { return cmp.Compare(m.jobs[a].turn, m.jobs[b].turn) })
	if len(all) == 0 {
		return -1
	}
	if !m.queue.Strict && (m.starts%16 == 15 || now.Sub(m.jobs[all[0]].since) > time.Minute) {
		return all[0]
	}
	return slices.MinFunc(all, func(a, b int) int {
		return cmp.Or(cmp.Compare(m.jobs[b].tier, m.jobs[a].tier), cmp.Compare(m.jobs[a].turn, m.jobs[b].turn))
	})
}

// lead is what a takeover makes of the facts.
func (m *model) lead(now time.Time, threads func(string) int) {
	m.starts = 0
	for i := range m.jobs {
		m.jobs[i].hurried = false
	}
	for i := range m.jobs {
		j := &m.jobs[i]
		switch j.waitUntil = j.acceptedAt.Add(m.queue.WaitLimit); {
		case j.standing == running:
			j.beatBy = now.Add(leaseFor)
			j.endBy = now.Add(max(leaseFor, time.Minute+wallGrace-now.Sub(j.startedAt)))
		case j.follower && !j.began && m.twin(j.picture) != i:
			j.standing = following
			m.hurry(i)
		case j.notBefore.After(now):
			j.standing = retrying
		default:
			j.standing = parked
		}
	}
	m.settle(now, threads)
}

// hurry lets what job i waits for go before the lines of batches, where it is
// none itself.
func (m *model) hurry(i int) {
	if j := m.jobs[i]; !j.line && !j.ended && j.standing == following {
		m.jobs[m.twin(j.picture)].hurried = true
	}
}

// trim takes back slots beyond so many, of the last accepted first, but for
// those of running jobs.
func (m *model) trim(account string, threads int) {
	for i := len(m.jobs) - 1; i >= 0; i-- {
		j := &m.jobs[i]
		if !j.ended && j.account == account && j.standing == queued &&
			m.count(func(other mjob) bool { return m.holds(*j, other) && other.hasSlot() }) > threads {
			j.standing = parked
		}
	}
}

// adopt goes by another queue from now on.
func (m *model) adopt(q Queue) {
	m.queue = q
	for i := range m.jobs {
		m.jobs[i].waitUntil = m.jobs[i].acceptedAt.Add(q.WaitLimit)
	}
}

// end ends a job: one that succeeds ends those that were accepted to wait for
// its picture; after any other the next of them renders.
func (m *model) end(i int, state job.State) {
	picture := m.jobs[i].picture
	m.over(i)
	for k := range m.jobs {
		if j := &m.jobs[k]; state == job.Succeeded && picture != "" && j.picture == picture && !j.ended && j.follower && !j.began {
			m.over(k)
		}
	}
	if next := m.twin(picture); next >= 0 && m.jobs[next].standing == following {
		m.jobs[next].standing = parked
	}
}

func (m *model) over(i int) {
	m.jobs[i].ended, m.jobs[i].counts, m.jobs[i].standing = true, false, nowhere
}

// trial drives a board and its model side by side.
type trial struct {
	*bench
	model *model
	// As they were at the end of each frame.
	models  []*model
	texts   []told
	names   []string // of the jobs, by number
	purges  []purged
	durable int // frames that no takeover loses
}

// at is job i on the board.
func (b *trial) at(i int) *entry {
	if i < 0 {
		return nil
	}
	for len(b.names) <= i {
		b.names = append(b.names, fmt.Sprintf("job_%04d", len(b.names)+1))
	}
	return b.board.entries[b.names[i]]
}

// pick draws a job that matches; -1 when there is none.
func (b *trial) pick(rt *rapid.T, match func(mjob) bool) int {
	all := b.model.waiting(match, cmp.Compare[int])
	if len(all) == 0 {
		return -1
	}
	return rapid.SampledFrom(all).Draw(rt, "job")
}

func (b *trial) submitBoth(rt *rapid.T, account string, tier int32, host string) {
	j := mjob{
		account: account, host: host, tier: tier, standing: parked,
		key: rapid.SampledFrom([]string{"k", "k", "l"}).Draw(rt, "key"), picture: rapid.SampledFrom([]string{"", "p", "q"}).Draw(rt, "picture"),
		acceptedAt: b.now, waitUntil: b.now.Add(b.queue.WaitLimit),
	}
	force := rapid.IntRange(0, 5).Draw(rt, "force") == 0
	env := &pb.Envelope{Account: account, Host: host, Key: j.key, Force: force}
	if j.line = rapid.IntRange(0, 2).Draw(rt, "line") == 0; j.line {
		env.Batch, env.Line, env.Pass = rapid.SampledFrom([]string{"batch_1", "batch_2"}).Draw(rt, "batch"), uint32(len(b.model.jobs)+1), 1
	}
	if j.picture != "" {
		j.picture += " of " + account
		env.CacheKey = []byte(j.picture)
	}
	want := b.model.judge(j, force, b.threads(account), b.terms(account))
	_, got := b.submitEnv(tier, env)
	if got != want {
		rt.Fatalf("account %s, key %s, tier %d, host %q, picture %q, by force %t: the board says %d, the model %d", account, j.key, tier, host, j.picture, force, got, want)
	}
	switch got {
	case mayQueue, mayPark:
	case mayFollow:
		j.follower, j.standing = true, following
	default:
		return
	}
	j.counts = got == mayQueue
	b.model.jobs = append(b.model.jobs, j)
	b.model.hurry(len(b.model.jobs) - 1)
	if got == mayQueue {
		b.model.enqueue(len(b.model.jobs)-1, b.now)
	}
}

func (b *trial) startBoth(rt *rapid.T) {
	want := b.model.next(b.now)
	e := b.startOn("boot")
	if e != b.at(want) {
		rt.Fatalf("the board starts %v, the model %d", e, want+1)
	}
	if e == nil {
		return
	}
	b.model.starts++
	j := &b.model.jobs[want]
	j.standing, j.began, j.counts, j.startedAt, j.notBefore = running, true, false, b.now, time.Time{}
	j.beatBy, j.endBy = b.now.Add(leaseFor), b.now.Add(time.Minute+wallGrace)
	j.attempts++
}

func (b *trial) releaseBoth(i int, reason pb.Released_Reason, wait time.Duration) {
	b.board.release(b.at(i), reason, wait, b.now, b.now.UnixMicro())
	j := &b.model.jobs[i]
	if reason == pb.Released_REASON_DRAINED || reason == pb.Released_REASON_UNASSIGNED || reason == pb.Released_REASON_LOST_AGAIN {
		j.attempts--
	}
	if j.standing = parked; wait > 0 {
		j.standing, j.notBefore = retrying, b.now.Add(wait)
	}
	b.model.settle(b.now, b.threads)
}

func (b *trial) endBoth(i int, state job.State) {
	b.end(b.at(i), state)
	b.model.end(i, state)
	b.model.settle(b.now, b.threads)
}

// compare looks at everything a step may have changed.
func (b *trial) compare(rt *rapid.T) {
	if err := b.board.check(); err != nil {
		rt.Fatal(err)
	}
	numbers := func(match func(mjob) bool, key func(mjob) int) []string {
		list := b.model.waiting(match, func(x, y int) int {
			return cmp.Or(cmp.Compare(key(b.model.jobs[x]), key(b.model.jobs[y])), cmp.Compare(x, y))
		})
		out := []string{}
		for _, i := range list {
			out = append(out, b.at(i).id)
		}
		return out
	}
	byTurn, byOrder := func(j mjob) int { return j.turn }, func(mjob) int { return 0 }
	got, want := map[string][]string{}, map[string][]string{}
	for _, n := range tiersUsed {
		key := fmt.Sprint("queue of tier ", n)
		got[key], want[key] = []string{}, numbers(func(j mjob) bool { return j.standing == queued && j.tier == n }, byTurn)
		for e := range b.board.tier(n).queue.all() {
			got[key] = append(got[key], e.id)
		}
		if g, w := b.board.ahead(n), b.model.ahead(n); g != w {
			rt.Fatalf("%d jobs count at tier %d, the model says %d", g, n, w)
		}
	}
	for account := range b.slots {
		for _, one := range []mjob{{account: account, key: "k"}, {account: account, key: "l"}} {
			key := fmt.Sprintf("parked with %s of %s", one.key, account)
			want[key] = numbers(func(j mjob) bool { return j.standing == parked && b.model.holds(j, one) }, mjob.rank)
			got[key] = make([]string, len(want[key]))
			for i, j := range b.model.jobs {
				if e := b.at(i); e != nil && e.standing == parked && b.model.holds(j, one) {
					got[key][b.board.position(e, b.now)-1] = e.id
				}
			}
		}
	}
	for name, s := range map[string]standing{"running": running, "retrying": retrying, "following": following} {
		want[name] = numbers(func(j mjob) bool { return j.standing == s }, byOrder)
		got[name] = []string{}
		for i, j := range b.model.jobs {
			e := b.at(i)
			if j.ended && (e == nil || e.env == nil) {
				continue // its frames were purged, all or all but the end's
			}
			if e.standing == s {
				got[name] = append(got[name], e.id)
			}
			if int(e.attempts) != j.attempts || (e.end != nil) != j.ended {
				rt.Fatalf("job %s: %d attempts, end %v; the model says %d, %v", e.id, e.attempts, e.end, j.attempts, j.ended)
			}
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		rt.Fatalf("the board differs from its model (-model +board):\n%s", diff)
	}
}

func anyQueue(rt *rapid.T) Queue {
	return Queue{
		Length:       rapid.IntRange(1, 6).Draw(rt, "length"),
		CountRunning: rapid.Bool().Draw(rt, "count running"),
		Strict:       rapid.IntRange(0, 3).Draw(rt, "strict") == 0,
		WaitLimit:    rapid.SampledFrom([]time.Duration{0, 50 * time.Second, 100 * time.Second}).Draw(rt, "wait limit"),
		PerHost:      rapid.IntRange(0, 2).Draw(rt, "per host"),
	}
}

// tiersUsed are as an operator may number them.
var tiersUsed = []int32{-3, 0, 7}

// TestBoardAgainstModel drives a board at random beside a model of its rules,
// and compares the two after each step. Now and then another leader takes over
// from the ledger, which lacks what the last one had not yet appended. At the
// end, a fold of every prefix of the ledger is what its leader had at that
// frame.
func TestBoardAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		queue := anyQueue(rt)
		slots := map[string]int{}
		for _, account := range []string{"a", "b", "c", "d"} {
			slots[account] = rapid.IntRange(1, 4).Draw(rt, "slots")
		}
		b := &trial{bench: newBench(rt, queue, slots), model: &model{queue: queue, byKey: map[string]bool{}}}
		b.plans["c"], b.plans["d"] = terms{backlog: 2}, terms{refuse: true}
		account, host := rapid.SampledFrom([]string{"a", "a", "a", "b", "c", "d"}), rapid.SampledFrom([]string{"", "x", "y", "z"})
		isRunning := func(j mjob) bool { return j.standing == running }
		pass := func(d time.Duration) {
			b.now = b.now.Add(d)
			b.board.ripen(b.now)
			for i := range b.model.jobs {
				if j := &b.model.jobs[i]; j.standing == retrying && !j.notBefore.After(b.now) {
					j.standing = parked
				}
			}
			b.model.settle(b.now, b.threads)
		}
		actions := map[string]func(*rapid.T){
			"submit": func(rt *rapid.T) {
				for range rapid.IntRange(1, 8).Draw(rt, "jobs") {
					b.submitBoth(rt, account.Draw(rt, "account"), rapid.SampledFrom(tiersUsed).Draw(rt, "tier"), host.Draw(rt, "host"))
				}
			},
			"start": func(rt *rapid.T) {
				for range rapid.IntRange(1, 4).Draw(rt, "seats") {
					b.startBoth(rt)
				}
			},
			"work": func(rt *rapid.T) { // enough dispatches for the lower tiers to get their turn
				for range rapid.IntRange(1, 20).Draw(rt, "jobs") {
					b.submitBoth(rt, account.Draw(rt, "account"), rapid.SampledFrom(tiersUsed).Draw(rt, "tier"), "")
					b.startBoth(rt)
					if i := b.pick(rt, isRunning); i >= 0 {
						b.endBoth(i, job.Succeeded)
					}
				}
			},
			"report": func(rt *rapid.T) {
				if i := b.pick(rt, isRunning); i >= 0 {
					b.endBoth(i, rapid.SampledFrom([]job.State{job.Succeeded, job.Failed}).Draw(rt, "state"))
				}
			},
			"cancel": func(rt *rapid.T) {
				if i := b.pick(rt, func(mjob) bool { return true }); i >= 0 {
					b.endBoth(i, job.Canceled)
				}
			},
			"release": func(rt *rapid.T) {
				if i := b.pick(rt, isRunning); i >= 0 {
					b.releaseBoth(i, pb.Released_Reason(rapid.Int32Range(1, 5).Draw(rt, "reason")), time.Duration(rapid.IntRange(0, 3).Draw(rt, "wait"))*time.Second)
				}
			},
			"beat": func(rt *rapid.T) {
				if i := b.pick(rt, isRunning); i >= 0 {
					b.at(i).lease.beatBy, b.model.jobs[i].beatBy = b.now.Add(leaseFor), b.now.Add(leaseFor)
				}
			},
			"time": func(rt *rapid.T) {
				pass(time.Duration(rapid.IntRange(1, 40_000).Draw(rt, "ms")) * time.Millisecond)
			},
			"sweep": func(rt *rapid.T) {
				late := b.model.waiting(func(j mjob) bool {
					return j.standing == running && (b.now.After(j.beatBy) || b.now.After(j.endBy))
				}, func(x, y int) int { return cmp.Compare(b.at(x).lease.token, b.at(y).lease.token) })
				b.sameJobs(rt, "overdue", late, b.board.overdue(b.now))
				for _, i := range late {
					b.releaseBoth(i, pb.Released_REASON_LOST, time.Second)
				}
			},
			"expire": func(rt *rapid.T) {
				late := b.model.waiting(func(j mjob) bool {
					return b.queue.WaitLimit > 0 && j.standing != running && b.now.After(j.waitUntil)
				}, cmp.Compare[int])
				b.sameJobs(rt, "expired", late, b.board.expired(b.now, 1000))
				for _, i := range late {
					b.endBoth(i, job.Expired)
				}
			},
			"positions": b.samePositions,
			"plan": func(rt *rapid.T) {
				of := account.Draw(rt, "account")
				b.slots[of] = rapid.IntRange(1, 4).Draw(rt, "slots")
				b.board.trim(b.now, of)
				b.board.fill(b.now, b.board.holders(of)...)
				b.model.trim(of, b.threads(of))
				b.model.settle(b.now, b.threads)
			},
			"slots by": func(rt *rapid.T) {
				of := account.Draw(rt, "account")
				b.byKey[of] = !b.byKey[of]
				b.board.hold(b.now, of)
				b.board.trim(b.now, of)
				b.board.fill(b.now, b.board.holders(of)...)
				b.model.hold(of, b.byKey[of])
				b.model.trim(of, b.threads(of))
				b.model.settle(b.now, b.threads)
			},
			"policy": func(rt *rapid.T) {
				b.queue = anyQueue(rt)
				b.board.adopt(b.queue, b.now)
				b.model.adopt(b.queue)
				b.model.settle(b.now, b.threads)
			},
			"carry": func(rt *rapid.T) { b.carry(rapid.IntRange(1, 5).Draw(rt, "jobs"), rapid.Bool().Draw(rt, "bodies")) },
			"purge": func(*rapid.T) { b.purge() },
			"charge": func(rt *rapid.T) {
				prefix := rapid.SampledFrom([]string{chargePrefix, lostPrefix}).Draw(rt, "kind")
				b.emit(&pb.Event{Fact: &pb.Event_Charged{Charged: &pb.Charged{
					Id: fmt.Sprintf("%s%d_%d", prefix, len(b.frames), len(b.open)), Account: account.Draw(rt, "account"),
					Period: rapid.Int32Range(1, 3).Draw(rt, "period"), Units: rapid.Int64Range(-200, 200).Draw(rt, "units"),
				}}})
			},
			"takeover": func(rt *rapid.T) {
				keep := max(b.durable, len(b.frames)-rapid.IntRange(0, 2).Draw(rt, "lost frames"))
				b.frames, b.models, b.texts = b.frames[:keep], b.models[:keep], b.texts[:keep]
				b.model = &model{byKey: map[string]bool{}}
				if keep > 0 {
					b.model = b.models[keep-1].clone()
				}
				b.model.queue, b.model.byKey = b.queue, maps.Clone(b.byKey)
				b.made = len(b.model.jobs)
				b.lead(b.refold())
				b.model.lead(b.now, b.threads)
			},
			"": func(rt *rapid.T) {
				b.cut()
				b.compare(rt)
				if len(b.frames) > len(b.models) {
					b.models, b.texts = append(b.models, b.model.clone()), append(b.texts, told{b.front, text(b.board.facts, b.front, uint64(b.front))})
				}
			},
		}
		for range 4 { // a step is one of thirty or so, and a board fills slowly
			rt.Repeat(actions)
		}
		f := newFacts()
		for i, l := range b.frames {
			f.fold(l)
			if diff := gocmp.Diff(b.texts[i].text, text(f, b.texts[i].front, uint64(b.texts[i].front))); diff != "" {
				rt.Fatalf("at frame %d a fresh fold is not what the leader had (-leader +fold):\n%s", l.Seq, diff)
			}
		}
		if diff := diffFacts(b.refold(), b.board.facts); diff != "" && b.front == 0 {
			rt.Fatalf("a fresh fold differs from the leader's facts (-fold +leader):\n%s", diff)
		}
		b.comparePurged(rt)
	})
}

// samePositions lets the model start all that waits, with nothing else coming
// and time standing still, and compares in which order with what the board
// says.
func (b *trial) samePositions(rt *rapid.T) {
	m := b.model.clone()
	for place := 1; ; place++ {
		i := m.next(b.now)
		if i < 0 {
			return
		}
		if got := b.board.position(b.at(i), b.now); got != place {
			rt.Fatalf("job %s stands at position %d, and is number %d to start", b.at(i).id, got, place)
		}
		m.jobs[i].standing = running
		m.starts++
	}
}

func (b *trial) sameJobs(rt *rapid.T, what string, want []int, got []*entry) {
	names := []string{}
	for _, i := range want {
		names = append(names, b.at(i).id)
	}
	if diff := gocmp.Diff(names, ids(got)); diff != "" {
		rt.Fatalf("%s (-model +board):\n%s", what, diff)
	}
}
