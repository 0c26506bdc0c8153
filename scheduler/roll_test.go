package scheduler

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// Whatever comes and goes in whatever order, a walk through the pages meets
// each known job of the account once, newest first.
func TestRollHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFacts()
		known := map[string]job.State{} // of acme
		var ended []string
		seq := uint64(0)
		apply := func(ev *pb.Event) {
			seq++
			f.head(seq, 1, 0, int64(seq))
			f.apply(token(seq, 0), int64(seq), ev)
		}
		end := func(id, account string) {
			apply(&pb.Event{Fact: &pb.Event_Finished{Finished: &pb.Finished{Job: &pb.Job{Id: id, Account: account, State: "failed"}}}})
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			id := fmt.Sprintf("job_%03d", rapid.IntRange(0, 999).Draw(t, "id"))
			if _, there := f.entries[id]; there {
				continue
			}
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				apply(&pb.Event{Fact: &pb.Event_Accepted{Accepted: &pb.Accepted{Envelope: &pb.Envelope{Id: id, Account: "acme"}}}})
				known[id] = job.Queued
			case 1: // a fold that met only the end
				end(id, "acme")
				known[id], ended = job.Failed, append(ended, id)
			case 2: // ids of two accounts are never the same
				id = "other" + id
				if f.entries[id] != nil {
					continue
				}
				apply(&pb.Event{Fact: &pb.Event_Accepted{Accepted: &pb.Accepted{Envelope: &pb.Envelope{Id: id, Account: "other"}}}})
			case 3:
				if el := f.unfinished.Front(); el != nil {
					e := el.Value.(*entry)
					if e.account == "acme" {
						known[e.id], ended = job.Failed, append(ended, e.id)
					}
					end(e.id, e.account)
				}
				if rapid.Bool().Draw(t, "forget") {
					f.timeUS += 2 * keepKnown.Microseconds()
					f.forget(seq)
					for _, id := range ended {
						delete(known, id)
					}
					ended = nil
				}
			}
		}
		for _, state := range []job.State{"", job.Queued, job.Failed} {
			var want, got []string
			for id, s := range known {
				if state == "" || s == state {
					want = append(want, id)
				}
			}
			slices.Sort(want)
			slices.Reverse(want)
			limit := rapid.IntRange(1, 7).Draw(t, "limit")
			for before := ""; ; {
				ids, next := f.list("acme", before, limit, wanted(&pb.List{State: string(state)}))
				if len(ids) > limit || next != "" && len(ids) < limit {
					t.Fatalf("%d of %d ids, and more before %q", len(ids), limit, next)
				}
				got = append(got, ids...)
				if before = next; next == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("state %q: %q, want %q", state, got, want)
			}
		}
		for account, r := range f.rolls {
			if len(r.ids) == 0 || 2*r.gone > len(r.ids) {
				t.Fatalf("%s: %d of %d ids are of forgotten jobs", account, r.gone, len(r.ids))
			}
		}
	})
}

// One question looks at a bounded number of jobs and says where to go on.
func TestListIsBounded(t *testing.T) {
	f := newFacts()
	for i := range 2*walkMost + 5 {
		f.apply(token(1, 0), 1, &pb.Event{Fact: &pb.Event_Accepted{Accepted: &pb.Accepted{
			Envelope: &pb.Envelope{Id: fmt.Sprintf("job_%06d", i), Account: "acme"},
		}}})
	}
	questions := 0
	for before := ""; questions == 0 || before != ""; questions++ {
		ids, next := f.list("acme", before, 10, wanted(&pb.List{State: "running"}))
		if len(ids) != 0 || next != "" && before != "" && next >= before {
			t.Fatalf("%q, then before %q", ids, next)
		}
		before = next
	}
	if questions != 3 {
		t.Errorf("%d questions for %d jobs", questions, 2*walkMost+5)
	}
}

func TestList(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", alone())
	api := n.front(t, &pb.FrontHello{Api: "api"})
	w := n.worker(t, hello("b1"))
	var ids []string
	for range 3 {
		rec := f.record()
		f.publish(rec)
		decision(api, rec.Envelope.Id)
		ids = append(ids, rec.Envelope.Id)
	}
	w.send(&pb.WorkUp{Credit: 1})
	a := assigned(w)
	w.send(done(a))
	committed(w, a.Token)
	f.archived(n.Scheduler, a.Job) // and still known
	for call, tc := range []struct {
		q    *pb.List
		want []string
		more string
	}{
		{&pb.List{Limit: 10}, []string{ids[2], ids[1], ids[0]}, ""},
		{&pb.List{Limit: 2}, []string{ids[2], ids[1]}, ids[1]},
		{&pb.List{Limit: 2, Before: ids[1]}, []string{ids[0]}, ""},
		{&pb.List{Limit: 2, State: "succeeded"}, []string{ids[0]}, ""},
		{&pb.List{Limit: 2, State: "running"}, nil, ""},
		{&pb.List{Limit: 2, Account: "acc_other"}, nil, ""},
	} {
		tc.q.Call = uint64(call + 1)
		if tc.q.Account == "" {
			tc.q.Account = f.account
		}
		api.send(&pb.FrontUp{Lists: []*pb.List{tc.q}})
		if got := answer(api, tc.q.Call).GetListed(); !slices.Equal(got.GetIds(), tc.want) || got.GetMoreBefore() != tc.more {
			t.Errorf("%v: %v, want %q", tc.q, got, tc.want)
		}
	}
}
