package scheduler

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// Nobody hears of anything before the frame that makes it so is acknowledged:
// not of an acceptance, nor of a refusal, a lease or an end.
func TestNothingIsToldBeforeItsFrame(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		api := b.front(s)
		w, _ := b.worker(s, "b1")
		quiet := func(what string) {
			t.Helper()
			synctest.Wait()
			time.Sleep(time.Second)
			synctest.Wait()
			for len(api.down) > 0 {
				if m := <-api.down; len(m.Decisions)+len(m.Answers) > 0 {
					t.Errorf("%s: the API was told %v", what, m)
				}
			}
			for len(w.down) > 0 {
				if m := <-w.down; len(m.Assign)+len(m.Committed)+len(m.Stale)+len(m.Revoke) > 0 {
					t.Errorf("%s: the worker was told %v", what, m)
				}
			}
		}
		synctest.Wait()

		release := b.streams.hold()
		id := b.submit()
		quiet("accepted in a frame in flight")
		release()
		if decision(api, id).GetAccepted() == nil {
			t.Error("not accepted")
		}

		release = b.streams.hold()
		late := string(job.NewID())
		b.streams.publish(&pb.Record{
			Envelope: &pb.Envelope{Id: late, Account: "acc_acme", Api: "api", SentUs: time.Now().Add(-staleAfter - time.Second).UnixMicro()},
			Body:     &pb.Body{},
		})
		quiet("refused by a frame in flight")
		release()
		if decision(api, late).GetRefused() == nil {
			t.Error("not refused")
		}

		release = b.streams.hold()
		w.send(&pb.WorkUp{Credit: 1})
		quiet("started in a frame in flight")
		release()
		a := assigned(w)

		release = b.streams.hold()
		api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 1, Id: id, WaitMs: 60_000}}})
		w.send(done(a))
		quiet("finished in a frame in flight")
		release()
		committed(w, a.Token)
		if answer(api, 1).GetJob().GetState() != string(job.Succeeded) {
			t.Error("not succeeded")
		}
	})
}

// The lease of a worker's earlier process ends with the hello of the next one,
// and not when its beats run out.
func TestEarlierBootEndsWithTheNextHello(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		id := b.submit()
		assigned(w)
		b.worker(s, "b2")
		b.want(s, "after the next hello", id, job.Queued, 1)
	})
}
