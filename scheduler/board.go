package scheduler

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
	"time"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// standing is where an unfinished job stands on the leader's board.
type standing int

const (
	nowhere   standing = iota
	parked             // in its account's list: it has no slot
	queued             // in its tier's queue: it has a slot
	running            // leased: it has a slot
	retrying           // backing off, without a slot
	following          // waits for its twin, without a slot
	standings          // how many there are
)

// tally is how many jobs stand where.
type tally [standings]int

// board is the leader's view of who waits and who runs: the facts and the
// queues derived from them. It does no I/O, takes the time as an argument and
// is guarded by its leader's lock. check verifies, after each step, all that
// it promises:
//
//   - a job stands in one place, and every list is in its order;
//   - an account's jobs in queues and seats are its busy count, so slots are
//     derived and cannot leak;
//   - no job is parked while a slot is free that it may take;
//   - the jobs that count against the queue's length are the ones that the facts
//     name (I2 is that judge looks at them).
type board struct {
	*facts
	tenants map[string]*tenant // by the holder's name
	owners  map[string]*owner  // by account: its tenants
	batches map[string]*batch  // by id: those with lines here
	tiers   []*tier            // highest first
	retries retryHeap
	leases  map[uint64]*entry // open ones by token
	queue   Queue
	joined  uint64   // jobs that have joined a queue
	starts  uint64   // dispatches of this reign
	queued  int      // jobs in queues
	drain   pace     // of all queues together
	cursors []cursor // of toChoose
	shares  []share  // of placeOf
	// threads is how many slots a holder of this account has, today, and keyed
	// whether each of its keys is one.
	threads func(account string) int
	keyed   func(account string) bool
	// emit appends an event to the open frame, applies it to the facts and
	// returns its token.
	emit func(*pb.Event) uint64
}

// newBoard derives the queues from a fold. Free slots are filled anew, by
// order of acceptance and today's threads and hosts; waits in the queues are
// counted from now.
func newBoard(f *facts, queue Queue, threads func(string) int, keyed func(string) bool, emit func(*pb.Event) uint64, now time.Time, nowUS int64) *board {
	b := &board{
		facts: f, tenants: map[string]*tenant{}, owners: map[string]*owner{}, batches: map[string]*batch{}, leases: map[uint64]*entry{},
		queue: queue, threads: threads, keyed: keyed, emit: emit,
	}
	for el := f.unfinished.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		since := time.Duration(nowUS-e.acceptedUS) * time.Microsecond
		e.waitUntil = now.Add(queue.WaitLimit - since)
		b.countFirst(e, +1)
		e.tenant = b.tenantOf(e)
		switch {
		case e.lease != nil:
			// Every lease gets a fresh 12 s: its worker could not reach a leader.
			e.lease.assigned = true
			e.lease.beatBy = now.Add(leaseFor)
			e.lease.endBy = now.Add(max(leaseFor, e.lease.wall+wallGrace-time.Duration(nowUS-e.startedUS)*time.Microsecond))
			e.tenant.occupy(e, now)
			b.run(e)
		case b.follows(e):
			b.stand(e, following)
			b.hurry(e, now)
		case e.notBeforeUS > nowUS:
			b.backOff(e, now.Add(time.Duration(e.notBeforeUS-nowUS)*time.Microsecond))
		default:
			b.park(e, now)
		}
	}
	b.fillAll(now)
	for _, t := range b.tiers {
		t.room.turn(now, b.counted(t) > 0)
	}
	return b
}

// verdict is what the board says to a new job.
type verdict int

const (
	mayQueue verdict = iota // it takes a slot and enters its tier's queue
	mayPark
	threadsFull // its plan parks nothing
	backlogFull
	queueFull
)

// terms is what a plan says of jobs beyond the threads.
type terms struct {
	refuse  bool // rather than park
	backlog int  // how many may be parked
}

