package scheduler

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// wantTwin is a job that waits for another one.
func (b *bubble) wantTwin(s *Scheduler, when, id string) {
	b.t.Helper()
	if j := b.look(s, id); j.State != "queued" || j.WaitingFor != "twin" || j.Position != 0 {
		b.t.Errorf("%s: %s/%s at %d, want it to wait for its twin", when, j.State, j.WaitingFor, j.Position)
	}
}

// wantShared is a job that ended with another one's result.
func (b *bubble) wantShared(s *Scheduler, when, id, of string) {
	b.t.Helper()
	j, source := b.look(s, id), b.look(s, of)
	if j.State != "succeeded" || !j.Cached || j.Billable || j.Attempts != 0 || j.Result.GetObject() != source.Result.GetObject() || j.ExpiresUs != source.ExpiresUs || j.Body.GetCustomId() != "of "+id {
		b.t.Errorf("%s: %v, want it to share with %v", when, j, source)
	}
}

// Of identical jobs one is rendered and billed, and all end with it.
func TestTwinsEndTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		api := b.front(s)
		head, second, third := b.same(1), b.same(1), b.same(1)
		for _, id := range []string{second, third} {
			if d := decision(api, id).GetAccepted(); d.GetPlace() != pb.Place_PLACE_FOLLOWER || d.Ended != nil {
				t.Errorf("%s: %v", id, d)
			}
			b.wantTwin(s, "while the first waits", id)
		}
		other := b.same(2)
		api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 1, Id: third, WaitMs: 60_000}}})
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 2})
		first := assigned(w)
		if next := assigned(w); first.Job != head || next.Job != other {
			t.Fatalf("rendered %s and %s, want %s and %s: a follower has no slot", first.Job, next.Job, head, other)
		}
		fourth := b.same(1) // while it runs
		b.wantTwin(s, "while the first runs", fourth)
		w.send(done(first))
		committed(w, first.Token)
		if j := answer(api, 1).GetJob(); j.GetState() != "succeeded" || !j.Cached {
			t.Errorf("the waiting look-up: %v", j)
		}
		for _, id := range []string{second, third, fourth} {
			b.wantShared(s, "after the first", id, head)
		}
		time.Sleep(time.Minute)
		units := int64(0)
		b.archive.mu.Lock()
		for _, e := range b.archive.ends {
			units += e.Units
		}
		b.archive.mu.Unlock()
		if units != 120 {
			t.Errorf("%d units were charged, want one render's", units)
		}
	})
}

// When the first comes to nothing the next one renders, before all that its
// account has parked; the others wait for that.
func TestTwinTakesOver(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		api := b.front(s)
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 2})
		head := b.same(1)
		first := assigned(w)
		b.submit()
		assigned(w) // both threads run
		parked := b.submit()
		second, third, fourth := b.same(1), b.same(1), b.same(1)
		cancel := func(id string) {
			t.Helper()
			api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: id, Account: "acc_acme"}}})
			if got := answer(api, 1).GetJob(); got.GetState() != "canceled" {
				t.Errorf("cancel of %s: %v", id, got)
			}
		}
		cancel(second)
		b.wantTwin(s, "after another follower was canceled", third)
		w.send(&pb.WorkUp{Credit: 1, Failed: []*pb.Failed{{
			Token: first.Token, Job: head, Failure: &pb.Failure{Code: string(job.TLSError), Stage: "navigate", Detail: "no"},
		}}})
		if a := assigned(w); a.Job != third {
			t.Errorf("after the first failed %s is rendered, want %s", a.Job, third)
		}
		b.wantTwin(s, "after the first failed", fourth)
		b.want(s, "a job that was parked before the twins", parked, job.Queued, 0)
		cancel(third)
		w.send(&pb.WorkUp{Credit: 1})
		last := assigned(w)
		if last.Job != fourth {
			t.Errorf("after the next was canceled %s is rendered, want %s", last.Job, fourth)
		}
		w.send(done(last))
		committed(w, last.Token)
		if j := b.look(s, fourth); j.Cached || !j.Billable {
			t.Errorf("the one that was rendered: %v", j)
		}
	})
}

// A new leader finds the twins as they were, and ends those whose result had
// come when the last one was killed; their bodies are read first.
func TestTwinsOutliveALeader(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, kill := b.start("a", alone())
		b.leading(s)
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		head := b.same(1)
		a := assigned(w)
		twins := []string{b.same(1), b.same(1), b.same(1)}
		kill()
		s, kill = b.start("b", Config{})
		b.leading(s)
		for _, id := range twins {
			b.wantTwin(s, "after a takeover", id)
		}
		w, _ = connect(b, func(p *pipe[pb.WorkUp, pb.WorkDown]) error { return workService{s: s}.Connect(p) },
			&pb.WorkUp{Hello: hello("b1", &pb.Held{Token: a.Token, Job: a.Job})})
		l := s.leader.Load()
		l.mu.Lock()
		for _, id := range twins[1:] { // the first one's is not in memory, as after a takeover
			l.board.entries[id].body = &pb.Body{Spec: []byte(`{}`), CustomId: "of " + id}
		}
		l.mu.Unlock()
		w.send(done(a))
		committed(w, a.Token)
		for _, id := range twins {
			b.wantShared(s, "after the takeover", id, head)
		}

		// Killed between the end of the first and that of the others: a frame that
		// has the one alone.
		lone := b.same(2)
		follower := b.same(2)
		synctest.Wait()
		kill()
		b.endAlone(lone)
		s, _ = b.start("c", Config{})
		b.leading(s)
		b.wantShared(s, "whose twin ended before the takeover", follower, lone)
	})
}

