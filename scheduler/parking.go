package scheduler

import (
	"container/heap"
	"time"
)

// tenant is one holder's share of the board: its slots in use, and its parked
// jobs by the host that they go to. A slot may be taken while the holder has
// one free and its jobs to that host have fewer than perHost of them; so a host
// at its bound holds back none of the account's other jobs.
type tenant struct {
	account string
	name    string // of the holder
	perHost int    // slots that jobs to one host may use; 0: as many as there are
	busy    int    // slots in use: its jobs in a queue or running
	tally   tally
	parked  line // its jobs that wait for a slot
	drain   pace // at which they get one
	slots   pace // at which slots are given back
	hosts   map[string]*host
	ready   hostHeap // hosts with a job parked and room for it
}

// host is an account's jobs to one target host. Jobs without a host, and all
// jobs where nothing bounds them, stand under the empty name.
type host struct {
	name   string
	busy   int // slots in use
	parked line
	index  int // in ready; -1 when it is not there
}

func newTenant(account, name string, perHost int) *tenant {
	return &tenant{account: account, name: name, perHost: perHost, parked: line{key: byParked}, hosts: map[string]*host{}}
}

// hostName is the name that e's host goes by here.
func (t *tenant) hostName(name string) string {
	if t.perHost == 0 {
		return ""
	}
	return name
}

// room reports whether one more job to this host may take a slot.
func (t *tenant) room(name string) bool {
	name = t.hostName(name)
	if name == "" {
		return true
	}
	h := t.hosts[name]
	return h == nil || h.busy < t.perHost
}

// occupy counts the slot that e takes.
func (t *tenant) occupy(e *entry, now time.Time) {
	h := t.host(e)
	t.busy++
	t.slots.turn(now, true)
	h.busy++
	t.settle(h)
}

// vacate gives e's slot back.
func (t *tenant) vacate(e *entry, now time.Time) {
	h := t.host(e)
	t.busy--
	t.slots.leave(now)
	t.slots.turn(now, t.busy > 0)
	h.busy--
	t.settle(h)
}

// park lets e wait for a slot, at its place.
func (t *tenant) park(e *entry, now time.Time) {
	h := t.host(e)
	h.parked.add(e)
	t.parked.add(e)
	t.drain.turn(now, true)
	t.settle(h)
}

// unpark takes e out of the parked jobs.
func (t *tenant) unpark(e *entry, now time.Time) {
	h := t.host(e)
	h.parked.remove(e)
	t.parked.remove(e)
	t.drain.turn(now, t.parked.n > 0)
	t.settle(h)
}

// take gives a free slot, of as many as there are threads, to the first parked
// job whose host has room; nil when there is none.
func (t *tenant) take(threads int, now time.Time) *entry {
	if t.busy >= threads || len(t.ready) == 0 {
		return nil
	}
	e := t.ready[0].first()
	t.drain.leave(now)
	t.unpark(e, now)
	t.occupy(e, now)
	return e
}

// slotIn is how long it takes, at the holder's pace, until it has given back a
// slot.
func (b *board) slotIn(account, key string, now time.Time) time.Duration {
	t := b.holder(account, key)
	if t == nil {
		t = new(tenant)
	}
	return waitFor(1, t.slots.perSecond(now))
}

// backlogIn is how long it takes, at the holder's pace, until one more of its
// jobs may be parked.
func (b *board) backlogIn(account, key string, terms terms, now time.Time) time.Duration {
	t := b.holder(account, key)
	if t == nil {
		t = new(tenant)
	}
	return waitFor(t.parked.n-terms.backlog+1, t.drain.perSecond(now))
}

func (t *tenant) host(e *entry) *host {
	name := t.hostName(e.env.Host)
	h := t.hosts[name]
	if h == nil {
		h = &host{name: name, parked: line{key: byParked}, index: -1}
		t.hosts[name] = h
	}
	return h
}

// settle brings ready up to date after a change of h, and forgets h when
// nothing is left of it.
func (t *tenant) settle(h *host) {
	switch ready := h.parked.n > 0 && t.room(h.name); {
	case ready && h.index < 0:
		heap.Push(&t.ready, h)
	case ready:
		heap.Fix(&t.ready, h.index)
	case h.index >= 0:
		heap.Remove(&t.ready, h.index)
	}
	if h.busy == 0 && h.parked.n == 0 {
		delete(t.hosts, h.name)
	}
}

// first is the parked job that goes first.
func (h *host) first() *entry { return h.parked.front() }

// hostHeap orders hosts by their first parked job.
type hostHeap []*host

func (h hostHeap) Len() int           { return len(h) }
func (h hostHeap) Less(i, j int) bool { return byParked(h[i].first()) < byParked(h[j].first()) }
func (h hostHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *hostHeap) Push(x any) {
	x.(*host).index = len(*h)
	*h = append(*h, x.(*host))
}

func (h *hostHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1], last.index = nil, -1
	*h = old[:len(old)-1]
	return last
}
