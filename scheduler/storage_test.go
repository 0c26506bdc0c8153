package scheduler

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func TestStorageThresholds(t *testing.T) {
	of := func(bytes uint64) stream.State { return stream.State{Bytes: bytes, MaxBytes: 1000} }
	for _, c := range []struct {
		what         string
		jobs, ledger stream.State
		free, size   uint64
		full, hold   bool
	}{
		{"at the bounds", of(800), of(500), 100, 1000, false, false},
		{"over JOBS", of(801), of(0), 0, 0, true, false},
		{"over the ledger", of(0), of(501), 0, 0, true, false},
		{"a full disk", of(0), of(0), 99, 1000, true, false},
		{"far over the ledger", of(0), of(801), 0, 0, true, true},
		{"at its starts", of(0), of(800), 0, 0, true, false},
		{"no bounds known", stream.State{Bytes: 1 << 40}, stream.State{Bytes: 1 << 40}, 0, 0, false, false},
	} {
		s := storage{c.jobs, c.ledger, c.free, c.size}
		if (s.full() != "") != c.full || s.hold() != c.hold {
			t.Errorf("%s: %q, starts held %t", c.what, s.full(), s.hold())
		}
	}
}

// refusedFull reports a decision that says that the storage is full.
func refusedFull(d *pb.Decision) bool {
	r := d.GetRefused()
	return r.GetKind() == "unavailable" && r.GetCode() == "storage_full" && r.GetRetryAfterMs() >= 1000
}

// TestFullJobsRecover fills JOBS on a real server: first the leader refuses,
// then the stream itself. What was accepted ends, and the farm takes jobs again
// by itself.
func TestFullJobsRecover(t *testing.T) {
	t.Parallel() // it waits, mostly
	f := newFarmOf(t, stream.Config{JobsMaxBytes: 256 << 10, LedgerMaxBytes: 64 << 20})
	n := f.start("a", Config{Alone: true, Plans: []account.Plan{{
		Name: "test", Threads: 2, OverThreads: account.OverThreads{Backlog: 1000}, Wall: time.Minute, Retention: time.Hour,
	}}})
	api := n.front(t, &pb.FrontHello{Api: "api"})
	submit := func() (*pb.Decision, error) {
		rec := f.record()
		rec.Body.Spec = append(append([]byte(`{"html":"`), bytes.Repeat([]byte("x"), 15<<10)...), `"}`...)
		if _, err := f.pub.Publish(t.Context(), rec); err != nil {
			return nil, err
		}
		return decision(api, rec.Envelope.Id), nil
	}
	accepted, byLeader := 0, 0
	for {
		d, err := submit()
		if err != nil {
			if e := fault.From(err); e.Code != "storage_full" || e.Wait() == 0 {
				t.Fatalf("the full stream says %v", err)
			}
			break
		}
		switch {
		case d.GetAccepted() != nil:
			accepted++
		case refusedFull(d):
			byLeader++
		default:
			t.Fatalf("%v", d)
		}
	}
	if accepted == 0 {
		t.Fatal("nothing was accepted")
	}
	w := n.worker(t, hello("b1"))
	w.send(&pb.WorkUp{Credit: 2})
	for range accepted {
		a := assigned(w)
		w.send(done(a))
		committed(w, a.Token)
		w.send(&pb.WorkUp{Credit: 1})
	}
	for { // the next purge is at most 5 s away
		d, err := submit()
		if d.GetAccepted() != nil {
			break
		}
		if err != nil && fault.From(err).Code != "storage_full" || err == nil && !refusedFull(d) {
			t.Fatalf("%v, %v", d, err)
		}
		if err == nil {
			byLeader++
		}
		select {
		case <-t.Context().Done():
			t.Fatal("nothing was accepted again")
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Logf("%d accepted, %d refused by the leader", accepted, byLeader)
}

// full fills the ledger of a bubble with jobs, and returns how many.
func (b *bubble) full(api *peer[pb.FrontUp, pb.FrontDown]) int {
	b.t.Helper()
	for n := range 10_000 {
		d := decision(api, b.submit())
		time.Sleep(storageEvery / 20)
		switch {
		case refusedFull(d):
			return n
		case d.GetAccepted() == nil:
			b.t.Fatalf("%v", d)
		}
	}
	b.t.Fatal("the ledger does not fill")
	return 0
}

// renders does all that it is given, until the bubble ends.
func (b *bubble) renders(s *Scheduler) (count func() int) {
	w, _ := b.worker(s, "b1")
	w.send(&pb.WorkUp{Credit: 2})
	n := make(chan int, 1)
	n <- 0
	b.wg.Go(func() {
		beat := time.NewTicker(beatEvery)
		defer beat.Stop()
		for {
			select {
			case <-b.ctx.Done():
				return
			case <-beat.C:
				w.stream.Send(&pb.WorkUp{Beat: &pb.Beat{}}) //nolint:errcheck // the bubble has ended
			case m, open := <-w.down:
				if !open {
					return
				}
				for _, a := range m.Assign {
					n <- <-n + 1
					up := done(a)
					up.Credit = 1
					w.stream.Send(up) //nolint:errcheck // the bubble has ended
				}
			}
		}
	})
	return func() int { c := <-n; n <- c; return c }
}

// TestFullLedgerRecovers has more waiting than the ledger has room for until its
// end. Nothing is started when the ledger is nearly full, and nothing that runs
// is held up; as what has ended is dropped, all of it runs, and then jobs are
// accepted again.
func TestFullLedgerRecovers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.streams.jobsMax, b.streams.ledgerMax = 128<<10, 256<<10
		s, _ := b.start("a", alone())
		api := b.front(s)
		jobs := b.full(api)
		rendered := b.renders(s)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		l := s.leader.Load()
		l.mu.Lock()
		hold, running := l.storage.hold(), len(l.board.leases)
		l.mu.Unlock()
		if some := rendered(); !hold || running != 0 || some == 0 || some == jobs {
			t.Errorf("after %d of %d jobs: starts are held: %t, %d run", some, jobs, hold, running)
		}
		if d := decision(api, b.submit()); !refusedFull(d) {
			t.Errorf("beside a nearly full ledger: %v", d)
		}
		began := time.Now()
		for rendered() < jobs {
			time.Sleep(time.Second)
			if time.Since(began) > time.Hour {
				t.Fatalf("%d of %d jobs ran", rendered(), jobs)
			}
		}
		for time.Since(began) < time.Hour {
			time.Sleep(time.Second)
			if decision(api, b.submit()).GetAccepted() != nil {
				return
			}
		}
		t.Error("the farm does not accept again")
	})
}