// judge says where a new job of this key may go. Slots come before the
// tier's depth, and parked jobs do not count against that.
func (b *board) judge(account, key, hostName string, number int32, terms terms) verdict {
	t := b.holder(account, key)
	if t == nil {
		t = new(tenant) // a stranger: nothing of it is here
	}
	free, parked := b.threads(account)-t.busy, t.parked.n
	switch {
	case terms.refuse && free <= parked: // those that wait for their host have asked before
		return threadsFull
	case free > 0 && t.room(hostName):
		if b.ahead(number) >= b.queue.Length {
			return queueFull
		}
		return mayQueue
	case !terms.refuse && parked >= terms.backlog:
		return backlogFull
	}
	return mayPark
}

// accept makes a job the farm's.
func (b *board) accept(a *pb.Accepted, body *pb.Body, now time.Time) *entry {
	defer b.watchRoom(a.Tier, now)()
	b.emit(&pb.Event{Fact: &pb.Event_Accepted{Accepted: a}})
	e := b.entries[a.Envelope.Id]
	e.body, e.waitUntil = body, now.Add(b.queue.WaitLimit)
	b.countFirst(e, +1)
	e.tenant = b.tenantOf(e)
	switch a.Place {
	case pb.Place_PLACE_CACHED: // it ends in the same step
	case pb.Place_PLACE_FOLLOWER:
		b.stand(e, following)
		b.hurry(e, now)
	case pb.Place_PLACE_PARKED:
		b.park(e, now)
	default:
		e.tenant.occupy(e, now)
		b.enqueue(e, now)
	}
	return e
}

func (b *board) park(e *entry, now time.Time) {
	b.stand(e, parked)
	e.tenant.park(e, now)
}

// stand notes where e stands from now on.
func (b *board) stand(e *entry, s standing) {
	for _, t := range []*tally{&b.tier(e.tier).tally, &e.tenant.tally} {
		t[e.standing]--
		t[s]++
		t[nowhere] = 0
	}
	b.countLine(e, s)
	e.standing = s
}

// fill gives the free slots of these holders to their parked jobs, in their
// order. Jobs that become eligible in one step join their queues in that order
// too.
func (b *board) fill(now time.Time, holders ...*tenant) {
	var taken []*entry
	for _, t := range holders {
		switch {
		case t == nil:
		case t.parked.n > 0:
			threads := b.threads(t.account)
			for e := t.take(threads, now); e != nil; e = t.take(threads, now) {
				taken = append(taken, e)
			}
		case t.tally == tally{}:
			b.dropShare(t)
		}
	}
	if len(holders) > 1 {
		slices.SortFunc(taken, func(a, b *entry) int { return cmp.Compare(byParked(a), byParked(b)) })
	}
	for _, e := range taken {
		b.enqueue(e, now)
	}
}

// fillAll is for a change of threads.
func (b *board) fillAll(now time.Time) {
	b.fill(now, slices.Collect(maps.Values(b.tenants))...)
}

// start leases a queued job to a worker. It keeps its slot.
func (b *board) start(e *entry, worker, boot string, wall time.Duration, now time.Time) *lease {
	defer b.watchRoom(e.tier, now)()
	b.starts++
	b.countFirst(e, -1)
	b.drain.leave(now)
	b.tier(e.tier).drain.leave(now)
	b.dequeue(e, now)
	b.emit(&pb.Event{Fact: &pb.Event_Started{Started: &pb.Started{
		Id: e.id, Worker: worker, Boot: boot, WallMs: wall.Milliseconds(),
		Of: &pb.Of{Account: e.account, Batch: e.env.GetBatch(), Attempts: e.attempts + 1},
	}}})
	e.lease.beatBy, e.lease.endBy = now.Add(leaseFor), now.Add(wall+wallGrace)
	b.run(e)
	return e.lease
}

// run counts e, which has its slot and its lease, among the running ones.
func (b *board) run(e *entry) {
	b.stand(e, running)
	b.leases[e.lease.token] = e
}

// stop takes e out of the running ones, and its slot.
func (b *board) stop(e *entry, now time.Time) {
	delete(b.leases, e.lease.token)
	e.tenant.vacate(e, now)
}

