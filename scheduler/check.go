package scheduler

import (
	"fmt"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// check verifies what board promises; tests call it after each step.
func (b *board) check() error {
	busy, first, seen := map[string]int{}, map[int32]int{}, 0
	for el := b.unfinished.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		if e.place == pb.Place_PLACE_QUEUE && !e.began {
			first[e.tier]++
		}
		if (e.lease != nil) != (e.standing == running) {
			return fmt.Errorf("job %s: lease %v but standing %d", e.id, e.lease != nil, e.standing)
		}
		switch e.standing {
		case queued, running:
			busy[e.account]++
		case nowhere:
			return fmt.Errorf("job %s is unfinished and stands nowhere", e.id)
		}
		if e.standing != running {
			seen++
		}
	}
	listed := len(b.retries)
	for _, t := range b.tiers {
		listed += t.queue.Len()
		if t.first != first[t.number] {
			return fmt.Errorf("tier %d: E is %d, jobs say %d", t.number, t.first, first[t.number])
		}
	}
	for name, t := range b.tenants {
		listed += t.parked.Len()
		if t.busy != busy[name] {
			return fmt.Errorf("account %s: busy is %d, jobs say %d", name, t.busy, busy[name])
		}
		if t.parked.Len() > 0 && t.busy < b.threads(name) {
			return fmt.Errorf("account %s: a job is parked beside a free slot", name)
		}
		delete(busy, name)
	}
	if len(busy) > 0 {
		return fmt.Errorf("accounts with jobs and no share of the board: %v", busy)
	}
	if listed != seen {
		return fmt.Errorf("%d jobs wait, the lists hold %d", seen, listed)
	}
	return nil
}
