package scheduler

import (
	"fmt"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// A batch is nothing to the leader but a word on its lines: they are decided,
// queued and run as all jobs are. What is kept of it here is how many of them
// stand where, for whoever feeds it.

// shareOfBacklog is what the lines of batches may fill of a plan's backlog: the
// rest is left to what the account sends by itself meanwhile.
func shareOfBacklog(backlog int) int { return backlog - backlog/4 }

// batch is how many of one's unfinished lines stand where.
type batch struct {
	account string
	tally   tally
}

// countLine notes that e, where it is a line, stands elsewhere from now on.
func (b *board) countLine(e *entry, s standing) {
	id := e.env.Batch
	if id == "" {
		return
	}
	of := b.batches[id]
	if of == nil {
		of = &batch{account: e.account}
		b.batches[id] = of
	}
	of.tally[e.standing]--
	of.tally[s]++
	if of.tally[nowhere] = 0; of.tally == (tally{}) {
		delete(b.batches, id)
	}
}

// ofBatch is how many lines of an account's batch stand where.
func (b *board) ofBatch(account, id string) tally {
	if of := b.batches[id]; of != nil && of.account == account {
		return of.tally
	}
	return tally{}
}

// checkBatches: of each batch as many lines stand somewhere as the jobs say.
func (b *board) checkBatches() error {
	stand := map[string]tally{}
	for el := b.unfinished.Front(); el != nil; el = el.Next() {
		if e := el.Value.(*entry); e.env.Batch != "" {
			here := stand[e.env.Batch]
			here[e.standing]++
			stand[e.env.Batch] = here
		}
	}
	for id, of := range b.batches {
		if of.tally != stand[id] {
			return fmt.Errorf("batch %s: %v stand where they do, jobs say %v", id, of.tally, stand[id])
		}
		delete(stand, id)
	}
	if len(stand) > 0 {
		return fmt.Errorf("batches with jobs that nobody counts: %v", stand)
	}
	return nil
}

// batchesOnWire are those asked for, in that order.
func (b *board) batchesOnWire(asked []*pb.BatchOf) []*pb.Standing {
	var out []*pb.Standing
	for _, q := range asked {
		sum := b.ofBatch(q.Account, q.Batch)
		at := sum.onWire()
		at.Following = uint32(sum[following])
		out = append(out, at)
	}
	return out
}
