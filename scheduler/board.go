package scheduler

import (
	"cmp"
	"container/heap"
	"container/list"
	"slices"
	"time"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// standing is where an unfinished job stands on the leader's board.
type standing int

const (
	nowhere  standing = iota
	parked            // in its account's list: it has no slot
	queued            // in its tier's queue: it has a slot
	running           // leased: it has a slot
	retrying          // backing off, without a slot
)

// board is the leader's view of who waits and who runs: the facts and the
// queues derived from them. It does no I/O, takes the time as an argument and
// is guarded by its leader's lock.
//
// After each step check holds: a job stands in one place; an account's jobs in
// queues and seats are its busy count; at acceptance into a queue the jobs
// that were accepted into it or into a higher one and have never started are
// fewer than its length (I2).
type board struct {
	*facts
	tenants map[string]*tenant
	tiers   []*tier // highest first
	retries retryHeap
	leases  map[uint64]*entry // open ones by token
	// length is L, how many jobs may wait at a tier and above for their first
	// start.
	length int
	// threads is how many slots an account has, today.
	threads func(account string) int
	// emit appends an event to the open frame, applies it to the facts and
	// returns its token.
	emit func(*pb.Event) uint64
}

// tenant is one account's share of the board.
type tenant struct {
	busy   int        // its jobs in a queue or running: slots in use
	parked *list.List // *entry, the next to get a slot in front
}

// tier is one priority class.
type tier struct {
	number int32
	queue  *list.List // *entry, by becoming eligible
	first  int        // E: accepted with place queue and not yet started once
}

// newBoard derives the queues from a fold. Free slots are filled anew, by
// order of acceptance and today's threads.
func newBoard(f *facts, length int, threads func(string) int, emit func(*pb.Event) uint64, now time.Time, nowUS int64) *board {
	b := &board{facts: f, tenants: map[string]*tenant{}, leases: map[uint64]*entry{}, length: length, threads: threads, emit: emit}
	for el := f.unfinished.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		b.countFirst(e, +1)
		if e.lease != nil {
			// Every lease gets a fresh 12 s: its worker could not reach a leader.
			e.lease.assigned = true
			e.lease.beatBy = now.Add(leaseFor)
			e.lease.endBy = now.Add(max(leaseFor, e.lease.wall+wallGrace-time.Duration(nowUS-e.startedUS)*time.Microsecond))
			b.tenant(e.account).busy++
			b.leases[e.lease.token] = e
			e.standing = running
		}
	}
	for el := f.unfinished.Front(); el != nil; el = el.Next() {
		switch e := el.Value.(*entry); {
		case e.lease != nil:
		case e.notBeforeUS > nowUS:
			b.backOff(e, now.Add(time.Duration(e.notBeforeUS-nowUS)*time.Microsecond))
		default:
			b.makeEligible(e, now)
		}
	}
	return b
}

func (b *board) tenant(account string) *tenant {
	t := b.tenants[account]
	if t == nil {
		t = &tenant{parked: list.New()}
		b.tenants[account] = t
	}
	return t
}

func (b *board) tier(number int32) *tier {
	i, found := slices.BinarySearchFunc(b.tiers, number, func(t *tier, n int32) int { return cmp.Compare(n, t.number) })
	if !found {
		b.tiers = slices.Insert(b.tiers, i, &tier{number: number, queue: list.New()})
	}
	return b.tiers[i]
}

// share is how much of the board an account has.
func (b *board) share(account string) (busy, parked int) {
	if t := b.tenants[account]; t != nil {
		return t.busy, t.parked.Len()
	}
	return 0, 0
}

// countFirst keeps E for a job that may count in it.
func (b *board) countFirst(e *entry, by int) {
	if e.place == pb.Place_PLACE_QUEUE && !e.began {
		b.tier(e.tier).first += by
	}
}

// ahead is Σ E[q], q ≥ number: what the queue's length bounds.
func (b *board) ahead(number int32) int {
	sum := 0
	for _, t := range b.tiers {
		if t.number >= number {
			sum += t.first
		}
	}
	return sum
}

// full reports whether a job may not be accepted into this tier's queue.
func (b *board) full(number int32) bool { return b.ahead(number) >= b.length }

// accept makes a job the farm's.
func (b *board) accept(a *pb.Accepted, body *pb.Body, now time.Time) *entry {
	b.emit(&pb.Event{Fact: &pb.Event_Accepted{Accepted: a}})
	e := b.entries[a.Envelope.Id]
	e.body = body
	b.countFirst(e, +1)
	if a.Place == pb.Place_PLACE_PARKED {
		b.park(e)
	} else {
		b.enqueue(e, now)
	}
	return e
}

// enqueue gives e a slot and puts it last in its tier's queue.
func (b *board) enqueue(e *entry, now time.Time) {
	b.tenant(e.account).busy++
	e.standing, e.since = queued, now
	e.waiting = b.tier(e.tier).queue.PushBack(e)
}

