package scheduler

import (
	"cmp"
	"slices"
	"time"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// turnEvery and turnAfter keep the lower tiers moving: every 16th dispatch
	// goes to the job that has waited longest in any queue, and so does each one
	// while that job has waited for more than a minute.
	turnEvery = 16
	turnAfter = time.Minute
)

// tier is one priority class.
type tier struct {
	number int32
	tally  tally
	queue  line // by becoming eligible
	first  int  // E: accepted with place queue and not yet started once
	drain  pace // at which jobs of the queue start
	room   pace // at which what counts against the queue's length comes to be less
}

func (b *board) tier(number int32) *tier {
	i, found := slices.BinarySearchFunc(b.tiers, number, func(t *tier, n int32) int { return cmp.Compare(n, t.number) })
	if !found {
		b.tiers = slices.Insert(b.tiers, i, &tier{number: number, queue: line{key: byTurn}})
	}
	return b.tiers[i]
}

// countFirst keeps E for a job that may count in it.
func (b *board) countFirst(e *entry, by int) {
	if e.place == pb.Place_PLACE_QUEUE && !e.began {
		b.tier(e.tier).first += by
	}
}

// counted is what of a tier counts against the queue's length: E, and where the
// policy says so the running jobs.
func (b *board) counted(t *tier) int {
	if b.queue.CountRunning {
		return t.first + t.tally[running]
	}
	return t.first
}

// ahead is Σ E[q], q ≥ number: what the queue's length bounds.
func (b *board) ahead(number int32) int {
	sum := 0
	for _, t := range b.tiers {
		if t.number < number {
			break
		}
		sum += b.counted(t)
	}
	return sum
}

// watchRoom is called before something happens to a job of this tier, and what
// it returns is called after that.
func (b *board) watchRoom(number int32, now time.Time) func() {
	t := b.tier(number)
	before := b.counted(t)
	return func() {
		after := b.counted(t)
		if after < before {
			t.room.leave(now)
		}
		t.room.turn(now, after > 0)
	}
}

// roomIn is how long it takes until a job of this tier may enter its queue, at
// the pace at which those that count against its length have left lately.
func (b *board) roomIn(number int32, now time.Time) time.Duration {
	perSecond := 0.0
	for _, t := range b.tiers {
		if t.number >= number {
			perSecond += t.room.perSecond(now)
		}
	}
	return waitFor(b.ahead(number)-b.queue.Length+1, perSecond)
}

// enqueue puts e, which has its slot, last in its tier's queue.
func (b *board) enqueue(e *entry, now time.Time) {
	b.joined++
	b.stand(e, queued)
	e.since, e.turn = now, b.joined
	t := b.tier(e.tier)
	t.queue.add(e)
	t.drain.turn(now, true)
	b.queued++
	b.drain.turn(now, true)
}

// dequeue takes e out of its tier's queue.
func (b *board) dequeue(e *entry, now time.Time) {
	t := b.tier(e.tier)
	t.queue.remove(e)
	t.drain.turn(now, t.queue.n > 0)
	b.queued--
	b.drain.turn(now, b.queued > 0)
}

// next is the job to start next; nil when none waits.
func (b *board) next(now time.Time) *entry {
	at := b.toChoose()
	if i := b.choose(at, b.starts, now); i >= 0 {
		return at[i].job()
	}
	return nil
}

// toChoose are the fronts of the queues, highest tier first. They are good
// until it is called again.
func (b *board) toChoose() []cursor {
	b.cursors = b.cursors[:0]
	for _, t := range b.tiers {
		b.cursors = append(b.cursors, cursor{line: &t.queue})
	}
	return b.cursors
}

// choose says which of the queues gives the next job after so many starts: the
// highest tier, or the one whose front has waited longest when it is the turn
// of that; -1 when none waits.
func (b *board) choose(at []cursor, starts uint64, now time.Time) int {
	top, longest := -1, -1
	var oldest *entry
	for i := range at {
		e := at[i].job()
		if e == nil {
			continue
		}
		if top < 0 {
			top = i
		}
		if oldest == nil || e.turn < oldest.turn {
			longest, oldest = i, e
		}
	}
	if top >= 0 && !b.queue.Strict && ((starts+1)%turnEvery == 0 || oldest.waitedLong(now)) {
		return longest
	}
	return top
}

// waitedLong reports whether e, which is in a queue, has waited there so long
// that it goes before any job that has not.
func (e *entry) waitedLong(now time.Time) bool { return now.Sub(e.since) > turnAfter }
