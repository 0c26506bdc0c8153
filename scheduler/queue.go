package scheduler

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// tellQueue says how busy the farm is.
func (l *leader) tellQueue(f *frontSession, q *pb.QueueQuery) {
	l.enter()
	defer l.leave()
	if l.over {
		return
	}
	a := &pb.Answer{Call: q.Call, Answer: &pb.Answer_Queue{Queue: l.queue(q.Accounts, q.Batches)}}
	f.out.put(proto.Size(a), func(m *pb.FrontDown) { m.Answers = append(m.Answers, a) })
}

// queue is the board in numbers. What it costs grows with the tiers, the
// accounts and the batches asked for, not with the jobs.
func (l *leader) queue(accounts []string, batches []*pb.BatchOf) *pb.Queue {
	out := &pb.Queue{Length: uint32(l.board.queue.Length), Seats: uint32(l.seats()), Batches: l.board.batchesOnWire(batches)}
	out.Tiers = l.board.inNumbers(l.plannedTiers(), l.now)
	if out.StorageFull = l.storage.full() != ""; out.StorageFull {
		for _, t := range out.Tiers {
			t.Accepting = false
		}
	}
	for _, account := range accounts {
		sum := l.board.tallyOf(account)
		out.Accounts = append(out.Accounts, &pb.QueueAccount{Account: account, Jobs: sum.onWire()})
	}
	return out
}

func (l *leader) plannedTiers() map[int32]bool {
	tiers := map[int32]bool{}
	for _, p := range l.policy.Plans {
		tiers[int32(p.Tier)] = true
	}
	return tiers
}

// inNumbers tells of these tiers and of those with jobs, highest first.
func (b *board) inNumbers(tiers map[int32]bool, now time.Time) []*pb.QueueTier {
	met := map[int32]*tier{}
	for _, t := range b.tiers {
		if met[t.number] = t; t.tally != (tally{}) {
			tiers[t.number] = true
		}
	}
	var out []*pb.QueueTier
	counted := 0 // a tier without jobs counts none
	for _, number := range slices.SortedFunc(maps.Keys(tiers), func(a, b int32) int { return cmp.Compare(b, a) }) {
		of := &pb.QueueTier{Tier: number, Jobs: new(pb.Standing)}
		if t := met[number]; t != nil {
			counted += b.counted(t)
			of.Jobs, of.DrainPerS = t.tally.onWire(), t.drain.perSecond(now)
			if first := t.queue.front(); first != nil {
				of.OldestMs = now.Sub(first.since).Milliseconds()
			}
		}
		of.Counted, of.Accepting = uint32(counted), counted < b.queue.Length
		out = append(out, of)
	}
	return out
}

func (t *tally) onWire() *pb.Standing {
	return &pb.Standing{
		Waiting: uint32(t[queued]), Running: uint32(t[running]), Parked: uint32(t[parked]), Retrying: uint32(t[retrying]),
	}
}
