package scheduler

import (
	"container/list"
	"errors"
	"fmt"
	"slices"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// check verifies what board promises, by counting anew from the jobs; tests
// call it after each step.
func (b *board) check() error {
	return errors.Join(b.checkPlaces(), b.checkTiers(), b.checkTenants(), b.checkPins())
}

// checkPlaces: every unfinished job stands in the one list that its standing
// says, and in no other.
func (b *board) checkPlaces() error {
	found := map[*entry][]standing{}
	for _, t := range b.tiers {
		for el := t.queue.Front(); el != nil; el = el.Next() {
			e := el.Value.(*entry)
			found[e] = append(found[e], queued)
			if e.tier != t.number || e.waiting != el {
				return fmt.Errorf("job %s of tier %d stands in the queue of tier %d", e.id, e.tier, t.number)
			}
		}
	}
	for name, t := range b.tenants {
		for _, h := range t.hosts {
			for el := h.parked.Front(); el != nil; el = el.Next() {
				e := el.Value.(*entry)
				found[e] = append(found[e], parked)
				if e.account != name || t.hostName(e.env.Host) != h.name || e.waiting != el {
					return fmt.Errorf("job %s of %s is parked with %s of %s", e.id, e.account, h.name, name)
				}
			}
		}
	}
	for i, e := range b.retries {
		found[e] = append(found[e], retrying)
		if i > 0 && e.readyAt.Before(b.retries[(i-1)/2].readyAt) {
			return fmt.Errorf("job %s stands in the wrong place of the retries", e.id)
		}
	}
	for tok, e := range b.leases {
		found[e] = append(found[e], running)
		if e.lease == nil || e.lease.token != tok {
			return fmt.Errorf("job %s does not hold lease %d", e.id, tok)
		}
	}
	var before *entry
	for el := b.unfinished.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		if places := found[e]; len(places) != 1 || places[0] != e.standing {
			return fmt.Errorf("job %s says it stands in %d, and is found in %v", e.id, e.standing, places)
		}
		if (e.lease != nil) != (e.standing == running) {
			return fmt.Errorf("job %s: lease %v but standing %d", e.id, e.lease != nil, e.standing)
		}
		if before != nil && (e.order <= before.order || e.waitUntil.Before(before.waitUntil)) {
			return fmt.Errorf("job %s is behind %s, which was accepted, or waits out, later", e.id, before.id)
		}
		before = e
		delete(found, e)
	}
	for e := range found {
		return fmt.Errorf("job %s has ended, or never was, and stands in %v", e.id, found[e])
	}
	return nil
}

// checkTiers: the queues are in order of becoming eligible, and what counts
// against their length is what the jobs say.
func (b *board) checkTiers() error {
	first, running := map[int32]int{}, map[int32]int{}
	for el := b.unfinished.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		if e.place == pb.Place_PLACE_QUEUE && !e.began {
			first[e.tier]++
		}
		if e.lease != nil {
			running[e.tier]++
		}
	}
	for i, t := range b.tiers {
		if i > 0 && t.number >= b.tiers[i-1].number {
			return fmt.Errorf("tier %d stands behind tier %d", t.number, b.tiers[i-1].number)
		}
		if t.first != first[t.number] || t.running != running[t.number] {
			return fmt.Errorf("tier %d: %d wait for their first start and %d run, jobs say %d and %d",
				t.number, t.first, t.running, first[t.number], running[t.number])
		}
		if !inOrder(t.queue, func(e *entry) uint64 { return e.turn }) {
			return fmt.Errorf("tier %d: the queue is out of order", t.number)
		}
		delete(first, t.number)
		delete(running, t.number)
	}
	if len(first)+len(running) > 0 {
		return fmt.Errorf("jobs of tiers that are not there: %v, %v", first, running)
	}
	return nil
}

// checkTenants: slots are what the jobs say, none is free that a parked job
// may take, and an account without jobs has left nothing behind.
func (b *board) checkTenants() error {
	type at struct{ account, host string }
	busy, perHost := map[string]int{}, map[at]int{}
	for el := b.unfinished.Front(); el != nil; el = el.Next() {
		if e := el.Value.(*entry); e.standing == queued || e.standing == running {
			busy[e.account]++
			perHost[at{e.account, e.env.Host}]++
		}
	}
	for name, t := range b.tenants {
		sum, waiting, ready := 0, 0, 0
		for _, h := range t.hosts {
			sum, waiting = sum+h.busy, waiting+h.parked.Len()
			if h.busy == 0 && h.parked.Len() == 0 {
				return fmt.Errorf("account %s: nothing is left at %s", name, h.name)
			}
			if b.queue.PerHost > 0 && h.busy != perHost[at{name, h.name}] {
				return fmt.Errorf("account %s: %d slots at %s, jobs say %d", name, h.busy, h.name, perHost[at{name, h.name}])
			}
			room := b.queue.PerHost == 0 || h.name == "" || h.busy < b.queue.PerHost
			if h.parked.Len() > 0 && room {
				ready++
				if h.index < 0 || h.index >= len(t.ready) || t.ready[h.index] != h {
					return fmt.Errorf("account %s: the jobs parked for %s have room and are not ready", name, h.name)
				}
				if t.busy < b.threads(name) {
					return fmt.Errorf("account %s: a job is parked beside a free slot", name)
				}
			}
			if !inOrder(h.parked, func(e *entry) uint64 { return e.order }) {
				return fmt.Errorf("account %s: the parked jobs are out of order", name)
			}
		}
		switch {
		case t.busy != busy[name] || t.busy != sum:
			return fmt.Errorf("account %s: busy is %d, jobs say %d, hosts %d", name, t.busy, busy[name], sum)
		case t.parked != waiting:
			return fmt.Errorf("account %s: %d jobs are parked, the lists hold %d", name, t.parked, waiting)
		case len(t.ready) != ready:
			return fmt.Errorf("account %s: %d hosts are ready, %d should be", name, len(t.ready), ready)
		case t.busy == 0 && t.parked == 0:
			return fmt.Errorf("account %s has no jobs and a share of the board", name)
		case slices.ContainsFunc(t.ready, func(h *host) bool { return h.first().order < t.ready[0].first().order }):
			return fmt.Errorf("account %s: the ready hosts are out of order", name)
		}
		delete(busy, name)
	}
	if len(busy) > 0 {
		return fmt.Errorf("accounts with jobs and no share of the board: %v", busy)
	}
	return nil
}

// checkPins: every unfinished job, and no other, holds what it needs of the
// streams, the first needs first.
func (b *board) checkPins() error {
	if n := b.fresh.Len() + b.carried.Len(); n != b.unfinished.Len() {
		return fmt.Errorf("%d jobs need the streams, %d are unfinished", n, b.unfinished.Len())
	}
	last := uint64(0)
	for e := range b.byFrame() {
		if e.end != nil || e.pin.token <= last || !e.pin.carried && e.pin.token != e.order {
			return fmt.Errorf("job %s needs the ledger from %d on, behind one that does from %d", e.id, e.pin.token, last)
		}
		last = e.pin.token
	}
	return nil
}

// inOrder reports whether a list of entries rises by key.
func inOrder(l *list.List, key func(*entry) uint64) bool {
	for el := l.Front(); el != nil && el.Next() != nil; el = el.Next() {
		if key(el.Value.(*entry)) >= key(el.Next().Value.(*entry)) {
			return false
		}
	}
	return true
}
