package scheduler

import (
	"runtime"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// keyed is a submission with an Idempotency-Key.
func (f *farm) keyed(key, fingerprint string) *pb.Record {
	rec := f.record()
	rec.Envelope.KeyHash, rec.Envelope.Fingerprint = []byte(key), []byte(fingerprint)
	return rec
}

// Three replicas submit under one key at once: one job, whatever the order,
// and its ids are the same for all of them.
func TestKeyNamesOneJob(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", alone())
	var apis []*peer[pb.FrontUp, pb.FrontDown]
	var recs []*pb.Record
	for _, name := range []string{"api1", "api2", "api3"} {
		apis = append(apis, n.front(t, &pb.FrontHello{Api: name}))
		rec := f.keyed("key", "request")
		rec.Envelope.Api = name
		recs = append(recs, rec)
	}
	stored := make(chan error, len(recs))
	for _, rec := range recs {
		go func() {
			_, err := f.pub.Publish(t.Context(), rec)
			stored <- err
		}()
	}
	for range recs {
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
	accepted, first := 0, ""
	var same []string
	for i, rec := range recs {
		switch d := decision(apis[i], rec.Envelope.Id); v := d.Verdict.(type) {
		case *pb.Decision_Accepted:
			accepted, first = accepted+1, d.Id
		case *pb.Decision_SameAs:
			same = append(same, v.SameAs)
		default:
			t.Errorf("%v", d)
		}
	}
	if accepted != 1 || len(same) != 2 || same[0] != first || same[1] != first {
		t.Errorf("%d accepted, the others are the same as %q, want one job %s", accepted, same, first)
	}

	other := f.keyed("key", "another request")
	other.Envelope.Api = "api1"
	f.publish(other)
	if d := decision(apis[0], other.Envelope.Id); d.GetRefused().GetKind() != "key_reused" || d.GetRefused().GetCode() != "idempotency_key_reused" {
		t.Errorf("the key with another request: %v", d)
	}
}

// Duplicates that gather in one frame are told apart before it is durable.
func TestKeyTwiceInOneFrame(t *testing.T) {
	f := newFarm(t)
	one, two, three := f.keyed("key", "request"), f.keyed("key", "request"), f.keyed("key", "other")
	for _, rec := range []*pb.Record{one, two, three} { // nobody leads yet: all are decided in one step
		f.publish(rec)
	}
	n := f.start("a", alone())
	api := n.front(t, &pb.FrontHello{Api: "api", Pending: []*pb.Pending{{Id: one.Envelope.Id, JobsSeq: 1}}})
	if d := decision(api, one.Envelope.Id); d.GetAccepted() == nil {
		t.Errorf("the first: %v", d)
	}
	api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 1, Id: two.Envelope.Id}, {Call: 2, Id: three.Envelope.Id}}})
	for call := range uint64(2) {
		if a := answer(api, call+1); !a.GetUnknown() {
			t.Errorf("a second job of the key: %v", a)
		}
	}
}

// A key is known to the next leader, of a job that waits and of one that has
// ended; a late record of it changes nothing.
func TestKeyThroughTakeover(t *testing.T) {
	f := newFarm(t)
	first := f.start("a", alone())
	api := first.front(t, &pb.FrontHello{Api: "api"})
	w := first.worker(t, hello("b1"))
	ended, waiting := f.keyed("k1", "r1"), f.keyed("k2", "r2")
	f.publish(ended)
	decision(api, ended.Envelope.Id)
	w.send(&pb.WorkUp{Credit: 1})
	a := assigned(w)
	w.send(done(a))
	committed(w, a.Token)
	f.publish(waiting)
	decision(api, waiting.Envelope.Id)
	f.archived(first.Scheduler, ended.Envelope.Id)
	first.kill()

	undecided := f.keyed("k2", "r2") // by nobody when the next leader comes
	f.publish(undecided)
	late := f.keyed("k1", "r1") // its caller gave up long ago, and the key is known
	late.Envelope.SentUs -= time.Hour.Microseconds()
	f.publish(late)

	second := f.start("b", alone())
	api = second.front(t, &pb.FrontHello{Api: "api"})
	again, reused := f.keyed("k1", "r1"), f.keyed("k2", "r1")
	f.publish(again)
	f.publish(reused)
	if d := decision(api, again.Envelope.Id); d.GetSameAs() != ended.Envelope.Id {
		t.Errorf("the key of a job that has ended: %v", d)
	}
	if d := decision(api, reused.Envelope.Id); d.GetRefused().GetKind() != "key_reused" {
		t.Errorf("the key of a job that waits, with another request: %v", d)
	}
	api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 1, Id: undecided.Envelope.Id}, {Call: 2, Id: late.Envelope.Id}}})
	for call := range uint64(2) {
		if a := answer(api, call+1); !a.GetUnknown() {
			t.Errorf("a second job of a key: %v", a)
		}
	}
	j, fingerprint, err := f.store.JobByKey(t.Context(), f.account, []byte("k1"))
	if err != nil || string(j.ID) != ended.Envelope.Id || string(fingerprint) != "r1" {
		t.Errorf("in the archive: %+v, %q, %v", j, fingerprint, err)
	}
}

