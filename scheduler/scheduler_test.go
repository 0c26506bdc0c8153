package scheduler

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func alone() Config { return Config{Alone: true} }

func hello(boot string, held ...*pb.Held) *pb.Hello {
	return &pb.Hello{Worker: "w1", Boot: boot, Seats: 2, Held: held}
}

func TestJobFromDoorToArchive(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", alone())
	api := n.front(t, &pb.FrontHello{Api: "api"})
	w := n.worker(t, hello("b1"))
	rec := f.record()
	id := rec.Envelope.Id
	f.publish(rec)
	if d := decision(api, id); d.GetAccepted().GetPlace() != pb.Place_PLACE_QUEUE {
		t.Fatalf("decision %v, want accepted into the queue", d)
	}
	api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 1, Id: id}, {Call: 2, Id: id, WaitMs: 20_000}, {Call: 3, Id: "job_nobody"}, {Call: 5, Id: id, WaitMs: 60_000, Account: "acc_stranger"}}})
	if a := answer(api, 1); a.GetJob().GetState() != "queued" || a.GetJob().GetWaitingFor() != "worker" || a.GetJob().GetPosition() != 1 {
		t.Errorf("before a seat is free: %v", a)
	}
	if a := answer(api, 3); !a.GetUnknown() {
		t.Errorf("a job nobody submitted: %v", a)
	}
	if a := answer(api, 5); a.GetJob().GetState() != "queued" {
		t.Errorf("another account's job, with a wait: %v", a)
	}

	w.send(&pb.WorkUp{Credit: 2})
	a := assigned(w)
	if a.Job != id || a.Attempt != 1 || string(a.Spec) != string(rec.Body.Spec) || !strings.Contains(a.PutUrl, "/r/acc_acme/"+id+"/") || a.PutHeaders["If-None-Match"] != "*" {
		t.Fatalf("assignment %v", a)
	}
	api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 4, Id: id}}})
	if a := answer(api, 4); a.GetJob().GetState() != "running" {
		t.Errorf("while it runs: %v", a)
	}
	w.send(done(a))
	committed(w, a.Token)
	end := answer(api, 2).GetJob()
	if end.GetState() != "succeeded" || !end.Billable || end.Body.CustomId != "mine" || end.Result.ContentType != "image/png" || !strings.HasPrefix(end.Result.Object, "r/acc_acme/"+id) {
		t.Errorf("the waiting look-up: %v", end)
	}
	w.send(done(a)) // its answer was lost: the same again
	committed(w, a.Token)

	j := f.archived(n.Scheduler, id)
	if j.State != job.Succeeded || j.Attempts != 1 || j.Result.SizeBytes != 3 {
		t.Errorf("archived %+v", j)
	}
	now := time.Now().UTC()
	events, sum, month, err := f.store.Audit(t.Context(), f.account, time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC))
	if err != nil || events != 1 || sum != 120 || month != 120 {
		t.Errorf("billed %d events, %d units, month %d, %v; want one credit", events, sum, month, err)
	}
}

func TestRefusals(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", Config{Alone: true, Queue: Queue{Length: 1}})
	api := n.front(t, &pb.FrontHello{Api: "api"})

	old := f.record()
	old.Envelope.SentUs -= (staleAfter + time.Second).Microseconds()
	stranger := f.record()
	stranger.Envelope.Account = "acc_nobody"
	first, second := f.record(), f.record()
	for _, rec := range []*pb.Record{old, stranger, first, second} {
		f.publish(rec)
	}
	if d := decision(api, old.Envelope.Id); d.GetRefused().GetKind() != "unavailable" {
		t.Errorf("a record of 13 s ago: %v", d)
	}
	if d := decision(api, stranger.Envelope.Id); d.GetRefused().GetKind() != "forbidden" {
		t.Errorf("an account that does not exist: %v", d)
	}
	if d := decision(api, first.Envelope.Id); d.GetAccepted() == nil {
		t.Errorf("the first job: %v", d)
	}
	// No worker: one thread, so the second job of the account parks.
	if d := decision(api, second.Envelope.Id); d.GetAccepted().GetPlace() != pb.Place_PLACE_PARKED {
		t.Errorf("the second job: %v", d)
	}
}

