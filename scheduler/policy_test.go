package scheduler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// livePolicy is one plan, called test as that of the bubble's account.
func livePolicy(change func(*account.Policy)) *account.Policy {
	p := &account.Policy{
		Queue: account.Queue{Length: 100},
		Plans: []account.Plan{{Name: "test", Threads: 2, OverThreads: account.OverThreads{Backlog: 10_000}, Wall: time.Minute, Retention: time.Hour}},
	}
	change(p)
	return p
}

// standings are the bubble's account's jobs, by where they stand.
func (b *bubble) standings(s *Scheduler) (t tally) {
	synctest.Wait()
	l := s.leader.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.board.check(); err != nil {
		b.t.Error(err)
	}
	if of := l.board.tenants["acc_acme"]; of != nil {
		return of.tally
	}
	return t
}

func (b *bubble) wantStandings(s *Scheduler, when string, parkedJobs, queuedJobs, runningJobs int) {
	b.t.Helper()
	t := b.standings(s)
	if t[parked] != parkedJobs || t[queued] != queuedJobs || t[running] != runningJobs {
		b.t.Errorf("%s: %d parked, %d queued, %d running; want %d, %d, %d", when, t[parked], t[queued], t[running], parkedJobs, queuedJobs, runningJobs)
	}
}

// More threads are given out at once; fewer drain: what runs, runs on, and what
// only had a slot waits for one again. Jobs keep the tier that they were accepted at.
func TestPolicyChangesUnderAReign(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		live := account.NewLive(livePolicy(func(*account.Policy) {}))
		s, _ := b.start("a", Config{Alone: true, Policy: live})
		b.leading(s)
		w := b.seats(s, 8)
		var ids []string
		for range 8 {
			ids = append(ids, b.submit())
		}
		b.wantStandings(s, "two threads", 6, 2, 0)

		live.Set(livePolicy(func(p *account.Policy) { p.Plans[0].Threads, p.Plans[0].Tier = 6, 5 }))
		b.wantStandings(s, "six threads", 2, 6, 0)
		w.send(&pb.WorkUp{Credit: 3})
		var leased []*pb.Assign
		for range 3 {
			leased = append(leased, assigned(w))
		}
		b.wantStandings(s, "three at work", 2, 3, 3)

		live.Set(livePolicy(func(p *account.Policy) { p.Plans[0].Threads = 2 }))
		b.wantStandings(s, "two threads again", 5, 0, 3)
		w.send(&pb.WorkUp{Credit: 5})
		synctest.Wait()
		b.wantStandings(s, "free seats and no free slot", 5, 0, 3)
		w.send(done(leased[0]))
		b.wantStandings(s, "two at work", 5, 0, 2)
		w.send(done(leased[1]))
		next := assigned(w)
		if next.Job != ids[3] {
			t.Errorf("the next to start is %s, not the one that was accepted first", next.Job)
		}
		b.wantStandings(s, "its slot went on", 4, 0, 2)

		// A plan of another name: the account's is not there any more, and it has the
		// first one, until there is one of that name again.
		live.Set(livePolicy(func(p *account.Policy) {
			p.Plans[0].Name, p.Plans[0].Threads, p.Plans[0].Tier = "renamed", 3, 7
		}))
		assigned(w)
		b.wantStandings(s, "the first plan's three threads", 3, 0, 3)
		late := b.submit()
		if j := b.look(s, late); j.Tier != 7 {
			t.Errorf("a new job is of tier %d", j.Tier)
		}
		if j := b.look(s, ids[7]); j.Tier != 0 {
			t.Errorf("an old job is of tier %d now", j.Tier)
		}

		// Everybody's queue.
		live.Set(livePolicy(func(p *account.Policy) {
			p.Plans[0].Threads, p.Queue = 100, account.Queue{Length: 3, WaitLimit: time.Minute}
		}))
		synctest.Wait()
		l := s.leader.Load()
		l.mu.Lock()
		length, queue := l.board.queue.Length, l.queue(nil, nil)
		l.mu.Unlock()
		if length != 3 || queue.Length != 3 || len(queue.Tiers) != 2 {
			t.Errorf("the queue's length is %d, the tiers %v", length, queue.Tiers)
		}
		last := b.submit()
		time.Sleep(50 * time.Second)
		b.want(s, "within the new limit", last, job.Queued, 0)
		time.Sleep(20 * time.Second)
		b.want(s, "beyond the new limit", last, job.Expired, 0)
	})
}