// While the archive does not answer, a key is worth what the leader knows:
// what it does not know may have been rendered long ago.
func TestKeyWithoutTheArchive(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", alone())
	api := n.front(t, &pb.FrontHello{Api: "api"})
	unknown := f.keyed("k1", "r1")
	unknown.Envelope.ArchiveUnread = true
	f.publish(unknown)
	if d := decision(api, unknown.Envelope.Id); d.GetRefused().GetKind() != "unavailable" || d.GetRefused().GetRetryAfterMs() < 1000 {
		t.Errorf("a key that the leader does not know: %v", d)
	}
	known := f.keyed("k1", "r1") // a refusal is not remembered
	f.publish(known)
	if d := decision(api, known.Envelope.Id); d.GetAccepted() == nil {
		t.Errorf("the key after the refusal: %v", d)
	}
	again := f.keyed("k1", "r1")
	again.Envelope.ArchiveUnread = true
	f.publish(again)
	if d := decision(api, again.Envelope.Id); d.GetSameAs() != known.Envelope.Id {
		t.Errorf("a key that the leader knows: %v", d)
	}
}

// The archive was away for longer than a finished job is remembered for its
// age. When it is back and files the job, a replica that asked it a moment
// before still finds the key at the leader, and its frame in the ledger.
func TestKeyFiledAMomentAgo(t *testing.T) {
	f := newFarm(t)
	id, old := string(job.NewID()), time.Now().Add(-10*keepKnown).UnixMicro()
	frame := &pb.Frame{Epoch: 1, TimeUs: old, Events: []*pb.Event{{Fact: &pb.Event_Finished{Finished: &pb.Finished{
		Job:     &pb.Job{Id: id, Account: f.account, State: string(job.Canceled), AcceptedUs: old, FinishedUs: old, ExpiresUs: old, Body: &pb.Body{}},
		KeyHash: []byte("key"), Fingerprint: []byte("request"),
	}}}}}
	data, _, err := stream.Seal(0, frame)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.streams.Settle(t.Context(), stream.Sealed{Seq: 1, Data: data}, nil); err != nil {
		t.Fatal(err)
	}
	n := f.start("a", alone())
	api := n.front(t, &pb.FrontHello{Api: "api"})
	f.archived(n.Scheduler, id)
	for n.projected.Load() < 1 {
		runtime.Gosched()
	}
	l := n.leader.Load()
	l.enter()
	l.forget()
	l.leave()
	rec := f.keyed("key", "request")
	f.publish(rec)
	if d := decision(api, rec.Envelope.Id); d.GetSameAs() != id {
		t.Errorf("%v, want the same as %s", d, id)
	}
	l.enter()
	of := marks{young: []mark{{at: l.now.Add(-2 * purgeMinAge), seq: 1}}}
	of.add(mark{at: l.now}, l.s.filed.upTo(n.projected.Load(), l.now))
	l.leave()
	if of.base.seq != 0 {
		t.Errorf("the ledger is trimmed up to %d", of.base.seq)
	}
}

// A job is forgotten only when it has been in the archive for longer than a
// record may be on its way: otherwise the archive, read before it was filed,
// and the leader, asked after it was forgotten, would both not know its key.
func TestFiledForAWhile(t *testing.T) {
	if filedFor <= staleAfter {
		t.Fatalf("a record may be decided %s after the archive was read, and jobs are forgotten after %s", staleAfter, filedFor)
	}
	now := time.Now()
	var f filed
	for _, step := range []struct {
		after     time.Duration
		projected uint64
		want      uint64
	}{
		{0, 0, 0},
		{time.Second, 70, 0}, // the archive was away for an hour and is back
		{filedFor - 2*time.Second, 80, 0},
		{time.Second, 90, 0}, // what was there at the first mark: nothing
		{filedFor - time.Second, 95, 0},
		{time.Second, 95, 90},
		{filedFor, 95, 95},
		{time.Second, 60, 60}, // an older copy was restored
	} {
		now = now.Add(step.after)
		if got := f.upTo(step.projected, now); got != step.want {
			t.Errorf("%d, want %d after %+v", got, step.want, step)
		}
	}

	e := job.NewID()
	facts := newFacts()
	facts.timeUS = (2 * keepKnown).Microseconds()
	facts.finish(token(50, 0), 1, &pb.Finished{Job: &pb.Job{Id: string(e)}, KeyHash: []byte("k")})
	facts.forget(49)
	if facts.keys["k"] != string(e) {
		t.Error("forgotten although it is not filed")
	}
	facts.forget(50)
	if len(facts.keys)+len(facts.entries) != 0 {
		t.Error("still known although it is filed and old")
	}
}
