package scheduler

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// bench is a board with a ledger in memory under it: what one step emits is
// one frame, as it is in a leader with nothing in flight.
type bench struct {
	t      rapid.TB
	board  *board
	queue  Queue
	frames []stream.Link
	open   []*pb.Event // of the next frame
	now    time.Time
	slots  map[string]int // 1 where it says nothing
	byKey  map[string]bool
	plans  map[string]terms
	made   int
	front  int // frames that were purged
}

// roomy is for tests that are not about the backlog.
var roomy = terms{backlog: 1 << 20}

func newBench(t rapid.TB, queue Queue, slots map[string]int) *bench {
	b := &bench{t: t, queue: queue, slots: slots, byKey: map[string]bool{}, plans: map[string]terms{}, now: time.Unix(1_700_000_000, 0)}
	b.lead(newFacts())
	return b
}

// lead takes over a fold, as a new leader does.
func (b *bench) lead(f *facts) {
	b.board = newBoard(f, b.queue, b.threads, b.keyed, b.emit, b.now, b.now.UnixMicro())
	b.check()
}

func (b *bench) keyed(account string) bool { return b.byKey[account] }

func (b *bench) threads(account string) int { return max(b.slots[account], 1) }

func (b *bench) terms(account string) terms {
	if t, ok := b.plans[account]; ok {
		return t
	}
	return roomy
}

func (b *bench) emit(ev *pb.Event) uint64 {
	tok := token(uint64(len(b.frames)+1), len(b.open))
	b.open = append(b.open, ev)
	b.board.apply(tok, b.now.UnixMicro(), ev)
	return tok
}

// cut ends the open frame.
func (b *bench) cut() {
	if len(b.open) == 0 {
		return
	}
	seq := uint64(len(b.frames) + 1)
	frame := &pb.Frame{Epoch: 1, Jobs: uint64(b.made), TimeUs: b.now.UnixMicro(), Events: b.open}
	link := stream.Link{Seq: seq, Size: proto.Size(frame), Chain: stream.Chain(seq), Frame: frame}
	b.frames, b.open = append(b.frames, link), nil
	b.board.head(seq, 1, frame.Jobs, frame.TimeUs)
	b.board.chain = link.Chain
	b.board.bytes += uint64(link.Size)
}

// check ends a step.
func (b *bench) check() {
	b.t.Helper()
	b.cut()
	if err := b.board.check(); err != nil {
		b.t.Fatal(err)
	}
}

// submit does what a decision does, for a page of no host.
func (b *bench) submit(account string, tier int32) *entry {
	b.t.Helper()
	e, _ := b.submitTo(account, tier, "")
	b.check()
	return e
}

// submitTo does what a decision does: the job is nil when it was refused.
func (b *bench) submitTo(account string, tier int32, host string) (*entry, verdict) {
	return b.submitEnv(tier, &pb.Envelope{Account: account, Host: host})
}

// mayFollow is the verdict on a job that waits for its twin.
const mayFollow = queueFull + 1

// submitEnv is submitTo for any envelope.
func (b *bench) submitEnv(tier int32, env *pb.Envelope) (*entry, verdict) {
	terms := b.terms(env.Account)
	v := mayFollow
	switch {
	case b.board.twin(env.CacheKey) == nil || env.Force || terms.refuse:
		v = b.board.judge(env.Account, env.Key, env.Host, tier, terms)
	case b.board.followers(env.Account, env.Key) >= terms.backlog:
		v = backlogFull
	}
	place := pb.Place_PLACE_QUEUE
	switch v {
	case mayQueue:
	case mayPark:
		place = pb.Place_PLACE_PARKED
	case mayFollow:
		place = pb.Place_PLACE_FOLLOWER
	default:
		return nil, v
	}
	b.made++
	id := fmt.Sprintf("job_%04d", b.made)
	env.Id, env.KeyHash = id, []byte(id)
	e := b.board.accept(&pb.Accepted{Envelope: env, JobsSeq: uint64(b.made), Tier: tier, Place: place, Bytes: 100}, &pb.Body{}, b.now)
	return e, v
}

func (b *bench) start() *entry {
	b.t.Helper()
	e := b.startOn("w")
	b.check()
	return e
}

func (b *bench) startOn(boot string) *entry {
	e := b.board.next(b.now)
	if e != nil {
		b.board.start(e, "w", boot, time.Minute, b.now)
	}
	return e
}