// A policy that comes while nobody leads is the next leader's from its start;
// one that comes while it begins is not lost.
func TestPolicyChangesWithoutAReign(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		live := account.NewLive(livePolicy(func(*account.Policy) {}))
		first, kill := b.start("a", Config{Policy: live})
		b.leading(first)
		for range 5 {
			b.submit()
		}
		second, _ := b.start("b", Config{Policy: live})
		time.Sleep(time.Second)
		kill()
		live.Set(livePolicy(func(p *account.Policy) { p.Plans[0].Threads = 4 }))
		b.leading(second)
		b.wantStandings(second, "after the takeover", 1, 4, 0)
	})
}

// Reloads at any moment of a busy farm lose nothing, end nothing, and never
// lease more than the threads of the moment (I3).
func TestPolicyChangesUnderLoad(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		rnd := rand.New(rand.NewPCG(1, 2))
		live := account.NewLive(livePolicy(func(*account.Policy) {}))
		s, _ := b.start("a", Config{Alone: true, Policy: live})
		b.leading(s)
		w := b.seats(s, 8)
		ids := map[string]bool{}
		var working []*pb.Assign
		threads := 2
		for i := range 300 {
			switch n := rnd.IntN(4); n {
			case 0:
				threads = 1 + rnd.IntN(6)
				queue := account.Queue{Length: 1000, CountRunning: rnd.IntN(2) == 0, Strict: rnd.IntN(2) == 0, PerHost: rnd.IntN(3)}
				live.Set(livePolicy(func(p *account.Policy) {
					p.Queue, p.Plans[0].Threads, p.Plans[0].Tier = queue, threads, rnd.IntN(3)
					if rnd.IntN(2) == 0 {
						p.Plans[0].Name = fmt.Sprint("plan ", i)
					}
				}))
			case 1:
				ids[b.submit()] = true
			case 2:
				before := b.standings(s)[running]
				w.send(&pb.WorkUp{Credit: 1})
				if after := b.standings(s)[running]; after > before && after > threads {
					t.Fatalf("step %d: %d leases with %d threads", i, after, threads)
				}
			case 3:
				if len(working) > 0 {
					w.send(done(working[0]))
					working = working[1:]
				}
			}
			synctest.Wait()
			for more := true; more; {
				select {
				case m := <-w.down:
					working = append(working, m.Assign...)
				default:
					more = false
				}
			}
		}
		live.Set(livePolicy(func(*account.Policy) {}))
		for range len(ids) + 5 {
			w.send(&pb.WorkUp{Credit: 1})
			synctest.Wait()
			for more := true; more; {
				select {
				case m := <-w.down:
					working = append(working, m.Assign...)
				default:
					more = false
				}
			}
			for _, a := range working {
				w.send(done(a))
			}
			working = nil
		}
		for id := range ids {
			b.want(s, "at the end", id, job.Succeeded, 1)
		}
		if len(ids) < 30 {
			t.Errorf("only %d jobs", len(ids))
		}
	})
}

// seats is a worker with so many.
func (b *bubble) seats(s *Scheduler, n uint32) *peer[pb.WorkUp, pb.WorkDown] {
	w, _ := connect(b, func(p *pipe[pb.WorkUp, pb.WorkDown]) error { return workService{s: s}.Connect(p) },
		&pb.WorkUp{Hello: &pb.Hello{Worker: "w1", Boot: "boot", Seats: n}})
	return w
}

// meanwhile is an archive that answers the first question, of a standby, late,
// and that something happens beside at the second.
type meanwhile struct {
	*shelf
	asked atomic.Int32
	then  func()
}

func (m *meanwhile) Tenants(ctx context.Context, ids []string, since time.Time) ([]store.Tenant, error) {
	switch m.asked.Add(1) {
	case 1:
		time.Sleep(time.Second)
	case 2:
		m.then()
	}
	return m.shelf.Tenants(ctx, ids, since)
}

// A reign begins with reading accounts, and a policy may come just then.
func TestPolicyChangesWhileAReignBegins(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		live := account.NewLive(livePolicy(func(*account.Policy) {}))
		first, kill := b.start("a", Config{Policy: live})
		b.leading(first)
		b.submit()
		kill()
		slow := &meanwhile{shelf: b.archive}
		b.over = map[string]Archive{"b": slow}
		slow.then = func() {
			live.Set(livePolicy(func(p *account.Policy) { p.Queue.Length = 7 }))
			time.Sleep(time.Millisecond) // whoever follows the policy has heard of it, and found no leader
		}
		second, _ := b.start("b", Config{Alone: true, Policy: live})
		b.leading(second)
		synctest.Wait()
		l := second.leader.Load()
		l.mu.Lock()
		defer l.mu.Unlock()
		if slow.asked.Load() < 2 || l.board.queue.Length != 7 {
			t.Errorf("the queue's length is %d after %d questions", l.board.queue.Length, slow.asked.Load())
		}
	})
}
