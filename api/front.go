package api

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// beatWithin is how long the leader counts as there after a heartbeat. It
	// sends one every 200 ms, and a standby takes over after 1.0 to 1.5 s: within
	// it a request is better kept than sent away to try again.
	beatWithin = 2500 * time.Millisecond
	// downWithin bounds the wait for a stream to a leader that beats: it
	// covers a take-over.
	downWithin = 3 * time.Second
	// clockWithin is how old the last heartbeat may be for its clock to date a
	// record. Without a leader for so long nothing is published: there is no
	// point in promising a decision.
	clockWithin = 5 * time.Second
	// answerWithin bounds the wait for an answer that the leader has at hand.
	answerWithin = 5 * time.Second
	// touchWithin bounds the wait until every replica knows of a change. Without
	// it they find out by themselves, within keyFresh.
	touchWithin = 2 * time.Second
	// unfinishedMost is about how many ids unfinished gives.
	unfinishedMost = 1000
)

// front is this replica's line to the leader: one stream at a time, followed
// to wherever the heartbeats say.
//
// It promises that a decision which was registered before its record was
// published is delivered, also across leaders, or is not heard of within the
// caller's time; that a question which was asked before a reconnect is asked again
// after it; and that a question fails as Unavailable soon after the leader is
// gone. Nothing that it holds matters: what it forgets can be asked again.
type front struct {
	api  string // boot id
	dial func(address string) (*grpc.ClientConn, error)
	log  *slog.Logger
	// welcomed is called at the beginning of each stream, and blocked for each
	// step of the ladder that it tells, with how far the leader's clock is ahead.
	// Nil: nobody wants to know.
	welcomed func()
	blocked  func(b *pb.Block, ahead time.Duration)
	// touched is called with an account that is not as it was. Nil: nobody cares.
	touched func(account string)

	changed chan struct{} // capacity 1: a heartbeat names a new leader
	wake    chan struct{} // capacity 1: out has something to send

	mu       sync.Mutex
	beat     *pb.Heartbeat // guarded by mu, like all below; nil before the first
	beatAt   time.Time     // local, with its monotonic part
	session  *session      // nil while no stream is open
	downAt   time.Time     // since when no stream has been welcomed
	up       chan struct{} // closed while a stream is welcomed
	awaited  map[job.ID]*decision
	asked    map[uint64]*question
	told     map[string]chan struct{} // by account: closed once the leader has read it anew
	lastCall uint64
	out      *pb.FrontUp // what the writer sends next
	muteTill time.Time   // the leader left a count without an answer: none is asked until then
}

// session is one stream to one leader.
type session struct {
	epoch  uint64 // 0 until the leader's welcome
	cancel context.CancelCauseFunc
}

// question is one look-up, cancel, list or question about the queue on its way.
type question struct {
	// put writes it into a message under this number: a second time after a
	// reconnect.
	put    func(up *pb.FrontUp, call uint64)
	once   bool            // it changes something, and is not put again: its answer may have been lost alone
	answer chan *pb.Answer // capacity 1; closed when the leader is gone
}

func newFront(api string, dial func(string) (*grpc.ClientConn, error), log *slog.Logger) *front {
	return &front{
		api: api, dial: dial, log: log, downAt: time.Now(),
		changed: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		up: make(chan struct{}), awaited: make(map[job.ID]*decision), asked: make(map[uint64]*question),
		told: make(map[string]chan struct{}), out: new(pb.FrontUp),
	}
}

// heard takes a heartbeat in. A reign that is older than the one known is a
// leader that does not know yet that it was deposed; it is believed again
// only when nothing else has been heard for a while, as after a restored
// backup.
func (f *front) heard(hb *pb.Heartbeat) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.beat != nil && hb.Epoch < f.beat.Epoch && now.Sub(f.beatAt) < clockWithin {
		return
	}
	moved := f.beat == nil || f.beat.Address != hb.Address || f.beat.Epoch != hb.Epoch
	f.beat, f.beatAt = hb, now
	if !moved {
		return
	}
	if s := f.session; s != nil && s.epoch != 0 && s.epoch != hb.Epoch {
		s.cancel(errNewLeader) // it may be stopped and never close its side
	}
	poke(f.changed)
}