// A ledger at its bound takes no frame: the leader holds out, and goes on with
// the same frame once what is old is dropped; so does the next one, when it was
// killed meanwhile.
func TestLedgerAtItsBound(t *testing.T) {
	for _, killed := range []bool{false, true} {
		inBubble(t, func(t *testing.T, b *bubble) {
			s, kill := b.start("a", alone())
			api := b.front(s)
			for range 50 {
				id := b.submit()
				decision(api, id)
				api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: id, Account: "acc_acme"}}})
				answer(api, 1)
			}
			b.streams.mu.Lock()
			b.streams.ledgerMax = b.streams.ledgerBytes() + 10
			b.streams.mu.Unlock()
			id := b.submit()
			synctest.Wait()
			for _, m := range api.seen {
				if len(m.Decisions) > 0 {
					t.Errorf("told of what is not stored: %v", m)
				}
			}
			if killed {
				kill()
				s, _ = b.start("b", Config{})
			}
			time.Sleep(fullFor)
			b.leading(s)
			api = b.front(s)
			again := b.submit()
			if killed { // and its caller had gone
				id = again
			}
			api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 2, Id: id}}})
			if a := answer(api, 2); killed && a.GetJob() != nil && a.GetJob().State != string(job.Queued) {
				t.Errorf("%v", a)
			} else if !killed && a.GetJob().GetState() != string(job.Queued) {
				t.Errorf("the job whose frame had no room: %v", a)
			}
			b.streams.mu.Lock()
			defer b.streams.mu.Unlock()
			if b.streams.frameFirst < 50 {
				t.Errorf("the ledger begins at %d", b.streams.frameFirst)
			}
		})
	}
}

// A full disk stops submissions as a full stream does.
func TestFullDisk(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		free := make(chan uint64, 1)
		free <- 9
		cfg := alone()
		cfg.Disk = func(context.Context) (uint64, uint64, error) { n := <-free; free <- n; return n * 100, 10_000, nil }
		s, _ := b.start("a", cfg)
		api := b.front(s)
		time.Sleep(time.Second)
		if d := decision(api, b.submit()); !refusedFull(d) {
			t.Errorf("with 9 %% of the disk free: %v", d)
		}
		<-free
		free <- 10
		time.Sleep(storageEvery)
		if d := decision(api, b.submit()); d.GetAccepted() == nil {
			t.Errorf("with 10 %% of the disk free: %v", d)
		}
	})
}

// Reigns that are shorter than a frame is kept trim the ledger all the same.
func TestShortReignsTrim(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		for range 15 {
			s, kill := b.start("a", alone())
			api := b.front(s)
			id := b.submit()
			api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: id, Account: "acc_acme"}}})
			answer(api, 1)
			time.Sleep(40 * time.Second)
			kill()
		}
		st, err := b.streams.LedgerState(t.Context())
		if err != nil || st.First < 10 {
			t.Errorf("after ten minutes the ledger holds frames %d to %d, %v", st.First, st.Last, err)
		}
	})
}
