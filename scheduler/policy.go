package scheduler

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/tintype/tintype/pkg/account"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// policy is what the configuration says, in one piece.
func (cfg *Config) policy() *account.Live {
	if cfg.Policy != nil {
		return cfg.Policy
	}
	p := account.DefaultPolicy()
	if len(cfg.Plans) > 0 {
		p.Plans = cfg.Plans
	}
	p.Queue = account.Queue(cfg.Queue)
	p.Queue.Length = cmp.Or(p.Queue.Length, 10_000)
	cfg.Queue, cfg.Plans = Queue{}, nil // another policy may be in force by the time somebody looks
	return account.NewLive(p)
}

// followPolicy takes up each policy that comes into force, whether this process
// leads or not, until ctx ends.
func (s *Scheduler) followPolicy(ctx context.Context) error {
	for {
		_, changed := s.policy.Watch()
		s.tenants.adopt()
		if l := s.leader.Load(); l != nil {
			l.adopt()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// adopt takes up the policy in force. Nothing is decided again: what was
// accepted stays accepted, at its tier. What has a slot and no worker gives it
// back where there are fewer of them now; what runs, runs on.
func (l *leader) adopt() {
	l.enter()
	defer l.leave()
	p := l.s.policy.Now()
	if l.over || p == l.policy {
		return
	}
	l.policy = p
	l.board.adopt(Queue(p.Queue), l.now)
	l.s.tenants.moveAnonymous(l.board.tenants)
	l.refill()
}

// refill gives out the slots of accounts whose plan has become another one, or
// known, and takes back those beyond it that no worker has.
func (l *leader) refill() {
	for _, id := range l.s.tenants.takeMoved() {
		l.board.hold(l.now, id)
		l.board.trim(l.now, id)
		l.board.fill(l.now, l.board.holders(id)...)
	}
}

// adopt goes by another policy from now on.
func (b *board) adopt(q Queue, now time.Time) {
	old := b.queue
	b.queue = q
	if longer := q.WaitLimit - old.WaitLimit; longer != 0 {
		for el := b.unfinished.Front(); el != nil; el = el.Next() {
			e := el.Value.(*entry)
			e.waitUntil = e.waitUntil.Add(longer)
		}
	}
	if q.CountRunning != old.CountRunning {
		for _, t := range b.tiers {
			t.room.turn(now, b.counted(t) > 0)
		}
	}
	if q.PerHost != old.PerHost {
		b.regroup()
		b.fillAll(now)
	}
}

// regroup sorts every account's jobs by their hosts anew. Slots in use stay in
// use, also those beyond what a host may have now.
func (b *board) regroup() {
	for _, t := range b.tenants {
		t.perHost, t.hosts, t.ready = b.queue.PerHost, map[string]*host{}, nil
	}
	for el := b.unfinished.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		switch t := e.tenant; e.standing {
		case queued, running:
			t.host(e).busy++
		case parked:
			t.host(e).parked.add(e)
		}
	}
	for _, t := range b.tenants {
		for _, h := range t.hosts {
			t.settle(h)
		}
	}
}

// trim takes back the slots that holders of an account have beyond their
// threads, of jobs that no worker has yet: at its start no job is one too many
// (I3). The last accepted go first, and wait among the holder's own.
func (b *board) trim(now time.Time, account string) {
	for _, t := range b.holders(account) {
		b.trimOne(now, t)
	}
}

func (b *board) trimOne(now time.Time, t *tenant) {
	account := t.account
	if t.busy <= b.threads(account) || t.tally[queued] == 0 {
		return
	}
	var waiting []*entry
	for _, id := range b.rolls[account].ids {
		if e := b.entries[id]; e != nil && e.standing == queued && e.tenant == t {
			waiting = append(waiting, e)
		}
	}
	slices.SortFunc(waiting, func(a, b *entry) int { return cmp.Compare(b.order, a.order) })
	for _, e := range waiting[:min(len(waiting), t.busy-b.threads(account))] {
		b.dequeue(e, now)
		t.vacate(e, now)
		b.park(e, now)
	}
}

// touch reads accounts anew that an admin has changed, goes by what they are
// now, and has every replica do so. It keeps nobody waiting for the archive.
func (l *leader) touch(ctx context.Context, ids []string) {
	ctx = context.WithoutCancel(ctx) // the replica that said so may go
	l.enter()
	defer l.leave()
	if l.over {
		return // and nobody waits any more for what is read
	}
	l.s.tenants.wg.Go(func() {
		l.s.tenants.touched(ctx, ids)
		l.enter()
		defer l.leave()
		if l.over {
			return
		}
		l.refill()
		for _, f := range l.fronts {
			f.out.put(64*len(ids), func(m *pb.FrontDown) { m.Touched = append(m.Touched, ids...) })
		}
	})
}
