package worker

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// maxReports bounds how many reports may wait for their commit while seats go
// on rendering. A leader that commits nothing then stops getting credit.
const maxReports = 64

// A drop says why a lease ended here without a report. Its text is the label
// of the metric and the cause of the render's context.
type drop string

const (
	dropRevoked    drop = "revoked"    // the job was cancelled
	dropStale      drop = "stale"      // the leader gave the lease up
	dropUnanswered drop = "unanswered" // no beat was answered in time
	dropReturned   drop = "returned"   // handed back by a drain
)

func (d drop) Error() string { return "the lease is gone: " + string(d) }

// A lease is one job in hand, from its assignment until its report is answered
// or it is dropped.
type lease struct {
	*pb.Assign
	received time.Time
	ctx      context.Context // ends, with a drop as its cause, when the lease is gone
	cancel   context.CancelCauseFunc

	proven time.Time   // sending of the last message whose answer proves the lease; guarded by leases.mu
	alarm  *time.Timer // guarded by leases.mu
	report *report     // nil while rendering; guarded by leases.mu
	sent   bool        // report is sent on the present stream; guarded by leases.mu
}

// A report is the end of an attempt; one of the two is set.
type report struct {
	done   *pb.Done
	failed *pb.Failed
}

// crashed: the attempt failed because its browser or tab died.
func (r *report) crashed() bool {
	code := job.Code(r.failed.GetFailure().GetCode())
	return code == job.BrowserCrashed || code == job.PageCrashed
}

// A sentBeat waits for its answer.
type sentBeat struct {
	number uint64
	at     time.Time
	tokens []uint64
}

// leases is all that the worker holds and all that it owes to the leader: pure
// state under one lock, without I/O. The stream's writer takes what is pending,
// its reader brings in what the leader says, and the seats bring their reports.
type leases struct {
	mu      sync.Mutex
	changed chan struct{}     // closed and replaced at every change
	held    map[uint64]*lease // by token
	idle    []*seat           // ready and without a lease
	busy    int               // seats with a lease, or with a dropped one whose render still returns

	draining  bool
	announced bool     // draining is said on the present stream
	offered   int      // credit of the present stream that no assignment took; never more than idle
	returned  []uint64 // to be handed back
	writing   bool     // what pending gave is not sent yet, or was lost with its stream

	number uint64        // of the last beat
	beats  []sentBeat    // of the present stream, unanswered, oldest first
	proof  time.Time     // sending of the last message of this stream that was answered
	abort  time.Duration // from a proof to the abort of its leases
}

func newLeases() *leases {
	return &leases{changed: make(chan struct{}), held: make(map[uint64]*lease)}
}

// notify wakes whoever waits for a change. mu is held.
func (ls *leases) notify() {
	close(ls.changed)
	ls.changed = make(chan struct{})
}

// until waits for a condition, which is called with mu held, and reports
// whether it came before ctx ended.
func (ls *leases) until(ctx context.Context, condition func(*leases) bool) bool {
	for {
		ls.mu.Lock()
		ok, changed := condition(ls), ls.changed
		ls.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// empty: no lease is held. mu is held.
func (ls *leases) empty() bool { return len(ls.held) == 0 }

// flushed: everything that the leader must hear has been sent, or a later Hello
// has said it. mu is held.
func (ls *leases) flushed() bool {
	for _, l := range ls.held {
		if !l.sent {
			return false
		}
	}
	return len(ls.returned) == 0 && !ls.writing
}

// count is the number of leases held.
func (ls *leases) count() int {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return len(ls.held)
}

// drain ends the intake: no more credit, and whatever is still assigned goes
// back.
func (ls *leases) drain() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.draining = true
	ls.notify()
}

// handBack aborts every render and returns its lease. Reports are kept: their
// work is done, and the leader may be committing them already.
func (ls *leases) handBack() int {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var n int
	for token, l := range ls.held {
		if l.report == nil {
			ls.remove(l, dropReturned)
			ls.returned = append(ls.returned, token)
			n++
		}
	}
	ls.notify()
	return n
}

// free makes a ready seat available.
func (ls *leases) free(s *seat) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.idle = append(ls.idle, s)
	ls.notify()
}

// rest says that a seat's render has returned.
func (ls *leases) rest() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.busy--
}

// assign gives a lease to a free seat. One that is held already is ignored; one
// without a seat for it is returned.
func (ls *leases) assign(a *pb.Assign, now time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	defer ls.notify()
	ls.offered = max(ls.offered-1, 0)
	if _, held := ls.held[a.Token]; held {
		return
	}
	if ls.draining || len(ls.idle) == 0 {
		ls.returned = append(ls.returned, a.Token)
		return
	}
	s := ls.idle[0]
	ls.idle = slices.Delete(ls.idle, 0, 1)
	ls.busy++
	l := &lease{Assign: a, received: now, proven: ls.proof}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	// Until a beat names it, the lease is proven by the last message that was
	// answered before its assignment came. The leader's clock for it started an
	// append of the ledger earlier than the assignment; abortMargin covers that.
	l.alarm = time.AfterFunc(ls.left(l, now), func() { ls.expire(l) })
	ls.held[a.Token] = l
	s.work <- l
}