func (b *bench) finish(e *entry, state job.State) {
	b.t.Helper()
	b.end(e, state)
	b.check()
}

// end ends a job, and those that its result serves.
func (b *bench) end(e *entry, state job.State) {
	b.endOne(e, state)
	if state == job.Succeeded {
		for _, twin := range b.board.served(string(e.env.CacheKey), -1) {
			b.endCached(twin)
		}
	}
}

func (b *bench) endOne(e *entry, state job.State) {
	fin := &pb.Finished{
		Job:     &pb.Job{Id: e.id, Account: e.account, Tier: e.tier, AcceptedUs: e.acceptedUS, State: string(state)},
		KeyHash: e.env.KeyHash, Period: e.period,
	}
	if state == job.Succeeded {
		fin.CacheKey, fin.Units = e.env.CacheKey, e.units
	}
	b.board.finish(e, fin, b.now)
}

// endCached ends a job with another one's result.
func (b *bench) endCached(e *entry) {
	b.board.finish(e, &pb.Finished{
		Job:     &pb.Job{Id: e.id, Account: e.account, Tier: e.tier, AcceptedUs: e.acceptedUS, State: string(job.Succeeded), Cached: true},
		KeyHash: e.env.KeyHash,
	}, b.now)
}

func (b *bench) release(e *entry, reason pb.Released_Reason, wait time.Duration) {
	b.t.Helper()
	b.board.release(e, reason, wait, b.now, b.now.UnixMicro())
	b.check()
}

// refold folds the ledger from its front.
func (b *bench) refold() *facts {
	b.cut()
	f := newFacts()
	for _, l := range b.frames[b.front:] {
		f.fold(l)
	}
	return f
}

func (b *bench) wantState(e *entry, s job.State, w job.WaitingFor) {
	b.t.Helper()
	got := e.waitsFor()
	if e.state() != s || got != w {
		b.t.Errorf("job %s is %s/%s, want %s/%s", e.id, e.state(), got, s, w)
	}
}

func TestParkedTakesTheFreedSlot(t *testing.T) {
	b := newBench(t, Queue{Length: 10}, map[string]int{"acme": 1, "zeta": 1})
	first, second := b.submit("acme", 0), b.submit("acme", 0)
	other := b.submit("zeta", 0)
	b.wantState(first, job.Queued, job.WaitingForWorker)
	b.wantState(second, job.Queued, job.WaitingForSlot)
	if got := b.start(); got != first {
		t.Fatalf("started %s, want %s", got.id, first.id)
	}
	if got := b.start(); got != other {
		t.Fatalf("acme's parked job delayed zeta: started %v", got)
	}
	b.finish(first, job.Succeeded)
	b.wantState(second, job.Queued, job.WaitingForWorker)
}

func TestRefuseRatherThanPark(t *testing.T) {
	b := newBench(t, Queue{Length: 10, PerHost: 1}, map[string]int{"acme": 2})
	b.plans["acme"] = terms{refuse: true}
	want := func(host string, want verdict) *entry {
		t.Helper()
		e, got := b.submitTo("acme", 0, host)
		if got != want {
			t.Fatalf("a job to %s: verdict %d, want %d", host, got, want)
		}
		b.check()
		return e
	}
	first := want("a", mayQueue)
	want("a", mayPark) // a thread is free, and its host is not
	want("b", threadsFull)
	b.finish(first, job.Canceled)
	want("b", mayQueue)
	want("c", threadsFull)
}

func TestBacklog(t *testing.T) {
	b := newBench(t, Queue{Length: 1}, nil)
	b.plans["acme"] = terms{backlog: 2}
	for i, want := range []verdict{mayQueue, mayPark, mayPark, backlogFull} {
		if _, got := b.submitTo("acme", 0, ""); got != want {
			t.Errorf("job %d: verdict %d, want %d", i, got, want)
		}
	}
	if _, got := b.submitTo("zeta", 0, ""); got != queueFull {
		t.Errorf("another account, with the queue full: verdict %d", got)
	}
	b.check()
}