// park puts e into its account's list, which is ordered by acceptance.
func (b *board) park(e *entry) {
	e.standing = parked
	l := b.tenant(e.account).parked
	for el := l.Back(); el != nil; el = el.Prev() {
		if el.Value.(*entry).order < e.order {
			e.waiting = l.InsertAfter(e, el)
			return
		}
	}
	e.waiting = l.PushFront(e)
}

// makeEligible takes a slot for e if its account has one free, and parks it
// otherwise.
func (b *board) makeEligible(e *entry, now time.Time) {
	if b.tenant(e.account).busy < b.threads(e.account) {
		b.enqueue(e, now)
	} else {
		b.park(e)
	}
}

// fill gives an account's free slots to its parked jobs, first come first.
func (b *board) fill(account string, now time.Time) {
	t := b.tenant(account)
	for t.busy < b.threads(account) && t.parked.Len() > 0 {
		e := t.parked.Remove(t.parked.Front()).(*entry)
		b.enqueue(e, now)
	}
	if t.busy == 0 && t.parked.Len() == 0 {
		delete(b.tenants, account)
	}
}

// fillAll is for a change of threads.
func (b *board) fillAll(now time.Time) {
	for account := range b.tenants {
		b.fill(account, now)
	}
}

// next is the job to start next, highest tier first; nil when none waits.
func (b *board) next() *entry {
	for _, t := range b.tiers {
		if el := t.queue.Front(); el != nil {
			return el.Value.(*entry)
		}
	}
	return nil
}

// start leases a queued job to a worker. It keeps its slot.
func (b *board) start(e *entry, worker, boot string, wall time.Duration, now time.Time) *lease {
	b.countFirst(e, -1)
	b.tier(e.tier).queue.Remove(e.waiting)
	e.standing, e.waiting = running, nil
	b.emit(&pb.Event{Fact: &pb.Event_Started{Started: &pb.Started{Id: e.id, Worker: worker, Boot: boot, WallMs: wall.Milliseconds()}}})
	e.lease.beatBy, e.lease.endBy = now.Add(leaseFor), now.Add(wall+wallGrace)
	b.leases[e.lease.token] = e
	return e.lease
}

// release ends a lease without an end of the job. wait is the back-off, which
// the job spends without a slot.
func (b *board) release(e *entry, reason pb.Released_Reason, wait time.Duration, now time.Time, nowUS int64) {
	ev := &pb.Released{Id: e.id, Token: e.lease.token, Reason: reason}
	if wait > 0 {
		ev.NotBeforeUs = nowUS + wait.Microseconds()
	}
	delete(b.leases, e.lease.token)
	b.emit(&pb.Event{Fact: &pb.Event_Released{Released: ev}})
	b.tenant(e.account).busy--
	if wait > 0 {
		b.backOff(e, now.Add(wait))
	} else {
		b.makeEligible(e, now)
	}
	b.fill(e.account, now)
}

func (b *board) backOff(e *entry, until time.Time) {
	e.standing, e.readyAt = retrying, until
	heap.Push(&b.retries, e)
}

// finish ends a job, wherever it stands, and hands its slot on.
func (b *board) finish(e *entry, fin *pb.Finished, now time.Time) {
	b.countFirst(e, -1)
	switch t := b.tenant(e.account); e.standing {
	case queued:
		b.tier(e.tier).queue.Remove(e.waiting)
		t.busy--
	case running:
		t.busy--
		delete(b.leases, e.lease.token)
	case parked:
		t.parked.Remove(e.waiting)
	case retrying:
		heap.Remove(&b.retries, slices.Index(b.retries, e))
	}
	e.standing, e.waiting = nowhere, nil
	b.emit(&pb.Event{Fact: &pb.Event_Finished{Finished: fin}})
	b.fill(e.account, now)
}

// ripen makes jobs eligible whose back-off is over.
func (b *board) ripen(now time.Time) {
	for len(b.retries) > 0 && !b.retries[0].readyAt.After(now) {
		b.makeEligible(heap.Pop(&b.retries).(*entry), now)
	}
}

// overdue lists jobs whose lease has run out.
func (b *board) overdue(now time.Time) []*entry {
	var out []*entry
	for _, e := range b.leases {
		if now.After(e.lease.beatBy) || now.After(e.lease.endBy) {
			out = append(out, e)
		}
	}
	return out
}

// countTo bounds the walk for a position: further back it is unknown, and
// means nothing to anybody.
const countTo = 10_000

// waitsFor says what a queued job waits for, and its position where that
// means something: in its account's list or in its tier's queue.
func (b *board) waitsFor(e *entry) (job.WaitingFor, int) {
	position := func(l *list.List) int {
		n := 1
		for el := l.Front(); el != nil && el != e.waiting; el = el.Next() {
			if n++; n > countTo {
				return 0
			}
		}
		return n
	}
	switch e.standing {
	case parked:
		return job.WaitingForSlot, position(b.tenant(e.account).parked)
	case queued:
		return job.WaitingForWorker, position(b.tier(e.tier).queue)
	case retrying:
		return job.WaitingForRetry, 0
	}
	return "", 0
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