// left is the time until l must be aborted. mu is held.
func (ls *leases) left(l *lease, now time.Time) time.Duration {
	return l.proven.Add(ls.abort).Sub(now)
}

// expire aborts l if its beats have gone unanswered for too long.
func (ls *leases) expire(l *lease) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.held[l.Token] != l || l.report != nil {
		return
	}
	if left := ls.left(l, time.Now()); left > 0 { // answered while the alarm was on its way
		l.alarm.Reset(left)
		return
	}
	ls.remove(l, dropUnanswered)
	ls.notify()
}

// drop forgets a token, and aborts its page if that is still rendering. An
// unknown token is an answer that came twice.
func (ls *leases) drop(token uint64, why drop) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l := ls.held[token]; l != nil {
		ls.remove(l, why)
		ls.notify()
	}
}

// remove takes l out and ends its context. mu is held.
func (ls *leases) remove(l *lease, why drop) {
	delete(ls.held, l.Token)
	l.alarm.Stop()
	l.cancel(why)
}

// finish queues the report of l. It is false when the lease was dropped
// meanwhile; the report is then worth nothing.
//
// A browser that dies in a drain most likely got the signal that the worker
// got: its lease is handed back, since the page is not to blame.
func (ls *leases) finish(l *lease, r *report) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.held[l.Token] != l {
		return false
	}
	if ls.draining && r.crashed() {
		ls.remove(l, dropReturned)
		ls.returned = append(ls.returned, l.Token)
		ls.notify()
		return false
	}
	l.report = r
	l.alarm.Stop()
	ls.notify()
	return true
}

// hello begins a stream: it lists what is held, and nothing is offered, said or
// beaten on it yet. now is the time before the message is sent.
func (ls *leases) hello(now time.Time) []*pb.Held {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.offered, ls.announced, ls.beats, ls.proof = 0, false, nil, now
	held := make([]*pb.Held, 0, len(ls.held))
	for token, l := range ls.held {
		l.sent = false
		held = append(held, &pb.Held{Token: token, Job: l.Job})
	}
	slices.SortFunc(held, func(a, b *pb.Held) int { return cmp.Compare(a.Token, b.Token) })
	return held
}

// welcomed says that the leader took the Hello. What was to be returned is said
// by it: it was not in the list.
func (ls *leases) welcomed(abort time.Duration) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.abort = abort
	ls.returned, ls.writing = nil, false
	ls.notify()
}

// lost says that the stream has ended; everything said on it may be lost.
func (ls *leases) lost() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.offered = 0
	for _, l := range ls.held {
		l.sent = false
	}
}

// pending takes everything that is to be said into one message, nil if there is
// nothing, and gives the channel that is closed at the next change.
func (ls *leases) pending() (*pb.WorkUp, <-chan struct{}) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var up pb.WorkUp
	reports := 0
	for _, l := range ls.held {
		if l.report == nil {
			continue
		}
		reports++
		switch {
		case l.sent:
		case l.report.done != nil:
			up.Done = append(up.Done, l.report.done)
		default:
			up.Failed = append(up.Failed, l.report.failed)
		}
		l.sent = true
	}
	if ls.draining && !ls.announced {
		up.Draining, ls.announced = true, true
	}
	if n := len(ls.idle) - ls.offered; n > 0 && !ls.draining && reports < maxReports {
		up.Credit = uint32(n)
		ls.offered += n
	}
	up.Returned, ls.returned = ls.returned, nil
	if up.Credit == 0 && !up.Draining && len(up.Done)+len(up.Failed)+len(up.Returned) == 0 {
		return nil, ls.changed
	}
	ls.writing = true
	return &up, ls.changed
}

// wrote says that what pending gave is sent.
func (ls *leases) wrote() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.writing = false
	ls.notify()
}

// beat makes the next beat, for every lease held. now is the time before it is
// sent.
func (ls *leases) beat(now time.Time) *pb.Beat {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.number++
	tokens := make([]uint64, 0, len(ls.held))
	for token := range ls.held {
		tokens = append(tokens, token)
	}
	slices.Sort(tokens)
	ls.beats = append(ls.beats, sentBeat{ls.number, now, tokens})
	return &pb.Beat{Number: ls.number, Tokens: tokens}
}

// beaten extends the leases of an answered beat, from the moment it was sent.
// An answer to a later beat answers the earlier ones.
func (ls *leases) beaten(number uint64, now time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for len(ls.beats) > 0 && ls.beats[0].number <= number {
		b := ls.beats[0]
		ls.beats = ls.beats[1:]
		ls.proof = b.at
		for _, token := range b.tokens {
			if l := ls.held[token]; l != nil && l.report == nil {
				l.proven = b.at
				l.alarm.Reset(max(ls.left(l, now), 0))
			}
		}
	}
}
