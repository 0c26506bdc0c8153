package scheduler

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// askQueue asks as an API replica does. However often: it appends nothing.
func askQueue(p *peer[pb.FrontUp, pb.FrontDown], call uint64, accounts ...string) *pb.Queue {
	p.t.Helper()
	p.send(&pb.FrontUp{Queues: []*pb.QueueQuery{{Call: call, Accounts: accounts}}})
	return answer(p, call).GetQueue()
}

func TestQueueInNumbers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", Config{Alone: true, Queue: Queue{Length: 3}})
		api := b.front(s)
		want := func(when string, call uint64, want *pb.Queue) {
			t.Helper()
			if diff := cmp.Diff(want, askQueue(api, call, "acc_acme", "acc_zeta"), protocmp.Transform()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		// A tier of a plan is told of when it is empty, too.
		want("at first", 1, &pb.Queue{
			Length: 3, Tiers: []*pb.QueueTier{{Jobs: new(pb.Standing), Accepting: true}},
			Accounts: []*pb.QueueAccount{{Account: "acc_acme", Jobs: new(pb.Standing)}, {Account: "acc_zeta", Jobs: new(pb.Standing)}},
		})
		for range 5 {
			b.submit()
		}
		w, _ := b.worker(s, "b1")
		synctest.Wait()
		time.Sleep(1500 * time.Millisecond)
		w.send(&pb.WorkUp{Credit: 1})
		a := assigned(w)
		w.send(&pb.WorkUp{Failed: []*pb.Failed{{Token: a.Token, Job: a.Job, Failure: &pb.Failure{Code: "internal", Stage: "capture"}}}})
		synctest.Wait()
		frame := s.leader.Load().seq
		jobs := &pb.Standing{Waiting: 2, Parked: 2, Retrying: 1}
		want("with a job that backs off", 2, &pb.Queue{
			Length: 3, Seats: 2, Tiers: []*pb.QueueTier{{Jobs: jobs, Counted: 1, Accepting: true, OldestMs: 1500}},
			Accounts: []*pb.QueueAccount{{Account: "acc_acme", Jobs: jobs}, {Account: "acc_zeta", Jobs: new(pb.Standing)}},
		})
		w.send(&pb.WorkUp{Credit: 1})
		assigned(w)
		synctest.Wait()
		jobs.Waiting, jobs.Running = 1, 1
		want("with one that runs", 3, &pb.Queue{
			Length: 3, Seats: 2, Tiers: []*pb.QueueTier{{Jobs: jobs, Accepting: true, DrainPerS: 2 / 1.5}},
			Accounts: []*pb.QueueAccount{{Account: "acc_acme", Jobs: jobs}, {Account: "acc_zeta", Jobs: new(pb.Standing)}},
		})
		if now := s.leader.Load().seq; now != frame+1 { // Started
			t.Errorf("%d frames were appended", now-frame)
		}
	})
}