// A host at its bound holds back its own jobs and none beside them.
func TestPoliteness(t *testing.T) {
	b := newBench(t, Queue{Length: 10, PerHost: 2}, map[string]int{"acme": 4, "zeta": 1})
	submit := func(account, host string) *entry {
		e, _ := b.submitTo(account, 0, host)
		b.check()
		return e
	}
	a1, a2, a3, a4 := submit("acme", "a"), submit("acme", "a"), submit("acme", "a"), submit("acme", "a")
	free, html, other := submit("acme", "b"), submit("acme", ""), submit("zeta", "a")
	b1 := submit("acme", "b")
	want := func(when string, waiting ...*entry) {
		t.Helper()
		for n, e := range []*entry{a1, a2, a3, a4, free, html, other, b1} {
			if isWaiting := slices.Contains(waiting, e); e.end == nil && isWaiting != (e.standing == parked) {
				t.Errorf("%s: job %d stands in %d", when, n+1, e.standing)
			}
		}
	}
	want("at first", a3, a4, b1)
	if p := b.board.position(b1, b.now); p != 3 {
		t.Errorf("position %d among the parked jobs, want 3", p)
	}
	b.finish(free, job.Canceled)
	want("a slot is free, and a is at its bound", a3, a4)
	b.finish(a2, job.Canceled)
	want("a slot of a's", a4)
	b.finish(html, job.Canceled)
	want("a slot that a may not have", a4)
	b.lead(b.refold())
	for _, e := range []*entry{a1, a3, other, b1} {
		if got := b.board.entries[e.id].standing; got != queued {
			t.Errorf("after a takeover %s stands in %d", e.id, got)
		}
	}
}