var errNewLeader = errors.New("another scheduler leads")

// clock is the leader's clock, in microseconds, as its last heartbeat and the
// time since then tell it.
func (f *front) clock() (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	since := time.Since(f.beatAt)
	if f.beat == nil || since > clockWithin {
		return 0, noLeader()
	}
	return f.beat.TimeUs + since.Microseconds(), nil
}

// now is clock, or this machine's own where no leader was heard.
func (f *front) now() int64 {
	if us, err := f.clock(); err == nil {
		return us
	}
	return time.Now().UnixMicro()
}

// ahead is how far the leader's clock is ahead of ours.
func (f *front) ahead() time.Duration {
	return time.Duration(f.now()-time.Now().UnixMicro()) * time.Microsecond
}

func noLeader() *fault.Error {
	return &fault.Error{Kind: fault.Unavailable, Detail: "no scheduler leads at the moment; try again", RetryAfter: 2 * time.Second}
}

// led reports whether a leader has welcomed this replica and beats.
func (f *front) led() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.session != nil && f.session.epoch != 0 && time.Since(f.beatAt) < beatWithin
}

// unreachable reports that waiting for the leader has no point. f.mu is held.
func (f *front) unreachable() bool {
	if f.session != nil && f.session.epoch != 0 {
		return false
	}
	return f.beat == nil || time.Since(f.beatAt) > beatWithin || time.Since(f.downAt) > downWithin
}

// lookup asks for a job, at once or when it has ended or when wait is over;
// another account's job is answered at once, as it is. known is false for a
// job that is neither unfinished nor recently finished. The answer follows from
// the events of the ledger before token.
func (f *front) lookup(ctx context.Context, id job.ID, account string, wait time.Duration) (j *job.Job, token uint64, known bool, err error) {
	until, who := time.Now().Add(wait), callerOf(ctx)
	return f.ask(ctx, wait, id, func(up *pb.FrontUp, call uint64) {
		left := max(time.Until(until), 0)
		up.Lookups = append(up.Lookups, &pb.Lookup{
			Call: call, Id: string(id), Account: account, WaitMs: uint32(left.Milliseconds()), Key: who.key, Address: who.address,
		})
	})
}

// cancel ends an account's job, and answers with the job as it is then.
func (f *front) cancel(ctx context.Context, id job.ID, account string) (j *job.Job, known bool, err error) {
	return f.end(ctx, id, account, false)
}

// abandon is cancel by a call that does not want its job any more: one that
// somebody else waits for goes on, and is answered as it is.
func (f *front) abandon(ctx context.Context, id job.ID, account string) (j *job.Job, known bool, err error) {
	return f.end(ctx, id, account, true)
}

func (f *front) end(ctx context.Context, id job.ID, account string, abandoned bool) (*job.Job, bool, error) {
	who := callerOf(ctx)
	j, _, known, err := f.ask(ctx, 0, id, func(up *pb.FrontUp, call uint64) {
		up.Cancels = append(up.Cancels, &pb.Cancel{
			Call: call, Id: string(id), Account: account, Key: who.key, Address: who.address, Abandoned: abandoned,
		})
	})
	return j, known, err
}

// listed gives the ids of an account's jobs that the leader knows, newest
// first, from before "before" on; in any state if that is empty.
func (f *front) listed(ctx context.Context, account string, state job.State, batch string, before job.ID, limit int) ([]job.ID, error) {
	var ids []job.ID
	for {
		list := &pb.List{Account: account, State: string(state), Batch: batch, Before: string(before), Limit: uint32(limit - len(ids))}
		a, err := f.pose(ctx, 0, func(up *pb.FrontUp, call uint64) {
			list.Call = call
			up.Lists = append(up.Lists, list)
		})
		if err != nil {
			return nil, err
		}
		page := a.GetListed()
		for _, id := range page.GetIds() {
			ids = append(ids, job.ID(id))
		}
		if before = job.ID(page.GetMoreBefore()); before == "" || len(ids) >= limit {
			return ids, nil
		}
	}
}