// endAlone writes the end of a job into the ledger, as a leader does that is
// killed before it writes more.
func (b *bubble) endAlone(id string) {
	s, err := New(Config{Address: "x", Log: slog.New(slog.DiscardHandler), Alone: true}, b.streams, b.archive, presigner{})
	if err != nil {
		b.t.Fatal(err)
	}
	f, proved, err := s.follow(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	l := s.newLeader(b.ctx, f, proved)
	e := l.board.entries[id]
	now := time.Now().UnixMicro()
	l.board.finish(e, &pb.Finished{
		CacheKey: e.env.CacheKey, FreshUntilUs: now + time.Minute.Microseconds(),
		Job: &pb.Job{
			Id: id, Account: e.account, State: "succeeded", AcceptedUs: e.acceptedUS, FinishedUs: now, ExpiresUs: now + time.Hour.Microseconds(),
			Billable: true, Body: &pb.Body{Spec: []byte(`{}`)}, Result: &pb.Result{Object: "r/x"},
		},
	}, time.Now())
	l.send()
	if err := l.append(b.ctx, <-l.sent); err != nil {
		b.t.Fatal(err)
	}
}

// A refresh is dropped where a fresh result is there or on its way.
func TestRefreshIsDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		api := b.front(s)
		refresh := func(e *pb.Envelope) { e.Revalidate = true }
		first := b.same(1, refresh)
		if d := decision(api, first); d.GetAccepted().GetPlace() != pb.Place_PLACE_QUEUE {
			t.Errorf("the first: %v", d)
		}
		dropped := func(when, id string) {
			t.Helper()
			if d := decision(api, id); d.GetRefused().GetKind() != "conflict" {
				t.Errorf("%s: %v", when, d)
			}
		}
		dropped("while one waits", b.same(1, refresh))
		follower := b.same(1)
		b.wantTwin(s, "behind a refresh", follower)
		w, _ := b.worker(s, "b1")
		made(w)
		b.wantShared(s, "after the refresh", follower, first)
		dropped("right after it", b.same(1, refresh, func(e *pb.Envelope) { e.SentUs -= time.Second.Microseconds() }))
	})
}

// Whose plan lets nothing wait has no followers, and force follows nobody.
func TestWhoFollows(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		over := func(o account.OverThreads, alone bool) Config {
			return Config{Alone: alone, Policy: account.NewLive(&account.Policy{
				Queue: account.Queue{Length: 100},
				Plans: []account.Plan{{Name: "test", Threads: 1, OverThreads: o, Wall: time.Minute, Retention: time.Hour}},
			})}
		}
		s, kill := b.start("a", over(account.OverThreads{Action: account.Refuse}, true))
		api := b.front(s)
		place := func(when string, want pb.Place, change ...func(*pb.Envelope)) {
			t.Helper()
			if d := decision(api, b.same(1, change...)).GetAccepted(); d.GetPlace() != want {
				t.Errorf("%s: %v, want %v", when, d, want)
			}
		}
		place("a plan that refuses", pb.Place_PLACE_QUEUE)
		if d := decision(api, b.same(1)); d.GetRefused().GetCode() != "concurrency_limit_exceeded" {
			t.Errorf("over the threads of a plan that refuses: %v", d)
		}
		kill()
		s, _ = b.start("b", over(account.OverThreads{Backlog: 2}, false))
		api = b.front(s)
		place("by force", pb.Place_PLACE_PARKED, func(e *pb.Envelope) { e.Force = true })
		place("behind it", pb.Place_PLACE_FOLLOWER)
		place("another", pb.Place_PLACE_FOLLOWER)
		if d := decision(api, b.same(1)); d.GetRefused().GetCode() != "backlog_full" {
			t.Errorf("more followers than the backlog has room: %v", d)
		}
	})
}