func TestQueueFull(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", Config{Alone: true, Queue: Queue{Length: 1}, Plans: []account.Plan{{Name: "test", Threads: 5, Wall: time.Minute}}})
	api := n.front(t, &pb.FrontHello{Api: "api"})
	first, second := f.record(), f.record()
	f.publish(first)
	f.publish(second)
	decision(api, first.Envelope.Id)
	d := decision(api, second.Envelope.Id)
	if d.GetRefused().GetKind() != "queue_full" || d.GetRefused().GetRetryAfterMs() < 1000 {
		t.Fatalf("with a queue of one: %v", d)
	}
	api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 1, Id: second.Envelope.Id}}})
	if a := answer(api, 1); !a.GetUnknown() {
		t.Errorf("a refused job: %v", a)
	}
}

func TestCancel(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", alone())
	api := n.front(t, &pb.FrontHello{Api: "api"})
	w := n.worker(t, hello("b1"))
	rec := f.record()
	id := rec.Envelope.Id
	f.publish(rec)
	decision(api, id)
	w.send(&pb.WorkUp{Credit: 1})
	a := assigned(w)

	api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: id, Account: "acc_other"}}})
	if got := answer(api, 1); !got.GetUnknown() {
		t.Errorf("another account cancelled it: %v", got)
	}
	api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 2, Id: id, Account: f.account}}})
	if got := answer(api, 2); got.GetJob().GetState() != "canceled" || got.GetJob().GetBillable() {
		t.Errorf("cancelled: %v", got)
	}
	await(w, "revocation", func(m *pb.WorkDown) (bool, bool) { return true, len(m.Revoke) == 1 && m.Revoke[0] == a.Token })
	w.send(done(a)) // too late
	stale(w, a.Token)
	if j := f.archived(n.Scheduler, id); j.State != job.Canceled || *j.Billable {
		t.Errorf("archived %+v", j)
	}
}

func TestFarmFaultIsRetried(t *testing.T) {
	t.Parallel() // it waits, mostly
	f := newFarm(t)
	n := f.start("a", alone())
	api := n.front(t, &pb.FrontHello{Api: "api"})
	w := n.worker(t, hello("b1"))
	crash, page := f.record(), f.record()
	f.publish(crash)
	decision(api, crash.Envelope.Id)
	w.send(&pb.WorkUp{Credit: 1})
	fail := func(a *pb.Assign, code job.Code) {
		w.send(&pb.WorkUp{Credit: 1, Failed: []*pb.Failed{{
			Token: a.Token, Job: a.Job, Failure: &pb.Failure{Code: string(code), Stage: "capture", Detail: "d"},
		}}})
		committed(w, a.Token)
	}
	for attempt := range uint32(maxAttempts) {
		a := assigned(w)
		if a.Job != crash.Envelope.Id || a.Attempt != attempt+1 {
			t.Fatalf("attempt %d: %v", attempt+1, a)
		}
		fail(a, job.BrowserCrashed)
	}
	if j := f.archived(n.Scheduler, crash.Envelope.Id); j.State != job.Failed || j.Failure.Code != job.BrowserCrashed || j.Attempts != maxAttempts {
		t.Errorf("after the last attempt: %+v", j)
	}
	f.publish(page)
	a := assigned(w)
	fail(a, job.TLSError)
	if j := f.archived(n.Scheduler, page.Envelope.Id); j.Failure.Code != job.TLSError || j.Attempts != 1 {
		t.Errorf("the page's own failure: %+v", j)
	}
}

func TestTakeover(t *testing.T) {
	t.Parallel() // it waits, mostly
	f := newFarm(t)
	first := f.start("a", alone())
	api := first.front(t, &pb.FrontHello{Api: "api"})
	w := first.worker(t, hello("b1"))
	held, unheld, waiting := f.record(), f.record(), f.record()
	for _, rec := range []*pb.Record{held, unheld} {
		f.publish(rec)
		decision(api, rec.Envelope.Id)
	}
	w.send(&pb.WorkUp{Credit: 2})
	a1, a2 := assigned(w), assigned(w)
	f.publish(waiting)
	decision(api, waiting.Envelope.Id)
	first.kill()

	// A record that nobody has decided when the next leader comes.
	undecided := f.record()
	f.publish(undecided)

	second := f.start("b", Config{})
	api = second.front(t, &pb.FrontHello{Api: "api", Pending: []*pb.Pending{{Id: waiting.Envelope.Id, JobsSeq: 3}}})
	if d := decision(api, waiting.Envelope.Id); d.GetAccepted() == nil {
		t.Errorf("asked again after the takeover: %v", d)
	}
	api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 1, Id: undecided.Envelope.Id, WaitMs: 100}}})
	// The worker lives and holds the first job only: it never heard of the other.
	w = second.worker(t, hello("b1", &pb.Held{Token: a1.Token, Job: a1.Job}))
	w.send(done(a1))
	committed(w, a1.Token)
	w.send(&pb.WorkUp{Credit: 2})
	seen := map[string]*pb.Assign{}
	for range 2 {
		a := assigned(w)
		seen[a.Job] = a
		w.send(done(a))
		w.send(&pb.WorkUp{Credit: 1})
	}
	again := seen[a2.Job]
	if again == nil {
		again = assigned(w)
		w.send(done(again))
	}
	if again.Job != a2.Job || again.Attempt != 1 || again.Token <= a2.Token || string(again.Spec) != string(unheld.Body.Spec) {
		t.Errorf("the job that nobody held: %v after %v", again, a2)
	}
	for _, rec := range []*pb.Record{held, unheld, waiting} {
		if j := f.archived(second.Scheduler, rec.Envelope.Id); j.State != job.Succeeded || j.Attempts != 1 || j.CustomID != "mine" {
			t.Errorf("%s: %+v", rec.Envelope.Id, j)
		}
	}
}