// queue asks how busy the farm is, and with what of these accounts.
func (f *front) queue(ctx context.Context, accounts []string) (*pb.Queue, error) {
	a, err := f.pose(ctx, 0, func(up *pb.FrontUp, call uint64) {
		up.Queues = append(up.Queues, &pb.QueueQuery{Call: call, Accounts: accounts})
	})
	if err != nil {
		return nil, err
	}
	if q := a.GetQueue(); q != nil && len(q.Accounts) == len(accounts) {
		return q, nil
	}
	return nil, fault.New(fault.Internal, "the scheduler's answer about the queue says nothing")
}

// standings asks where the unfinished lines of an account's batches stand.
func (f *front) standings(ctx context.Context, account string, batches ...string) ([]*pb.Standing, error) {
	asked := make([]*pb.BatchOf, len(batches))
	for i, id := range batches {
		asked[i] = &pb.BatchOf{Account: account, Batch: id}
	}
	a, err := f.pose(ctx, 0, func(up *pb.FrontUp, call uint64) {
		up.Queues = append(up.Queues, &pb.QueueQuery{Call: call, Batches: asked})
	})
	if err != nil {
		return nil, err
	}
	if q := a.GetQueue(); len(q.GetBatches()) == len(batches) {
		return q.Batches, nil
	}
	return nil, fault.New(fault.Internal, "the scheduler's answer about batches says nothing")
}

// unfinished gives ids of lines of an account's batch that have not ended: all,
// or some that are to be ended before the others are asked for.
func (f *front) unfinished(ctx context.Context, account, batch string) ([]job.ID, error) {
	var ids []job.ID
	for before := ""; ; {
		a, err := f.pose(ctx, 0, func(up *pb.FrontUp, call uint64) {
			up.Lists = append(up.Lists, &pb.List{Call: call, Account: account, Batch: batch, Unfinished: true, Before: before, Limit: unfinishedMost})
		})
		if err != nil {
			return nil, err
		}
		for _, id := range a.GetListed().GetIds() {
			ids = append(ids, job.ID(id))
		}
		if before = a.GetListed().GetMoreBefore(); before == "" || len(ids) >= unfinishedMost {
			return ids, nil
		}
	}
}

// errUncounted says that no leader counts requests at the moment.
var errUncounted = errors.New("no scheduler counts requests at the moment")

// count reports a request, and gives the leader's refusal if it refuses. It
// waits for no take-over: a request is rather counted here.
func (f *front) count(ctx context.Context, q *pb.Count) error {
	f.mu.Lock()
	now := time.Now()
	counts := f.session != nil && f.session.epoch != 0 && now.Sub(f.beatAt) < countWithin && !now.Before(f.muteTill)
	f.mu.Unlock()
	if !counts {
		return errUncounted
	}
	waiting, stop := context.WithTimeoutCause(ctx, countWithin, errUncounted)
	defer stop()
	_, err := f.wait(waiting, 0, &question{once: true, put: func(up *pb.FrontUp, call uint64) {
		q.Call = call
		up.Counts = append(up.Counts, q)
	}})
	switch {
	case err == nil:
		return nil
	case ctx.Err() == nil && waiting.Err() != nil && fault.Is(err, fault.Canceled):
		f.mu.Lock()
		f.muteTill = time.Now().Add(countWithin)
		f.mu.Unlock()
		return errUncounted
	case fault.Is(err, fault.Unavailable):
		return errUncounted
	}
	return err
}

// report tells the leader something that it need not answer, or nobody if
// there is none.
func (f *front) report(tell func(up *pb.FrontUp)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session != nil {
		tell(f.out)
		poke(f.wake)
	}
}

