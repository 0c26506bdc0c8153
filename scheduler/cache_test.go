package scheduler

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// picture is a cache key of the account.
func picture(fill byte) []byte { return bytes.Repeat([]byte{fill}, 32) }

// same publishes a job that wants a picture no older than a minute.
func (b *bubble) same(fill byte, change ...func(*pb.Envelope)) string {
	id := string(job.NewID())
	env := &pb.Envelope{
		Id: id, Account: "acc_acme", Api: "api", SentUs: time.Now().UnixMicro(), ContentType: "image/png",
		CacheKey: picture(fill), TtlMs: 60_000,
	}
	for _, c := range change {
		c(env)
	}
	synctest.Wait() // a replica that is still connecting would miss the decision
	b.streams.publish(&pb.Record{Envelope: env, Body: &pb.Body{Spec: []byte(`{}`), CustomId: "of " + id}})
	synctest.Wait()
	return id
}

// made has a worker render the next job.
func made(w *peer[pb.WorkUp, pb.WorkDown]) *pb.Assign {
	w.send(&pb.WorkUp{Credit: 1})
	a := assigned(w)
	w.send(done(a))
	committed(w, a.Token)
	return a
}

func TestCachedAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, kill := b.start("a", alone())
		api := b.front(s)
		w, _ := b.worker(s, "b1")
		first := b.same(1)
		if d := decision(api, first); d.GetAccepted().GetPlace() != pb.Place_PLACE_QUEUE {
			t.Fatalf("the first: %v", d)
		}
		made(w)
		source := b.look(s, first)
		if source.Cached || !source.Billable {
			t.Errorf("what was rendered: %v", source)
		}
		hit := func(when, id string) {
			t.Helper()
			d := decision(api, id).GetAccepted()
			end := d.GetEnded()
			if d.GetPlace() != pb.Place_PLACE_CACHED || end.GetState() != "succeeded" || !end.Cached || end.Billable || end.Id != id || end.Attempts != 0 ||
				end.Result.Object != source.Result.Object || end.Body.CustomId != "of "+id || end.ExpiresUs != source.ExpiresUs {
				t.Errorf("%s: %v", when, d)
			}
		}
		render := func(when, id string) {
			t.Helper()
			if d := decision(api, id).GetAccepted(); d.GetPlace() == pb.Place_PLACE_CACHED || d == nil {
				t.Errorf("%s: %v, want a render", when, d)
			}
			api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 9, Id: id, Account: "acc_acme"}}})
			answer(api, 9)
		}
		time.Sleep(10 * time.Millisecond) // less than it takes into the archive
		hit("right after the render", b.same(1, func(e *pb.Envelope) { e.SentUs -= time.Second.Microseconds() }))
		render("another picture", b.same(2))
		render("of another account", b.same(1, func(e *pb.Envelope) { e.Account = "acc_other" }))
		render("by force", b.same(1, func(e *pb.Envelope) { e.Force = true }))
		render("without a key", b.same(1, func(e *pb.Envelope) { e.CacheKey, e.TtlMs = nil, 0 }))

		// It is in the archive now, which says that there is nothing: the result was
		// deleted. A record whose replica read the archive before is answered.
		time.Sleep(time.Second)
		render("after the archive was read", b.same(1))
		hit("before the archive was read", b.same(1, func(e *pb.Envelope) { e.SentUs -= 2 * time.Second.Microseconds() }))
		old := &pb.Hit{Job: first, Result: source.Result, MadeUs: source.FinishedUs, ExpiresUs: source.ExpiresUs, Evidence: source.Evidence}
		hit("with what the archive has", b.same(1, func(e *pb.Envelope) { e.Hit = old }))
		render("with what is over", b.same(1, func(e *pb.Envelope) {
			e.Hit = &pb.Hit{Job: first, Result: source.Result, MadeUs: 1, ExpiresUs: time.Now().UnixMicro()}
		}))
		time.Sleep(8 * time.Second)
		render("past its own time to live", b.same(1, func(e *pb.Envelope) { e.TtlMs, e.SentUs = 5_000, e.SentUs-11*time.Second.Microseconds() }))

		// All slots are taken, and hits need none.
		for range 4 {
			decision(api, b.submit())
		}
		hit("with all threads in use", b.same(1, func(e *pb.Envelope) { e.Hit = old }))

		// The next leader remembers as well.
		kill()
		s, _ = b.start("b", Config{})
		api = b.front(s)
		time.Sleep(time.Second)
		hit("after a takeover", b.same(1, func(e *pb.Envelope) { e.SentUs -= 10 * time.Second.Microseconds() }))
		b.archive.mu.Lock()
		defer b.archive.mu.Unlock()
		for _, e := range b.archive.ends {
			if string(e.Job.ID) == first {
				if !bytes.Equal(e.CacheKey, picture(1)) || e.FreshUntil.Sub(e.Job.FinishedAt) != time.Minute || e.Units != 120 {
					t.Errorf("filed with %d units, key %x, fresh for %v", e.Units, e.CacheKey, e.FreshUntil.Sub(e.Job.FinishedAt))
				}
			} else if e.CacheKey != nil || e.Units != 0 {
				t.Errorf("%s was filed with %d units and key %x", e.Job.ID, e.Units, e.CacheKey)
			}
		}
	})
}