func TestDeposed(t *testing.T) {
	f := newFarm(t)
	first := f.start("a", alone())
	api := first.front(t, &pb.FrontHello{Api: "api"})
	// Both believe that they are alone; the log says who leads.
	second := f.start("b", alone())
	second.front(t, &pb.FrontHello{Api: "api"})
	rec := f.record()
	f.publish(rec) // the first leader's next append is refused
	await(api, "not leader", func(m *pb.FrontDown) (bool, bool) { return true, m.NotLeader != nil })
}

// TestNoFork has a leader that was deposed without knowing it decide twice: none
// of it may stand behind the other leader's frames (I8).
func TestNoFork(t *testing.T) {
	f := newFarm(t)
	first := f.start("a", alone())
	api := first.front(t, &pb.FrontHello{Api: "api"})
	records := []*pb.Record{f.record(), f.record(), f.record()}
	for _, rec := range records {
		f.publish(rec)
		decision(api, rec.Envelope.Id)
	}
	old := first.leader.Load()
	f.start("b", alone()).front(t, &pb.FrontHello{Api: "other"})
	session := &frontSession{api: "gone", out: newOutbox[pb.FrontDown]()}
	for i, rec := range records { // each an entry of its own, as calls of three replicas are
		old.frontMessage(t.Context(), session, &pb.FrontUp{Cancels: []*pb.Cancel{{Call: uint64(i), Id: rec.Envelope.Id, Account: f.account}}})
	}
	await(api, "not leader", func(m *pb.FrontDown) (bool, bool) { return true, m.NotLeader != nil })
	st, err := f.streams.LedgerState(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	epoch, ended := uint64(0), errors.New("read to the end")
	err = f.streams.Follow(t.Context(), 0, 0, func(links []stream.Link) error {
		for _, l := range links {
			if l.Frame.Epoch < epoch {
				t.Errorf("frame %d of epoch %d stands behind epoch %d", l.Seq, l.Frame.Epoch, epoch)
			}
			for _, ev := range l.Frame.Events {
				if ev.GetFinished() != nil {
					t.Errorf("frame %d holds a cancel of a reign that was over", l.Seq)
				}
			}
			if epoch = l.Frame.Epoch; l.Seq == st.Last {
				return ended
			}
		}
		return nil
	})
	if !errors.Is(err, ended) {
		t.Error(err)
	}
}

func TestEarlierBootIsLostAtOnce(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", alone())
	api := n.front(t, &pb.FrontHello{Api: "api"})
	w := n.worker(t, hello("b1"))
	f.accepted(api)
	w.send(&pb.WorkUp{Credit: 1})
	a := assigned(w)
	w = n.worker(t, hello("b2"))
	w.send(&pb.WorkUp{Credit: 1})
	again := assigned(w)
	if again.Job != a.Job || again.Attempt != 2 || again.Token <= a.Token {
		t.Fatalf("after the worker was restarted: %v", again)
	}
	w.send(done(a)) // a zombie's report
	stale(w, a.Token)
	w.send(done(again))
	committed(w, again.Token)
}

func TestDrainGivesBackTheAttempt(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", alone())
	api := n.front(t, &pb.FrontHello{Api: "api"})
	w := n.worker(t, hello("b1"))
	f.accepted(api)
	w.send(&pb.WorkUp{Credit: 1})
	a := assigned(w)
	w.send(&pb.WorkUp{Draining: true, Returned: []uint64{a.Token}})
	for call := uint64(1); ; call++ {
		api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: call, Id: a.Job}}})
		if answer(api, call).GetJob().GetState() == "queued" {
			break
		}
	}
	w = n.worker(t, hello("b2"))
	w.send(&pb.WorkUp{Credit: 1})
	if again := assigned(w); again.Job != a.Job || again.Attempt != 1 {
		t.Errorf("after a drain: %v", again)
	}
}

