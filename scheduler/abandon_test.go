package scheduler

import (
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// abandon says that whoever sent the job has gone away, and gives the state that
// the job has then.
func abandon(api *peer[pb.FrontUp, pb.FrontDown], id string) string {
	api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 99, Id: id, Account: "acc_acme", Abandoned: true}}})
	return answer(api, 99).GetJob().GetState()
}

// A job whose client went away ends, unless somebody else waits for it: a
// look-up of whichever replica, or a job that follows it.
func TestAbandonedJobs(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		api := b.front(s)
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 1})

		lone := b.same(1)
		a := assigned(w)
		if got := abandon(api, lone); got != "canceled" {
			t.Errorf("a job that nobody waits for: %s", got)
		}
		revoked := await(w, "revoke", func(m *pb.WorkDown) (uint64, bool) {
			return take(&m.Revoke, func(uint64) bool { return true })
		})
		if revoked != a.Token {
			t.Errorf("token %d was revoked, want %d", revoked, a.Token)
		}

		awaited := b.same(2)
		api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 1, Id: awaited, Account: "acc_acme", WaitMs: 60_000}}})
		synctest.Wait()
		if got := abandon(api, awaited); got != "queued" {
			t.Errorf("a job that another one waits for: %s", got)
		}
		// The one that waited goes away too, and says so in one message.
		api.send(&pb.FrontUp{Forget: []uint64{1}, Cancels: []*pb.Cancel{{Call: 2, Id: awaited, Account: "acc_acme", Abandoned: true}}})
		if got := answer(api, 2).GetJob().GetState(); got != "canceled" {
			t.Errorf("a job whose last waiter went away: %s", got)
		}
		// A cancel that the owner asks for asks nobody.
		third := b.same(3)
		api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 3, Id: third, Account: "acc_acme", WaitMs: 60_000}}})
		synctest.Wait()
		api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 4, Id: third, Account: "acc_acme"}}})
		if got := answer(api, 4).GetJob().GetState(); got != "canceled" {
			t.Errorf("a job that its owner canceled: %s", got)
		}
	})
}

// A job whose client went away goes on for those that follow it, and no longer.
func TestAbandonedTwins(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		api := b.front(s)
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 2})

		head := b.same(1)
		a := assigned(w)
		second, third := b.same(1), b.same(1)
		if got := abandon(api, head); got != "running" {
			t.Errorf("a job that two follow: %s", got)
		}
		if got := abandon(api, second); got != "canceled" {
			t.Errorf("one that follows: %s", got)
		}
		b.want(s, "while one is left that follows", head, "running", 1)
		w.send(done(a))
		committed(w, a.Token)
		b.wantShared(s, "after its twin was abandoned", third, head)

		head = b.same(2)
		assigned(w)
		second = b.same(2)
		if got := abandon(api, head); got != "running" {
			t.Errorf("a job that one follows: %s", got)
		}
		if got := abandon(api, second); got != "canceled" {
			t.Errorf("the one that follows: %s", got)
		}
		b.want(s, "with nobody left", head, "canceled", 1)

		// Whoever looks in the meantime keeps it.
		w.send(&pb.WorkUp{Credit: 1})
		head = b.same(3)
		a = assigned(w)
		second = b.same(3)
		abandon(api, head)
		api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 1, Id: head, Account: "acc_acme", WaitMs: 60_000}}})
		synctest.Wait()
		abandon(api, second)
		b.want(s, "while somebody waits for it", head, "running", 1)
		w.send(done(a))
		if got := answer(api, 1).GetJob().GetState(); got != "succeeded" {
			t.Errorf("who waited was told %s", got)
		}
	})
}

// An answer shows what follows from the events before its token and from none
// at or behind it, and events that are about a running job say whose it is.
func TestAnswersAndEventsLineUp(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		api := b.front(s)
		id := b.submitAs(&pb.Envelope{Account: "acc_acme", Batch: "batch_1", Line: 7})
		asked := uint64(0)
		state := func() (string, uint64) {
			t.Helper()
			asked++
			api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: asked, Id: id, Account: "acc_acme"}}})
			a := answer(api, asked)
			return a.GetJob().GetState(), a.Token
		}
		// folded is the job's state after all events before a token.
		folded := func(before uint64) string {
			t.Helper()
			is, attempts := "unknown", uint32(0)
			last, err := b.streams.LedgerState(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for seq := uint64(1); seq <= last.Last; seq++ {
				f, err := b.streams.Frame(t.Context(), seq)
				if err != nil {
					t.Fatal(err)
				}
				for i, ev := range f.Events {
					if token(seq, i) >= before {
						return is
					}
					of := &pb.Of{Account: "acc_acme", Batch: "batch_1"}
					switch ev := ev.Fact.(type) {
					case *pb.Event_Accepted:
						is = "queued"
					case *pb.Event_Started:
						is, of, attempts = "running", ev.Started.Of, attempts+1
					case *pb.Event_Released:
						if is, of = "queued", ev.Released.Of; of.StartedUs == 0 {
							t.Error("a release does not say when its attempt began")
						}
					case *pb.Event_Finished:
						is = ev.Finished.Job.State
					}
					if of.Account != "acc_acme" || of.Batch != "batch_1" || is == "running" && of.Attempts != attempts {
						t.Errorf("event %v says it is of %v", ev, of)
					}
				}
			}
			return is
		}
		check := func(when string) {
			t.Helper()
			if is, tok := state(); tok == 0 || folded(tok) != is {
				t.Errorf("%s: the answer says %s, the events before token %d say %s", when, is, tok, folded(tok))
			}
		}
		check("waiting")
		w, hang := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		assigned(w)
		check("running")
		hang()
		time.Sleep(leaseFor + time.Second)
		check("released")
		w, _ = b.worker(s, "b2")
		w.send(&pb.WorkUp{Credit: 1})
		a := assigned(w)
		api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 1000, Id: id, Account: "acc_acme", WaitMs: 60_000}}})
		synctest.Wait()
		w.send(done(a))
		end := answer(api, 1000)
		if got := folded(end.Token); end.GetJob().GetState() != "succeeded" || got != "succeeded" {
			t.Errorf("who waited was told %v; before token %d it was %s", end.GetJob(), end.Token, got)
		}
		check("ended")
	})
}
