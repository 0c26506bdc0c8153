package scheduler

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// Jobs that end at one instant, through takeovers too, are archived in the
// strict order of their ends: who reads them in that order and goes on behind
// the last one misses none.
func TestEndsAreInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		cfg := Config{Queue: Queue{Length: 1000}}
		leader, kill := b.start("s0", cfg)
		b.leading(leader)
		const jobs = 40
		for reign := range 3 {
			next, killNext := b.start(fmt.Sprint("s", reign+1), cfg)
			api := b.front(leader)
			var all []*pb.Cancel
			for i := range jobs {
				all = append(all, &pb.Cancel{Call: uint64(i + 1), Id: b.submit(), Account: "acc_acme"})
			}
			// In one message and in others at the same instant: in several frames.
			api.send(&pb.FrontUp{Cancels: all[:jobs/2]})
			for _, c := range all[jobs/2:] {
				api.send(&pb.FrontUp{Cancels: []*pb.Cancel{c}})
			}
			answer(api, jobs)
			synctest.Wait()
			kill()
			leader, kill = next, killNext
			b.leading(leader)
		}
		time.Sleep(time.Second)
		b.archive.mu.Lock()
		defer b.archive.mu.Unlock()
		if got := len(b.archive.ends); got != 3*jobs {
			t.Fatalf("%d ends, want %d", got, 3*jobs)
		}
		for i, e := range b.archive.ends[1:] {
			if before := b.archive.ends[i].Job; !e.Job.FinishedAt.After(before.FinishedAt) {
				t.Errorf("%s ended at %s, and %s before it at %s", e.Job.ID, e.Job.FinishedAt, before.ID, before.FinishedAt)
			}
		}
	})
}

// A leader whose clock is behind that of the one before it ends no job before
// that one's last, although the frame of that end was opened earlier.
func TestEndsGoOnBehindTheLastReign(t *testing.T) {
	now := time.Now()
	last := now.Add(5 * time.Second).UnixMicro()
	f := newFacts()
	f.fold(stream.Link{Seq: 1, Frame: &pb.Frame{Epoch: 1, TimeUs: now.UnixMicro(), Events: []*pb.Event{
		{Fact: &pb.Event_Finished{Finished: &pb.Finished{Job: &pb.Job{Id: "job_1", Account: "acc_acme", FinishedUs: last}}}},
	}}})
	l := &leader{timeUS: f.timeUS, endedUS: f.timeUS, now: now}
	if first, second := l.endUS(), l.endUS(); first <= last || second <= first || l.nowUS() < second {
		t.Errorf("ends at %d and %d, the last one was at %d", first, second, last)
	}
}
