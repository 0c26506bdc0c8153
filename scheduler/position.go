package scheduler

import (
	"time"

	"github.com/tintype/tintype/pkg/job"
)

// lookAhead is how many dispatches are gone through one by one for a position.
// Behind them the share of the lower tiers is reckoned, not counted: the walk
// is made under the leader's lock, for each look at a job.
const lookAhead = 128

// waitsFor says what an unfinished job waits for; nothing while it runs.
func (e *entry) waitsFor() job.WaitingFor {
	switch e.standing {
	case parked:
		return job.WaitingForSlot
	case queued:
		return job.WaitingForWorker
	case retrying:
		return job.WaitingForRetry
	case following:
		return job.WaitingForTwin
	}
	return ""
}

// position is e's place, from 1: in its account's list while it is parked, and
// among all jobs that wait for a worker, in the order in which they will start
// if nothing else comes, while it is one of those. Otherwise it is 0.
func (b *board) position(e *entry, now time.Time) int {
	switch e.standing {
	case parked:
		return e.tenant.parked.ahead(e) + 1
	case queued:
		return b.placeOf(e, now)
	}
	return 0
}

// placeOf is the position of a job in a queue. It is exact where the queues are
// strict or only one of them holds jobs, for a job that has waited for long,
// and for the next lookAhead jobs of any; for those behind it is reckoned.
func (b *board) placeOf(e *entry, now time.Time) int {
	older, long, before := 0, 0, 0 // before: by tier
	b.shares = b.shares[:0]
	for _, t := range b.tiers {
		s := share{tier: t.number, n: t.queue.n}
		s.older = t.queue.count(func(other *entry) bool { return other.turn < e.turn })
		s.long = t.queue.count(func(other *entry) bool { return other.waitedLong(now) })
		b.shares = append(b.shares, s)
		older, long = older+s.older, long+s.long
		switch {
		case t.number > e.tier:
			before += s.n
		case t.number == e.tier:
			before += s.older
		}
	}
	switch {
	case b.queue.Strict || b.queued == b.tier(e.tier).queue.n:
		return before + 1
	case e.waitedLong(now):
		return older + 1
	}
	at := b.toChoose()
	for n := 1; n <= lookAhead; n++ {
		i := b.choose(at, b.starts+uint64(n-1), now)
		if at[i].job() == e {
			return n
		}
		at[i].step()
	}
	return max(lookAhead+1, long+reckon(b.shares, e.tier))
}

// share is what a tier's queue holds, seen from a job in some queue.
type share struct {
	tier  int32
	n     int     // jobs
	older int     // that have waited for longer than that job
	long  int     // that have waited for long: they go first
	taken float64 // of the older ones, by turns
}

// reckon is about how many jobs start up to and with one of this tier, once
// none is left that has waited for long. Tier by tier the higher ones are
// worked off; meanwhile every turnEvery-th start takes an older job of a lower
// tier, of each as many as its share in them.
func reckon(shares []share, tier int32) int {
	n := 0.0
	for i := range shares {
		s, lower := &shares[i], shares[i+1:]
		left := float64(s.n-s.long) - s.taken
		if s.tier == tier {
			left = float64(s.older-s.long) - s.taken
		}
		toTurn := 0.0
		for _, u := range lower {
			toTurn += float64(u.older-u.long) - u.taken
		}
		turns := left / (turnEvery - 1)
		switch {
		case s.tier == tier:
			return int(n + left + min(turns, toTurn) + 1)
		case turns > toTurn:
			return int(n + (toTurn+1)*turnEvery) // its own turn comes before that of its tier
		}
		n += left + turns
		if toTurn == 0 {
			continue
		}
		for j := range lower {
			u := &lower[j]
			u.taken += turns * (float64(u.older-u.long) - u.taken) / toTurn
		}
	}
	return int(n)
}

// startIn is how long e will wait for its start at the pace of late; 0 when
// nobody knows. place is its position.
func (b *board) startIn(e *entry, place int, now time.Time) time.Duration {
	seconds := 0.0
	ahead := place
	if e.standing == parked {
		slots := e.tenant.drain.perSecond(now)
		if slots == 0 {
			return 0
		}
		seconds = float64(place) / slots
		// With its slot it comes last in its queue, which by then is as long as now.
		ahead = 0
		for _, t := range b.tiers {
			if t.number >= e.tier {
				ahead += t.queue.n
			}
		}
	}
	if ahead > 0 {
		starts := b.drain.perSecond(now)
		if starts == 0 {
			return 0
		}
		seconds += float64(ahead) / starts
	}
	// Further off than a month nobody knows anything.
	if seconds > (30 * 24 * time.Hour).Seconds() {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}