// A job and those that follow it hold one share of the quota, through the head's
// failure and a change of leader; another job has the rest.
func TestTwinsShareAQuota(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		cfg := Config{Plans: []account.Plan{testPlan(renders(2))}}
		s, kill := b.start("a", cfg)
		api := b.front(s)
		head := b.same(1)
		b.same(1)
		last := b.same(1)
		b.wantTwin(s, "behind the first", last)
		b.wantBill(s, "three of one picture", 0, 1)
		if d := decision(api, b.same(2)); d.GetAccepted() == nil {
			t.Fatalf("another picture: %v", d)
		}
		over := func(when string) {
			t.Helper()
			if d := decision(api, b.same(3)); d.GetRefused().GetCode() != "quota_exceeded" {
				t.Errorf("%s: %v, want it refused for the quota", when, d)
			}
		}
		over("a third one")
		api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: head, Account: "acc_acme"}}})
		answer(api, 1)
		b.wantBill(s, "after the head's end", 0, 2)
		over("a third one, while a follower takes the head's place")
		next, _ := b.start("b", cfg)
		kill()
		b.leading(next)
		api = b.front(next)
		b.wantBill(next, "after a change of leader", 0, 2)
		over("a third one, after a change of leader")
		w, _ := b.worker(next, "b1")
		w.send(&pb.WorkUp{Credit: 2})
		for range 2 {
			a := assigned(w)
			w.send(done(a))
			committed(w, a.Token)
		}
		b.wantBill(next, "after both renders", 2, 0)
		if j := b.look(next, last); j.State != "succeeded" || !j.Cached || j.Billable {
			t.Errorf("the last of the first picture: %v", j)
		}
	})
}

// However many follow, one step ends a bounded number of them: nobody else waits
// for all of them.
func TestTwinsEndInSteps(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		b.leading(s)
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		head := b.same(1)
		a := assigned(w)
		var twins []string
		for range 2*servedAtOnce + 5 {
			twins = append(twins, b.same(1))
		}
		l := s.leader.Load()
		l.mu.Lock()
		l.board.finish(l.board.entries[head], &pb.Finished{
			Token: a.Token, CacheKey: picture(1), FreshUntilUs: time.Now().Add(time.Minute).UnixMicro(),
			Job: &pb.Job{Id: head, Account: "acc_acme", State: "succeeded", ExpiresUs: time.Now().Add(time.Hour).UnixMicro(), Result: &pb.Result{Object: "r/x"}},
		}, time.Now())
		l.endServed(picture(1))
		if left := l.board.tails[string(picture(1))]; left == nil || left.n != len(twins)-servedAtOnce {
			t.Errorf("%v of %d are left after one step, want all but %d", left, len(twins), servedAtOnce)
		}
		l.leave()
		synctest.Wait()
		for _, id := range twins {
			b.wantShared(s, "in the end", id, head)
		}
	})
}

// A result is not forgotten before all that waited for it have ended: nothing
// else would ever end them.
func TestResultIsKeptForItsTwins(t *testing.T) {
	b := newBench(t, Queue{Length: 100}, nil)
	submit := func() *entry {
		e, _ := b.submitEnv(0, &pb.Envelope{Account: "acme", CacheKey: picture(1), TtlMs: 1000})
		b.check()
		return e
	}
	head, twin := submit(), submit()
	b.start()
	b.board.finish(head, &pb.Finished{CacheKey: picture(1), Job: &pb.Job{Id: head.id, Account: "acme", State: "succeeded"}}, b.now)
	b.check()
	b.now = b.now.Add(2 * keepKnown)
	b.submit("other", 0)
	b.board.forget(b.board.seq)
	if b.board.source(twin) != head {
		t.Fatal("the result is forgotten, and its twin waits for ever")
	}
	b.finish(twin, job.Succeeded)
	b.board.forget(b.board.seq)
	if b.board.entries[head.id] != nil {
		t.Error("the result is kept although nobody waits for it")
	}
}

// One that takes its turn after its twin's failure is charged, and so is one
// that follows nobody, which a plan lets in that came into force meanwhile: both
// hold their share of the quota.
func TestTwinAndAnotherPlan(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		policy := func(over account.OverThreads) *account.Policy {
			p := testPlan(renders(2))
			p.Threads, p.OverThreads = 4, over
			return &account.Policy{Queue: account.Queue{Length: 100}, Plans: []account.Plan{p}}
		}
		live := account.NewLive(policy(account.OverThreads{Backlog: 10}))
		s, _ := b.start("a", Config{Policy: live})
		api := b.front(s)
		head := b.same(1)
		b.wantTwin(s, "behind the first", b.same(1))
		live.Set(policy(account.OverThreads{Action: account.Refuse}))
		synctest.Wait()
		if d := decision(api, b.same(1)).GetAccepted(); d.GetPlace() != pb.Place_PLACE_QUEUE {
			t.Fatalf("of a plan that lets nothing wait: %v", d)
		}
		api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: head, Account: "acc_acme"}}})
		answer(api, 1)
		b.wantBill(s, "after the head's end", 0, 2)
		if d := decision(api, b.same(2)); d.GetRefused().GetCode() != "quota_exceeded" {
			t.Errorf("a third render of two: %v", d)
		}
	})
}