func TestWaitLimit(t *testing.T) {
	b := newBench(t, Queue{Length: 10, WaitLimit: time.Hour}, nil)
	ran, waits := b.submit("acme", 0), b.submit("acme", 0)
	late := func(when string, want ...*entry) {
		t.Helper()
		if diff := cmp.Diff(ids(want), ids(b.board.expired(b.now, 100))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	b.start()
	b.now = b.now.Add(time.Minute)
	young := b.submit("acme", 0)
	b.now = b.now.Add(time.Hour - time.Minute)
	late("at the limit")
	b.now = b.now.Add(time.Millisecond)
	late("past it; a worker holds the first", waits)
	b.release(ran, pb.Released_REASON_LOST, time.Second)
	late("the first lost its worker", ran, waits)
	if got := ids(b.board.expired(b.now, 1)); !slices.Equal(got, ids([]*entry{ran})) {
		t.Errorf("one at most: %v", got)
	}
	b.lead(b.refold())
	late("after a takeover", b.board.entries[ran.id], b.board.entries[waits.id])
	b.finish(b.board.entries[waits.id], job.Expired)
	late("after its end", b.board.entries[ran.id])
	b.now = b.now.Add(time.Minute)
	late("a minute later", b.board.entries[ran.id], b.board.entries[young.id])
}

// A worker may not have reached a leader for a while: after a takeover even a
// lease at the end of its wall time has 12 s for its report.
func TestTakeoverGivesEveryLeaseAWhile(t *testing.T) {
	b := newBench(t, Queue{Length: 10}, nil)
	e := b.submit("acme", 0)
	b.start()
	b.now = b.now.Add(time.Minute + wallGrace - time.Second)
	b.lead(b.refold())
	e = b.board.entries[e.id]
	b.now = b.now.Add(leaseFor)
	if late := b.board.overdue(b.now); len(late) != 0 {
		t.Errorf("12 s after the takeover: %v is overdue", ids(late))
	}
	b.now = b.now.Add(time.Millisecond)
	if late := b.board.overdue(b.now); len(late) != 1 || late[0] != e {
		t.Errorf("a moment later: %v is overdue", ids(late))
	}
}

// A job whose attempt was lost goes before those that were accepted after it,
// also to its own host, and hosts take turns by the same order.
func TestParkedInOrderOfAcceptance(t *testing.T) {
	b := newBench(t, Queue{Length: 10, PerHost: 1}, map[string]int{"acme": 2})
	submit := func(host string) *entry {
		e, _ := b.submitTo("acme", 0, host)
		b.check()
		return e
	}
	lost, other := submit("a"), submit("b")
	b.start()
	b.release(lost, pb.Released_REASON_LOST, time.Second)
	next, b2, a3 := submit("a"), submit("b"), submit("a")
	c := submit("c")
	b.now = b.now.Add(time.Second)
	b.board.ripen(b.now)
	b.check()
	for position, e := range []*entry{lost, b2, a3, c} {
		if p := b.board.position(e, b.now); e.standing != parked || p != position+1 {
			t.Errorf("%s stands in %d at position %d, want %d", e.id, e.standing, p, position+1)
		}
	}
	b.finish(next, job.Succeeded)
	b.wantState(lost, job.Queued, job.WaitingForWorker)
	b.finish(other, job.Succeeded)
	b.wantState(b2, job.Queued, job.WaitingForWorker)
	b.finish(lost, job.Succeeded)
	b.wantState(a3, job.Queued, job.WaitingForWorker)
	b.finish(a3, job.Succeeded)
	b.wantState(c, job.Queued, job.WaitingForWorker)
}

func TestCancelWhereverItStands(t *testing.T) {
	for _, where := range []standing{parked, queued, running, retrying} {
		b := newBench(t, Queue{Length: 10}, nil)
		e := b.submit("acme", 0)
		if where == parked {
			e = b.submit("acme", 0)
		} else if where != queued {
			b.start()
		}
		if where == retrying {
			b.release(e, pb.Released_REASON_LOST, time.Second)
		}
		if e.standing != where {
			t.Fatalf("the job stands in %d, want %d", e.standing, where)
		}
		b.finish(e, job.Canceled)
		b.lead(b.refold())
		if e := b.board.entries[e.id]; e.state() != job.Canceled {
			t.Errorf("cancelled in %d: %s", where, e.state())
		}
		b.submit("acme", 0)
	}
}

func ids(of []*entry) []string {
	out := []string{}
	for _, e := range of {
		out = append(out, e.id)
	}
	return out
}

func TestReleaseCountsAttempts(t *testing.T) {
	b := newBench(t, Queue{Length: 10}, nil)
	e := b.submit("acme", 0)
	b.start()
	b.release(e, pb.Released_REASON_DRAINED, 0)
	if e.attempts != 0 {
		t.Errorf("a drain cost an attempt: %d", e.attempts)
	}
	b.start()
	b.release(e, pb.Released_REASON_LOST, time.Second)
	b.wantState(e, job.Queued, job.WaitingForRetry)
	if e.attempts != 1 {
		t.Errorf("a lost lease counts as an attempt, have %d", e.attempts)
	}
	waiting := b.submit("acme", 0)
	b.wantState(waiting, job.Queued, job.WaitingForWorker) // the back-off holds no slot
	b.now = b.now.Add(time.Second)
	b.board.ripen(b.now)
	b.check()
	b.wantState(e, job.Queued, job.WaitingForSlot)
}

func TestOneEnd(t *testing.T) {
	b := newBench(t, Queue{Length: 10}, nil)
	e := b.submit("acme", 0)
	b.start()
	b.finish(e, job.Canceled)
	b.board.apply(token(99, 0), 0, &pb.Event{Fact: &pb.Event_Finished{Finished: &pb.Finished{
		Job: &pb.Job{Id: e.id, State: string(job.Succeeded)},
	}}})
	if e.state() != job.Canceled {
		t.Errorf("a second end changed the job to %s", e.state())
	}
}

func TestForgetWaitsForTheArchive(t *testing.T) {
	b := newBench(t, Queue{Length: 10}, nil)
	e := b.submit("acme", 0)
	b.finish(e, job.Canceled)
	b.now = b.now.Add(2 * keepKnown)
	other := b.submit("acme", 0)
	b.board.forget(e.endSeq - 1)
	if b.board.entries[e.id] == nil {
		t.Fatal("a job that is not in the archive was forgotten")
	}
	b.board.forget(other.order >> 16)
	if b.board.entries[e.id] != nil || b.board.entries[other.id] == nil {
		t.Fatal("want the finished job forgotten and the unfinished one known")
	}
}

// diffFacts compares what the ledger says, and not what a leader adds.
func diffFacts(a, b *facts) string {
	list := func(f *facts) (out []*entry) {
		for el := f.unfinished.Front(); el != nil; el = el.Next() {
			out = append(out, el.Value.(*entry))
		}
		for el := f.ended.Front(); el != nil; el = el.Next() {
			out = append(out, el.Value.(*entry))
		}
		return out
	}
	since := max(a.bills.since, b.bills.since)
	return cmp.Diff(billsText(a, since), billsText(b, since)) + cmp.Diff(list(a), list(b),
		cmp.AllowUnexported(entry{}, lease{}), protocmp.Transform(),
		cmpopts.IgnoreFields(entry{}, "element", "pin", "body", "standing", "tenant", "readyAt", "since", "turn", "waitUntil", "hurried"),
		cmpopts.IgnoreFields(lease{}, "beatBy", "endBy", "assigned"))
}