// Accepted and Finished of a hit stand in one frame, however full that is: no
// takeover comes between them, and renders what was answered.
func TestCachedInOneFrame(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		b.leading(s)
		var ids []string
		release := b.streams.hold() // so that they gather
		for i := range 600 {
			id := string(job.NewID())
			ids = append(ids, id)
			b.streams.publish(&pb.Record{
				Envelope: &pb.Envelope{
					Id: id, Account: "acc_acme", Api: "api", SentUs: time.Now().UnixMicro(), CacheKey: picture(1), TtlMs: 1000,
					Hit: &pb.Hit{Job: id, Result: &pb.Result{Object: "r/x"}, ExpiresUs: time.Now().Add(time.Hour).UnixMicro(), Evidence: make([]byte, 1+i*7%3000)},
				},
				Body: &pb.Body{Spec: make([]byte, 1+i*13%2000)},
			})
		}
		synctest.Wait()
		release()
		synctest.Wait()
		frames := 0
		for seq := range uint64(len(b.streams.frames)) {
			link, err := b.streams.link(seq + 1)
			if err != nil || link.Size > frameBytes+1<<10 {
				t.Errorf("frame %d has %d bytes, %v", seq+1, link.Size, err)
			}
			accepted, ended := 0, 0
			for _, ev := range link.Frame.Events {
				switch {
				case ev.GetAccepted() != nil:
					accepted++
				case ev.GetFinished() != nil:
					ended++
					ids = slices.DeleteFunc(ids, func(id string) bool { return id == ev.GetFinished().Job.Id })
				}
			}
			if accepted != ended {
				t.Errorf("frame %d accepts %d and ends %d", seq+1, accepted, ended)
			}
			if ended > 0 {
				frames++
			}
		}
		if frames < 2 || len(ids) > 0 {
			t.Errorf("%d frames, %d jobs are in none", frames, len(ids))
		}
	})
}

func TestLanded(t *testing.T) {
	var l landed
	if l.before(1, 1<<60) {
		t.Error("a frame landed in an archive that nobody has looked at")
	}
	second := time.Second.Microseconds()
	for i := range int64(100) {
		l.note(uint64(i)*10, i*second)
	}
	for _, c := range []struct {
		seq  uint64
		us   int64
		want bool
	}{
		{985, 99*second + 1, true},
		{985, 99 * second, false}, // in the last step
		{900, 91 * second, true},
		{900, 90 * second, false},
		{10, 99 * second, true}, // long ago
		{991, 200 * second, false},
	} {
		if got := l.before(c.seq, c.us); got != c.want {
			t.Errorf("frame %d was there before %d: %t", c.seq, c.us/second, got)
		}
	}
	if len(l.marks) > 30 {
		t.Errorf("%d marks are kept", len(l.marks))
	}
	l.note(5, 101*second) // a restored database
	if l.before(10, 102*second) {
		t.Error("a frame landed in an archive that was restored to before it")
	}
}
