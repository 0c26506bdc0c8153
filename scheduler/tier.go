package scheduler

import (
	"cmp"
	"container/list"
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
	number  int32
	queue   *list.List // *entry, by becoming eligible
	first   int        // E: accepted with place queue and not yet started once
	running int        // leased
}

func (b *board) tier(number int32) *tier {
	i, found := slices.BinarySearchFunc(b.tiers, number, func(t *tier, n int32) int { return cmp.Compare(n, t.number) })
	if !found {
		b.tiers = slices.Insert(b.tiers, i, &tier{number: number, queue: list.New()})
	}
	return b.tiers[i]
}

// countFirst keeps E for a job that may count in it.
func (b *board) countFirst(e *entry, by int) {
	if e.place == pb.Place_PLACE_QUEUE && !e.began {
		b.tier(e.tier).first += by
	}
}

// ahead is Σ E[q], q ≥ number: what the queue's length bounds. Where the policy
// says so, running jobs count too.
func (b *board) ahead(number int32) int {
	sum := 0
	for _, t := range b.tiers {
		if t.number < number {
			break
		}
		sum += t.first
		if b.queue.CountRunning {
			sum += t.running
		}
	}
	return sum
}

// enqueue puts e, which has its slot, last in its tier's queue.
func (b *board) enqueue(e *entry, now time.Time) {
	b.joined++
	e.standing, e.since, e.turn = queued, now, b.joined
	e.waiting = b.tier(e.tier).queue.PushBack(e)
}

// next is the job to start next: of the highest tier, or the one that has
// waited longest when it is the turn of that; nil when none waits.
func (b *board) next(now time.Time) *entry {
	var top, longest *entry
	for _, t := range b.tiers {
		el := t.queue.Front()
		if el == nil {
			continue
		}
		e := el.Value.(*entry)
		if top == nil {
			top, longest = e, e
		}
		if e.turn < longest.turn {
			longest = e
		}
	}
	if top != nil && !b.queue.Strict && ((b.starts+1)%turnEvery == 0 || now.Sub(longest.since) > turnAfter) {
		return longest
	}
	return top
}
