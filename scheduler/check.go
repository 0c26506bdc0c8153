package scheduler

import (
	"container/list"
	"errors"
	"fmt"
	"slices"
	"strings"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// check verifies what board promises, by counting anew from the jobs; tests
// call it after each step.
func (b *board) check() error {
	return errors.Join(b.checkPlaces(), b.checkTiers(), b.checkTenants(), b.checkBatches(), b.checkPins(), b.checkBills())
}

// checkPlaces: every unfinished job stands in the one list that its standing
// says, and in no other.
func (b *board) checkPlaces() error {
	found := map[*entry][]standing{}
	for _, t := range b.tiers {
		for e := range t.queue.all() {
			found[e] = append(found[e], queued)
			if e.tier != t.number {
				return fmt.Errorf("job %s of tier %d stands in the queue of tier %d", e.id, e.tier, t.number)
			}
		}
	}
	for name, t := range b.tenants {
		for _, h := range t.hosts {
			for e := range h.parked.all() {
				found[e] = append(found[e], parked)
				if e.tenant != t || b.holderName(e.account, e.env.Key) != name || t.hostName(e.env.Host) != h.name {
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
	for key, twins := range b.twins {
		if err := twins.check(); err != nil || twins.n == 0 {
			return fmt.Errorf("the %d twins of %x: %w", twins.n, key, err)
		}
		for e := range twins.all() {
			if string(e.env.CacheKey) != key || e.end != nil {
				return fmt.Errorf("job %s is no twin of %x", e.id, key)
			}
			if e.standing == following {
				found[e] = append(found[e], following)
			}
			// One whose twin's result has come may stand elsewhere until its body is
			// read and it ends.
			if b.follows(e) != (e.standing == following) && (e.standing == following || b.source(e) == nil) {
				return fmt.Errorf("job %s stands in %d, and follows: %t", e.id, e.standing, b.follows(e))
			}
		}
	}
	for key, tail := range b.tails {
		follow := 0
		for e := range b.twins[key].all() {
			if e.place == pb.Place_PLACE_FOLLOWER {
				follow++
			}
		}
		if err := tail.check(); err != nil || tail.n != follow || tail.n == 0 {
			return fmt.Errorf("%d jobs of %x were accepted to follow, jobs say %d: %w", tail.n, key, follow, err)
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
	first, stand, inQueues := map[int32]int{}, map[int32]tally{}, 0
	for el := b.unfinished.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		if e.place == pb.Place_PLACE_QUEUE && !e.began {
			first[e.tier]++
		}
		here := stand[e.tier]
		here[e.standing]++
		stand[e.tier] = here
		if e.standing == queued {
			inQueues++
		}
	}
	if b.queued != inQueues || b.drain.on != (inQueues > 0) {
		return fmt.Errorf("%d jobs are in queues (pace %t), jobs say %d", b.queued, b.drain.on, inQueues)
	}
	for i, t := range b.tiers {
		if i > 0 && t.number >= b.tiers[i-1].number {
			return fmt.Errorf("tier %d stands behind tier %d", t.number, b.tiers[i-1].number)
		}
		if t.first != first[t.number] || t.tally != stand[t.number] {
			return fmt.Errorf("tier %d: %d wait for their first start and %v stand where they do, jobs say %d and %v",
				t.number, t.first, t.tally, first[t.number], stand[t.number])
		}
		if t.drain.on != (t.queue.n > 0) || t.room.on != (b.counted(t) > 0) {
			return fmt.Errorf("tier %d: the paces are %t and %t, with %d in the queue and %d counted", t.number, t.drain.on, t.room.on, t.queue.n, b.counted(t))
		}
		if err := t.queue.check(); err != nil {
			return fmt.Errorf("tier %d: the queue: %w", t.number, err)
		}
		delete(first, t.number)
		delete(stand, t.number)
	}
	if len(first)+len(stand) > 0 {
		return fmt.Errorf("jobs of tiers that are not there: %v, %v", first, stand)
	}
	return nil
}

// checkTenants: slots are what the jobs say, none is free that a parked job
// may take, and an account without jobs has left nothing behind.
func (b *board) checkTenants() error {
	type at struct{ holder, host string }
	stand, perHost := map[string]tally{}, map[at]int{}
	for el := b.unfinished.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		name := b.holderName(e.account, e.env.Key)
		here := stand[name]
		here[e.standing]++
		stand[name] = here
		if e.standing == queued || e.standing == running {
			perHost[at{name, e.env.Host}]++
		}
	}
	all := 0
	for account, s := range b.owners {
		for _, t := range s.all {
			if t.account != account || b.tenants[t.name] != t {
				return fmt.Errorf("account %s: %s is no share of it", account, t.name)
			}
		}
		if all += len(s.all); len(s.all) == 0 {
			return fmt.Errorf("account %s has no jobs and is on the board", account)
		}
	}
	if all != len(b.tenants) {
		return fmt.Errorf("accounts have %d shares of the board, of %d", all, len(b.tenants))
	}
	for name, t := range b.tenants {
		sum, waiting, ready := 0, 0, 0
		for _, h := range t.hosts {
			sum, waiting = sum+h.busy, waiting+h.parked.n
			if h.busy == 0 && h.parked.n == 0 {
				return fmt.Errorf("account %s: nothing is left at %s", name, h.name)
			}
			if b.queue.PerHost > 0 && h.busy != perHost[at{name, h.name}] {
				return fmt.Errorf("account %s: %d slots at %s, jobs say %d", name, h.busy, h.name, perHost[at{name, h.name}])
			}
			room := b.queue.PerHost == 0 || h.name == "" || h.busy < b.queue.PerHost
			if h.parked.n > 0 && room {
				ready++
				if h.index < 0 || h.index >= len(t.ready) || t.ready[h.index] != h {
					return fmt.Errorf("account %s: the jobs parked for %s have room and are not ready", name, h.name)
				}
				if t.busy < b.threads(t.account) {
					return fmt.Errorf("account %s: a job is parked beside a free slot", name)
				}
			}
			if err := h.parked.check(); err != nil {
				return fmt.Errorf("account %s: the jobs parked for %s: %w", name, h.name, err)
			}
		}
		switch err := t.parked.check(); {
		case err != nil:
			return fmt.Errorf("account %s: the parked jobs: %w", name, err)
		case t.tally != stand[name]:
			return fmt.Errorf("account %s: %v stand where they do, jobs say %v", name, t.tally, stand[name])
		case t.busy != t.tally[queued]+t.tally[running] || t.busy != sum:
			return fmt.Errorf("account %s: busy is %d, jobs say %v, hosts %d", name, t.busy, t.tally, sum)
		case t.parked.n != waiting || t.parked.n != t.tally[parked] || t.drain.on != (t.parked.n > 0):
			return fmt.Errorf("account %s: %d jobs are parked (pace %t), the hosts hold %d, jobs say %v", name, t.parked.n, t.drain.on, waiting, t.tally)
		case len(t.ready) != ready:
			return fmt.Errorf("account %s: %d hosts are ready, %d should be", name, len(t.ready), ready)
		case t.name != name || !strings.HasPrefix(name, t.account) || b.eachKey(t.account) != b.keyed(t.account):
			return fmt.Errorf("account %s: its share is %q of %q, by key: %t", name, t.name, t.account, b.eachKey(t.account))
		case t.tally == tally{}:
			return fmt.Errorf("account %s has no jobs and a share of the board", name)
		case slices.ContainsFunc(t.ready, func(h *host) bool { return byParked(h.first()) < byParked(t.ready[0].first()) }):
			return fmt.Errorf("account %s: the ready hosts are out of order", name)
		}
		delete(stand, name)
	}
	if len(stand) > 0 {
		return fmt.Errorf("accounts with jobs and no share of the board: %v", stand)
	}
	return nil
}

// checkPins: every unfinished job, and no other, holds what it needs of the
// streams, the first needs first.
func (b *board) checkPins() error {
	if n := b.frames.Len(); n != b.unfinished.Len() {
		return fmt.Errorf("%d jobs need the ledger, %d are unfinished", n, b.unfinished.Len())
	}
	inJobs := 0
	for el := b.frames.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		if e.end != nil || e.pin.inFrames != el || (e.pin.inRecord == nil) != e.pin.inLedger {
			return fmt.Errorf("job %s does not need what it says: %+v", e.id, e.pin)
		}
		if !e.pin.inLedger {
			inJobs++
		}
	}
	if inJobs != b.records.Len() {
		return fmt.Errorf("%d jobs need their records, %d are said to", inJobs, b.records.Len())
	}
	if !inOrder(b.frames, func(e *entry) uint64 { return e.pin.token }) || !inOrder(b.records, func(e *entry) uint64 { return e.jobsSeq }) {
		return errors.New("what jobs need of the streams is out of order")
	}
	return nil
}

// checkBills: what is reserved is what the unfinished jobs say, and sums are in
// order of their frames.
func (b *board) checkBills() error {
	reserved := map[period]int64{}
	alone := map[string]bool{} // pictures of which a job that follows nobody is unfinished
	for el := b.unfinished.Front(); el != nil; el = el.Next() {
		if e := el.Value.(*entry); e.units != 0 && (e.place != pb.Place_PLACE_FOLLOWER || e.shares() == "") {
			reserved[period{e.account, e.period}] += e.units
			alone[fmt.Sprint(e.period, e.shares())] = true
		}
	}
	held := map[string]bool{}
	for el := b.unfinished.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		if e.units == 0 || e.place != pb.Place_PLACE_FOLLOWER || e.shares() == "" {
			continue
		}
		picture, head := fmt.Sprint(e.period, e.shares()), b.twin(e.env.CacheKey)
		first := head.place == pb.Place_PLACE_FOLLOWER && head.period == e.period
		if (first || !alone[picture]) && !held[picture] {
			reserved[period{e.account, e.period}] += e.units
			held[picture] = true
		}
	}
	for p, it := range b.bills.of {
		if it.reserved != reserved[p] {
			return fmt.Errorf("account %s, period %d: %d units are reserved, jobs say %d", p.account, p.day, it.reserved, reserved[p])
		}
		for i, s := range it.spent {
			if s.seq <= b.bills.since || i > 0 && it.spent[i-1].seq >= s.seq {
				return fmt.Errorf("account %s, period %d: charges since frame %d are out of order: %v", p.account, p.day, b.bills.since, it.spent)
			}
		}
		if it.reserved == 0 && len(it.spent) == 0 && len(it.told) == 0 {
			return fmt.Errorf("account %s, period %d: a bill that says nothing", p.account, p.day)
		}
		delete(reserved, p)
	}
	if len(reserved) > 0 {
		return fmt.Errorf("reserved in no bill: %v", reserved)
	}
	return nil
}

// check verifies that a line holds as many jobs as it says, each once and in
// order, and that it finds the place of each.
func (l *line) check() error {
	n := 0
	var last *entry
	for e := range l.all() {
		if last != nil && l.key(last) >= l.key(e) {
			return fmt.Errorf("job %s stands behind %s", e.id, last.id)
		}
		if place := l.ahead(e); place != n {
			return fmt.Errorf("job %s is said to have %d before it, and has %d", e.id, place, n)
		}
		last = e
		n++
	}
	if n != l.n || slices.ContainsFunc(l.chunks, func(c []*entry) bool { return len(c) == 0 || len(c) > chunkMost }) {
		return fmt.Errorf("%d jobs, the line says %d, in %d chunks", n, l.n, len(l.chunks))
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