// ask asks about one job.
func (f *front) ask(ctx context.Context, wait time.Duration, id job.ID, put func(*pb.FrontUp, uint64)) (j *job.Job, token uint64, known bool, err error) {
	a, err := f.pose(ctx, wait, put)
	if err != nil {
		return nil, 0, false, err
	}
	switch is := a.Answer.(type) {
	case *pb.Answer_Job:
		return wire.FromJob(is.Job), a.Token, true, nil
	case *pb.Answer_Unknown:
		return nil, a.Token, false, nil
	}
	return nil, 0, false, fault.New(fault.Internal, "the scheduler's answer about %s says nothing", id)
}

// pose puts a question and waits for its answer, which is no fault.
func (f *front) pose(ctx context.Context, wait time.Duration, put func(*pb.FrontUp, uint64)) (*pb.Answer, error) {
	return f.wait(ctx, wait, &question{put: put})
}

func (f *front) wait(ctx context.Context, wait time.Duration, q *question) (*pb.Answer, error) {
	slow := &fault.Error{Kind: fault.Unavailable, Detail: "the scheduler did not answer in time; try again"}
	ctx, stop := context.WithTimeoutCause(ctx, wait+answerWithin, slow)
	defer stop()
	q.answer = make(chan *pb.Answer, 1)

	f.mu.Lock()
	if f.unreachable() {
		f.mu.Unlock()
		return nil, noLeader()
	}
	f.lastCall++
	number := f.lastCall
	f.asked[number] = q
	f.put(number, q)
	f.mu.Unlock()

	select {
	case <-ctx.Done():
		f.forget(number)
		if context.Cause(ctx) == error(slow) {
			return nil, slow
		}
		return nil, fault.Wrap(fault.Canceled, context.Cause(ctx), "the client went away")
	case a, ok := <-q.answer:
		if !ok {
			return nil, noLeader()
		}
		metersOf(ctx).hear(a.Meters)
		if refused := a.GetFault(); refused != nil {
			return nil, wire.FromFault(refused)
		}
		return a, nil
	}
}

// put queues a question for the writer. f.mu is held.
func (f *front) put(number uint64, q *question) {
	q.put(f.out, number)
	poke(f.wake)
}

// forget drops a question and tells the leader to drop it too.
func (f *front) forget(number uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.asked[number]; !ok {
		return
	}
	delete(f.asked, number)
	f.out.Forget = append(f.out.Forget, number)
	poke(f.wake)
}

// answered hands an answer to its question.
func (f *front) answered(a *pb.Answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if q := f.asked[a.Call]; q != nil {
		delete(f.asked, a.Call)
		q.answer <- a
	}
}

// touch tells the leader that an account has changed, and returns when that has
// told every replica, or soon without it.
func (f *front) touch(ctx context.Context, account string) {
	ctx, stop := context.WithTimeout(ctx, touchWithin)
	defer stop()
	f.mu.Lock()
	if f.unreachable() {
		f.mu.Unlock()
		return
	}
	told := f.told[account]
	if told == nil {
		told = make(chan struct{})
		f.told[account] = told
	}
	f.out.Touched = append(f.out.Touched, account)
	poke(f.wake)
	f.mu.Unlock()
	select {
	case <-told:
	case <-ctx.Done():
	}
}

// retold takes in that accounts are to be read anew.
func (f *front) retold(accounts []string) {
	for _, account := range accounts {
		if f.touched != nil {
			f.touched(account)
		}
		f.mu.Lock()
		if told := f.told[account]; told != nil {
			delete(f.told, account)
			close(told)
		}
		f.mu.Unlock()
	}
}

// giveUp fails every question once the leader has been gone too long for it.
func (f *front) giveUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.unreachable() {
		return
	}
	for number, q := range f.asked {
		delete(f.asked, number)
		close(q.answer)
	}
}

// poke makes a channel of capacity 1 readable.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