// TestGreedyWorker has a worker of one seat offer thirty: it gets jobs, and the
// leader goes on.
func TestGreedyWorker(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", Config{Alone: true, Plans: []account.Plan{{Name: "test", Threads: 50, Wall: time.Minute}}})
	api := n.front(t, &pb.FrontHello{Api: "api"})
	w := n.worker(t, &pb.Hello{Worker: "w1", Boot: "b1", Seats: 1})
	for range 30 {
		rec := f.record()
		f.publish(rec)
		decision(api, rec.Envelope.Id)
		w.send(&pb.WorkUp{Credit: 1})
	}
	for range 30 {
		assigned(w)
	}
}

// TestHostileReport has a worker say what neither the ledger nor the archive
// could take as it is.
func TestHostileReport(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", alone())
	api := n.front(t, &pb.FrontHello{Api: "api"})
	w := n.worker(t, hello("b1"))
	broken, odd := f.record(), f.record()
	for _, rec := range []*pb.Record{broken, odd} {
		f.publish(rec)
		decision(api, rec.Envelope.Id)
	}
	w.send(&pb.WorkUp{Credit: 2})
	a, b := assigned(w), assigned(w)
	w.send(&pb.WorkUp{Failed: []*pb.Failed{{
		Token: a.Token, Job: a.Job, Evidence: []byte("{"),
		Failure: &pb.Failure{Code: string(job.TLSError), Stage: "a\x00b", Detail: strings.Repeat("x\x00", 1<<20)},
	}}})
	w.send(&pb.WorkUp{Done: []*pb.Done{{
		Token: b.Token, Job: b.Job, Result: &pb.Result{
			Object: "r/of/another/account", ContentType: "text/html", Width: 1<<32 - 1, Pages: 1<<32 - 1, SizeBytes: -1, Sha256: make([]byte, 1<<20),
		},
	}}})
	committed(w, a.Token)
	committed(w, b.Token)
	failed, done := f.archived(n.Scheduler, a.Job), f.archived(n.Scheduler, b.Job)
	if failed.Failure.Code != job.TLSError || failed.Failure.Stage != job.StageCapture || len(failed.Failure.Detail) > 2<<10 {
		t.Errorf("failure %s in %q, %d bytes of detail", failed.Failure.Code, failed.Failure.Stage, len(failed.Failure.Detail))
	}
	if r := done.Result; !strings.HasPrefix(r.Object, "r/acc_acme/"+b.Job) || r.ContentType != "image/png" || r.Width < 0 || r.SizeBytes != 0 || r.SHA256 != "" {
		t.Errorf("result %+v", r)
	}
	w.send(&pb.WorkUp{Credit: 1})
	last := f.record()
	f.publish(last)
	if got := assigned(w); got.Job != last.Envelope.Id {
		t.Errorf("after the hostile reports: %v", got)
	}
}

// TestAnotherWorkersLease is a token guessed by a worker that does not hold it.
func TestAnotherWorkersLease(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", alone())
	api := n.front(t, &pb.FrontHello{Api: "api"})
	w := n.worker(t, hello("b1"))
	thief := n.worker(t, &pb.Hello{Worker: "w2", Boot: "b2", Seats: 1})
	f.accepted(api)
	w.send(&pb.WorkUp{Credit: 1})
	a := assigned(w)
	thief.send(done(a))
	stale(thief, a.Token)
	w.send(done(a))
	committed(w, a.Token)
}

func TestExpiredIsArchived(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", Config{Alone: true, Queue: Queue{WaitLimit: time.Millisecond}})
	api := n.front(t, &pb.FrontHello{Api: "api"})
	rec := f.record()
	f.publish(rec)
	if d := decision(api, rec.Envelope.Id); d.GetAccepted() == nil {
		t.Fatalf("decision %v", d)
	}
	if j := f.archived(n.Scheduler, rec.Envelope.Id); j.State != job.Expired || j.Failure != nil || *j.Billable || j.Attempts != 0 {
		t.Errorf("archived %+v", j)
	}
}