// release ends a lease without an end of the job. wait is the back-off, which
// the job spends without a slot; after it, or at once, it takes its turn by
// acceptance among the account's jobs.
func (b *board) release(e *entry, reason pb.Released_Reason, wait time.Duration, now time.Time, nowUS int64) {
	defer b.watchRoom(e.tier, now)()
	ev := &pb.Released{Id: e.id, Token: e.lease.token, Reason: reason, Of: &pb.Of{
		Account: e.account, Batch: e.env.GetBatch(), Attempts: e.attempts, StartedUs: e.startedUS,
	}}
	if !counted(reason) {
		ev.Of.Attempts--
	}
	if wait > 0 {
		ev.NotBeforeUs = nowUS + wait.Microseconds()
	}
	b.stop(e, now)
	b.emit(&pb.Event{Fact: &pb.Event_Released{Released: ev}})
	if wait > 0 {
		b.backOff(e, now.Add(wait))
	} else {
		b.park(e, now)
	}
	b.fill(now, e.tenant)
}

func (b *board) backOff(e *entry, until time.Time) {
	b.stand(e, retrying)
	e.readyAt = until
	heap.Push(&b.retries, e)
}

// finish ends a job, wherever it stands, and hands its slot on. Jobs that its
// result serves are the caller's to end.
func (b *board) finish(e *entry, fin *pb.Finished, now time.Time) {
	defer b.watchRoom(e.tier, now)()
	b.countFirst(e, -1)
	switch e.standing {
	case queued:
		b.dequeue(e, now)
		e.tenant.vacate(e, now)
	case running:
		b.stop(e, now)
	case parked:
		e.tenant.unpark(e, now)
	case retrying:
		heap.Remove(&b.retries, slices.Index(b.retries, e))
	}
	b.stand(e, nowhere)
	b.emit(&pb.Event{Fact: &pb.Event_Finished{Finished: fin}})
	holder := e.tenant
	e.tenant = nil // an end is remembered longer than its holder
	if next := b.promote(e.env.CacheKey, now); next != nil && next != holder {
		b.fill(now, holder, next)
		return
	}
	b.fill(now, holder)
}

// ripen makes jobs eligible whose back-off is over.
func (b *board) ripen(now time.Time) {
	var holders []*tenant
	for len(b.retries) > 0 && !b.retries[0].readyAt.After(now) {
		e := heap.Pop(&b.retries).(*entry)
		b.park(e, now)
		holders = append(holders, e.tenant)
	}
	b.fill(now, holders...)
}

// overdue lists jobs whose lease has run out, the first leased first.
func (b *board) overdue(now time.Time) []*entry {
	var out []*entry
	for _, e := range b.leases {
		if e.lease.over(now) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *entry) int { return cmp.Compare(a.lease.token, b.lease.token) })
	return out
}

// waitedOut reports whether a job that no worker holds has waited for longer
// than the policy lets it.
func (b *board) waitedOut(e *entry, now time.Time) bool {
	return b.queue.WaitLimit > 0 && e.end == nil && e.lease == nil && now.After(e.waitUntil)
}

// expired lists jobs that have waited out, at most as many. Waits end in order
// of acceptance, so the walk ends at the first job that has time left.
func (b *board) expired(now time.Time, most int) []*entry {
	var out []*entry
	for el := b.unfinished.Front(); el != nil && len(out) < most && b.queue.WaitLimit > 0; el = el.Next() {
		e := el.Value.(*entry)
		if !now.After(e.waitUntil) {
			break
		}
		if b.waitedOut(e, now) {
			out = append(out, e)
		}
	}
	return out
}

// retryHeap orders jobs by the end of their back-off.
type retryHeap []*entry

func (h retryHeap) Len() int           { return len(h) }
func (h retryHeap) Less(i, j int) bool { return h[i].readyAt.Before(h[j].readyAt) }
func (h retryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *retryHeap) Push(x any)        { *h = append(*h, x.(*entry)) }
func (h *retryHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
