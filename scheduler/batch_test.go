package scheduler

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// line publishes a line of a batch of the bubble's account.
func (b *bubble) line(batch string, number uint32) string {
	return b.submitAs(&pb.Envelope{Account: "acc_acme", Batch: batch, Line: number, Pass: 1})
}

// What an account sends by itself goes before the lines of its batches that are
// there already; of either kind the first accepted goes first.
func TestLinesWaitBehindOtherJobs(t *testing.T) {
	b := newBench(t, Queue{Length: 10}, nil)
	line := func() *entry {
		e, _ := b.submitEnv(0, &pb.Envelope{Account: "acme", Batch: "batch_1"})
		b.check()
		return e
	}
	first, second, third := line(), line(), line()
	own, other := b.submit("acme", 0), b.submit("acme", 0)
	if got := b.start(); got != first {
		t.Fatalf("started %v, want the line that had its slot", got)
	}
	b.lead(b.refold())
	for i, e := range []*entry{own, other, second, third} {
		if at := b.board.position(b.board.entries[e.id], b.now); at != i+1 {
			t.Errorf("job %d of those that wait is at %d", i+1, at)
		}
	}
	b.finish(b.board.entries[first.id], job.Succeeded)
	for i, e := range []*entry{own, other, second, third} {
		got := b.start()
		if got == nil || got.id != e.id {
			t.Fatalf("start %d is %v, want %s", i+1, got, e.id)
		}
		b.finish(got, job.Succeeded)
	}
}

// A job that wants the picture of a line which waits behind others does not wait
// behind them with it.
func TestLineIsHurriedByItsTwin(t *testing.T) {
	b := newBench(t, Queue{Length: 10}, nil)
	send := func(batch, picture string) *entry {
		e, _ := b.submitEnv(0, &pb.Envelope{Account: "acme", Batch: batch, CacheKey: []byte(picture)})
		b.check()
		return e
	}
	first, before, twin := send("batch_1", "a"), send("batch_1", "b"), send("batch_1", "c")
	if also := send("batch_2", "c"); also.standing != following || b.board.position(twin, b.now) != 2 {
		t.Errorf("a line behind a line: %d, which is at %d", also.standing, b.board.position(twin, b.now))
	}
	if own := send("", "c"); own.standing != following || b.board.position(twin, b.now) != 1 || b.board.position(before, b.now) != 2 {
		t.Errorf("a job behind a line: %d, which is at %d", own.standing, b.board.position(twin, b.now))
	}
	b.start()
	b.lead(b.refold())
	b.finish(b.board.entries[first.id], job.Succeeded)
	for i, e := range []*entry{twin, before} {
		got := b.start()
		if got == nil || got.id != e.id {
			t.Fatalf("start %d is %v, want %s", i+1, got, e.id)
		}
		b.finish(got, job.Succeeded)
	}
}

// A batch leaves a quarter of the backlog to what its account sends by itself.
func TestLinesLeaveRoomInTheBacklog(t *testing.T) {
	for backlog, want := range map[int]int{0: 0, 1: 1, 3: 3, 4: 3, 100: 75} {
		if got := shareOfBacklog(backlog); got != want {
			t.Errorf("of a backlog of %d lines may fill %d, want %d", backlog, got, want)
		}
	}
	inBubble(t, func(t *testing.T, b *bubble) {
		plan := testPlan(account.Quota{})
		plan.OverThreads.Backlog = 4
		s, _ := b.start("a", Config{Alone: true, Plans: []account.Plan{plan}})
		api := b.front(s)
		refused := func(id string) string { return decision(api, id).GetRefused().GetCode() }
		for n := range uint32(5) { // two have slots
			if code := refused(b.line("batch_1", n+1)); code != "" {
				t.Errorf("line %d: %s", n+1, code)
			}
		}
		if code := refused(b.line("batch_1", 6)); code != "backlog_full" {
			t.Errorf("a sixth line: %q", code)
		}
		if code := refused(b.submit()); code != "" {
			t.Errorf("a job of its own: %s", code)
		}
		if code := refused(b.submit()); code != "backlog_full" {
			t.Errorf("one more: %q", code)
		}
	})
}

// Whoever feeds a batch is told where its lines stand, and which have not ended;
// a takeover changes nothing of it.
func TestStandingOfABatch(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, kill := b.start("a", Config{Alone: true})
		api := b.front(s)
		calls := uint64(0)
		want := func(when string, want *pb.Standing, ids ...string) {
			t.Helper()
			calls += 2
			api.send(&pb.FrontUp{Queues: []*pb.QueueQuery{{Call: calls, Batches: []*pb.BatchOf{
				{Account: "acc_acme", Batch: "batch_1"}, {Account: "acc_zeta", Batch: "batch_1"}, {Account: "acc_acme", Batch: "batch_0"},
			}}}})
			got := answer(api, calls).GetQueue().GetBatches()
			if diff := cmp.Diff([]*pb.Standing{want, {}, {}}, got, protocmp.Transform()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
			api.send(&pb.FrontUp{Lists: []*pb.List{{Call: calls + 1, Account: "acc_acme", Batch: "batch_1", Unfinished: true, Limit: 10}}})
			slices.Sort(ids)
			slices.Reverse(ids)
			if got := answer(api, calls+1).GetListed().GetIds(); !slices.Equal(got, ids) {
				t.Errorf("%s: unfinished are %q, want %q", when, got, ids)
			}
		}
		want("before any", &pb.Standing{})
		first, second, third := b.line("batch_1", 1), b.line("batch_1", 2), b.line("batch_1", 3)
		b.line("batch_2", 1)
		b.submit()
		twin := func(e *pb.Envelope) { e.Batch, e.Line, e.Pass = "batch_1", 4, 1 }
		fourth := b.same(1, twin)
		fifth := b.same(1, twin)
		want("fed", &pb.Standing{Waiting: 2, Parked: 2, Following: 1}, first, second, third, fourth, fifth)
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		a := assigned(w)
		want("one runs", &pb.Standing{Waiting: 1, Running: 1, Parked: 2, Following: 1}, first, second, third, fourth, fifth)
		w.send(done(a))
		committed(w, a.Token)
		// The slot goes to what the account sent by itself.
		want("one has ended", &pb.Standing{Waiting: 1, Parked: 2, Following: 1}, second, third, fourth, fifth)
		kill()
		s, _ = b.start("b", Config{Alone: true})
		api = b.front(s)
		want("after a takeover", &pb.Standing{Waiting: 1, Parked: 2, Following: 1}, second, third, fourth, fifth)
	})
}
