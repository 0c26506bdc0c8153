package scheduler

import (
	"slices"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// walkMost bounds the ids that one list looks at under the leader's lock.
	walkMost = 10_000
	// listMost bounds the ids of one answer.
	listMost = 1000
)

// roll is the ids of an account's known jobs, for lists. They come almost in
// order and leave in any: what left is struck off in bulk.
type roll struct {
	ids  []string // ascending; some of jobs that are forgotten
	gone int      // how many of them are
}

// enroll adds a job to its account's roll.
func (f *facts) enroll(e *entry) {
	r := f.rolls[e.account]
	if r == nil {
		r = new(roll)
		f.rolls[e.account] = r
	}
	if n := len(r.ids); n == 0 || r.ids[n-1] < e.id {
		r.ids = append(r.ids, e.id)
		return
	}
	if i, found := slices.BinarySearch(r.ids, e.id); found {
		r.gone--
	} else {
		r.ids = slices.Insert(r.ids, i, e.id)
	}
}

// strike notes that a job is forgotten; it is not in entries any more.
func (f *facts) strike(e *entry) {
	r := f.rolls[e.account]
	if r.gone++; 2*r.gone <= len(r.ids) {
		return
	}
	kept := make([]string, 0, len(r.ids)-r.gone)
	for _, id := range r.ids {
		if f.entries[id] != nil {
			kept = append(kept, id)
		}
	}
	r.ids, r.gone = kept, 0
	if len(kept) == 0 {
		delete(f.rolls, e.account)
	}
}

// list gives known jobs of an account, newest first by id, from before
// "before" on, those that match. next is where to go on, or empty when there is
// nothing further.
func (f *facts) list(account, before string, limit int, match func(*entry) bool) (ids []string, next string) {
	r := f.rolls[account]
	if r == nil {
		return nil, ""
	}
	from := len(r.ids)
	if before != "" {
		from, _ = slices.BinarySearch(r.ids, before)
	}
	for i := from - 1; i >= 0; i-- {
		if len(ids) == limit || from-i > walkMost {
			return ids, r.ids[i+1]
		}
		if e := f.entries[r.ids[i]]; e != nil && match(e) {
			ids = append(ids, e.id)
		}
	}
	return ids, ""
}

// list answers with the ids of an account's jobs. That a job is not among
// them says something too, so it is told when it is durable and this reign
// proved.
func (l *leader) list(f *frontSession, q *pb.List) {
	l.enter()
	defer l.leave()
	if l.over {
		return
	}
	limit := min(max(int(q.Limit), 1), listMost)
	ids, next := l.board.list(q.Account, q.Before, limit, wanted(q))
	l.answer(f, q.Call, &pb.Answer{Call: q.Call, Answer: &pb.Answer_Listed{Listed: &pb.Listed{Ids: ids, MoreBefore: next}}})
}

// wanted is which jobs a list asks for.
func wanted(q *pb.List) func(*entry) bool {
	return func(e *entry) bool {
		return (q.State == "" || job.State(q.State) == e.state()) && (!q.Unfinished || e.end == nil) && (q.Batch == "" || q.Batch == e.batch())
	}
}

// batch is that whose line e is; empty where it is none.
func (e *entry) batch() string {
	if e.env == nil {
		return e.end.Job.GetBatch()
	}
	return e.env.Batch
}
