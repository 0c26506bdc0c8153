package scheduler

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// bench is a board with a ledger in memory under it: every event is a frame
// of its own, so that a fold can be compared at each of them.
type bench struct {
	t      rapid.TB
	board  *board
	frames []stream.Link
	now    time.Time
	slots  map[string]int
	made   int
}

func newBench(t rapid.TB, length int, slots map[string]int) *bench {
	b := &bench{t: t, slots: slots, now: time.Unix(1_700_000_000, 0)}
	b.lead(newFacts(), length)
	return b
}

// lead takes over a fold, as a new leader does.
func (b *bench) lead(f *facts, length int) {
	threads := func(account string) int { return max(b.slots[account], 1) }
	b.board = newBoard(f, length, threads, b.emit, b.now, b.now.UnixMicro())
	b.check()
}

func (b *bench) emit(ev *pb.Event) uint64 {
	seq := uint64(len(b.frames) + 1)
	frame := &pb.Frame{Epoch: 1, Jobs: seq, TimeUs: b.now.UnixMicro(), Events: []*pb.Event{ev}}
	b.frames = append(b.frames, stream.Link{Seq: seq, Chain: stream.Chain(seq), Frame: frame})
	b.board.fold(b.frames[seq-1])
	return token(seq, 0)
}

func (b *bench) check() {
	b.t.Helper()
	if err := b.board.check(); err != nil {
		b.t.Fatal(err)
	}
}

// submit does what a decision does: nil when the job was refused.
func (b *bench) submit(account string, tier int32) *entry {
	b.t.Helper()
	place := pb.Place_PLACE_QUEUE
	if busy, _ := b.board.share(account); busy >= max(b.slots[account], 1) {
		place = pb.Place_PLACE_PARKED
	} else if b.board.full(tier) {
		return nil
	} else if ahead := b.board.ahead(tier); ahead >= b.board.length {
		b.t.Fatalf("accepted with %d ahead, the queue's length is %d", ahead, b.board.length)
	}
	b.made++
	env := &pb.Envelope{Id: fmt.Sprintf("job_%04d", b.made), Account: account}
	e := b.board.accept(&pb.Accepted{Envelope: env, JobsSeq: uint64(b.made), Tier: tier, Place: place}, &pb.Body{}, b.now)
	b.check()
	return e
}

func (b *bench) start() *entry {
	e := b.board.next()
	if e != nil {
		b.board.start(e, "w", "boot", time.Minute, b.now)
		b.check()
	}
	return e
}

func (b *bench) finish(e *entry, state job.State) {
	b.board.finish(e, &pb.Finished{Job: &pb.Job{Id: e.id, Account: e.account, State: string(state)}}, b.now)
	b.check()
}

func (b *bench) release(e *entry, reason pb.Released_Reason, wait time.Duration) {
	b.board.release(e, reason, wait, b.now, b.now.UnixMicro())
	b.check()
}

// refold folds the ledger from its front.
func (b *bench) refold() *facts {
	f := newFacts()
	for _, l := range b.frames {
		f.fold(l)
	}
	return f
}

func (b *bench) wantState(e *entry, s job.State, w job.WaitingFor) {
	b.t.Helper()
	got, _ := b.board.waitsFor(e)
	if e.state() != s || got != w {
		b.t.Errorf("job %s is %s/%s, want %s/%s", e.id, e.state(), got, s, w)
	}
}

func TestParkedTakesTheFreedSlot(t *testing.T) {
	b := newBench(t, 10, map[string]int{"acme": 1, "zeta": 1})
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

func TestQueueBound(t *testing.T) {
	slots := map[string]int{}
	for i := range 20 {
		slots[fmt.Sprint(i)] = 1
	}
	b := newBench(t, 8, slots)
	for i := range 8 {
		if b.submit(fmt.Sprint(i), 0) == nil {
			t.Fatalf("job %d was refused below the bound", i)
		}
	}
	if b.submit("8", 0) != nil {
		t.Error("a job was accepted into a full tier")
	}
	if b.submit("9", 2) == nil {
		t.Error("a higher tier was refused by the jobs of a lower one")
	}
	b.start()
	if b.submit("10", 0) != nil {
		t.Error("starting a job of a higher tier made room for two")
	}
	b.start()
	if b.submit("11", 0) == nil {
		t.Error("a started job still counts")
	}
}

func TestReleaseCountsAttempts(t *testing.T) {
	b := newBench(t, 10, nil)
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
	b := newBench(t, 10, nil)
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
	b := newBench(t, 10, nil)
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

// TestBoardHolds drives a board at random and looks at every invariant after
// each step; now and then another leader takes over from the ledger alone.
func TestBoardHolds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots := map[string]int{}
		for i := range 4 {
			slots[fmt.Sprint(i)] = rapid.IntRange(1, 3).Draw(rt, "slots")
		}
		length := rapid.IntRange(1, 6).Draw(rt, "length")
		b := newBench(rt, length, slots)
		pick := func() *entry {
			if n := b.board.unfinished.Len(); n > 0 {
				el := b.board.unfinished.Front()
				for range rapid.IntRange(0, n-1).Draw(rt, "job") {
					el = el.Next()
				}
				return el.Value.(*entry)
			}
			return nil
		}
		rt.Repeat(map[string]func(*rapid.T){
			"submit": func(rt *rapid.T) {
				b.submit(fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "account")), rapid.Int32Range(0, 2).Draw(rt, "tier"))
			},
			"start": func(*rapid.T) { b.start() },
			"finish": func(rt *rapid.T) {
				if e := pick(); e != nil {
					b.finish(e, rapid.SampledFrom([]job.State{job.Succeeded, job.Failed, job.Canceled}).Draw(rt, "state"))
				}
			},
			"release": func(rt *rapid.T) {
				if e := pick(); e != nil && e.lease != nil {
					reason := rapid.SampledFrom([]pb.Released_Reason{
						pb.Released_REASON_LOST, pb.Released_REASON_DRAINED, pb.Released_REASON_FAILED, pb.Released_REASON_UNASSIGNED,
					}).Draw(rt, "reason")
					b.release(e, reason, time.Duration(rapid.IntRange(0, 3).Draw(rt, "wait"))*time.Second)
				}
			},
			"time": func(rt *rapid.T) {
				b.now = b.now.Add(time.Duration(rapid.IntRange(1, 2000).Draw(rt, "ms")) * time.Millisecond)
				b.board.ripen(b.now)
				b.check()
			},
			"takeover": func(*rapid.T) { b.lead(b.refold(), length) },
			"": func(rt *rapid.T) {
				if diff := diffFacts(b.refold(), b.board.facts); diff != "" {
					rt.Fatalf("a fresh fold differs from the leader's facts (-fold +leader):\n%s", diff)
				}
			},
		})
	})
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
	return cmp.Diff(list(a), list(b),
		cmp.AllowUnexported(entry{}, lease{}), protocmp.Transform(),
		cmpopts.IgnoreFields(entry{}, "element", "body", "standing", "waiting", "readyAt", "since"),
		cmpopts.IgnoreFields(lease{}, "beatBy", "endBy", "assigned"))
}
