package scheduler

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// slack is how late the sweep may be.
const slack = sweepEvery + time.Millisecond

func TestLeaseEndsWithoutABeat(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		id := b.submit()
		a := assigned(w)
		for n := range uint64(20) { // 40 s of beats
			time.Sleep(beatEvery)
			w.send(&pb.WorkUp{Beat: &pb.Beat{Number: n, Tokens: []uint64{a.Token}}})
		}
		b.want(s, "while it beats", id, job.Running, 1)
		time.Sleep(leaseFor)
		b.want(s, "12 s after the last beat", id, job.Running, 1)
		time.Sleep(slack)
		b.want(s, "and a sweep later", id, job.Queued, 1)
		stale(w, a.Token)
		if j := b.look(s, id); j.WaitingFor != string(job.WaitingForRetry) {
			t.Errorf("it waits for %s", j.WaitingFor)
		}
		w.send(&pb.WorkUp{Credit: 1})
		time.Sleep(2250*time.Millisecond + slack) // the longest back-off after one attempt
		b.want(s, "after the back-off", id, job.Running, 2)
	})
}

func TestLeaseEndsWhateverTheBeatsSay(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		id := b.submit()
		a := assigned(w)
		until := time.Now().Add(time.Minute + wallGrace)
		for n := uint64(0); time.Until(until) > beatEvery; n++ {
			time.Sleep(beatEvery)
			w.send(&pb.WorkUp{Beat: &pb.Beat{Number: n, Tokens: []uint64{a.Token}}})
		}
		time.Sleep(time.Until(until))
		b.want(s, "at its wall time and 35 s", id, job.Running, 1)
		time.Sleep(slack)
		b.want(s, "and a sweep later", id, job.Queued, 1)
	})
}

// A leader that waits for a slow JOBS hears its workers all the same: that is no
// standing still, which would give every lease another 12 s.
func TestSlowBodiesAreNoStandstill(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.streams.slow = 3 * time.Second
		s, kill := b.start("a", alone())
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 2})
		b.submit()
		b.submit()
		lost, kept := assigned(w), assigned(w)
		kill() // the next leader has the bodies to read
		s, _ = b.start("b", Config{})
		b.leading(s)
		w, _ = connect(b, func(p *pipe[pb.WorkUp, pb.WorkDown]) error { return workService{s: s}.Connect(p) }, &pb.WorkUp{
			Hello: hello("b1", &pb.Held{Token: lost.Token, Job: lost.Job}, &pb.Held{Token: kept.Token, Job: kept.Job}),
		})
		time.Sleep(time.Second)
		w.send(&pb.WorkUp{Beat: &pb.Beat{Number: 1, Tokens: []uint64{kept.Token}}})
		time.Sleep(leaseFor - time.Second + b.streams.slow + 2*slack)
		b.want(s, "the first is lost, its body read", lost.Job, job.Queued, 1)
		b.want(s, "the other ran out meanwhile", kept.Job, job.Running, 1)
		time.Sleep(b.streams.slow)
		b.want(s, "its body read too", kept.Job, job.Queued, 1)
	})
}

// A job that kills every worker that it meets ends.
func TestPoison(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		api := b.front(s)
		id := b.submit()
		api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 1, Id: id, WaitMs: 60_000}}})
		for n, boot := range []string{"b1", "b2", "b3"} {
			w, hang := b.worker(s, boot)
			w.send(&pb.WorkUp{Credit: 1})
			if a := assigned(w); a.Attempt != uint32(n+1) {
				t.Errorf("attempt %d, want %d", a.Attempt, n+1)
			}
			hang()
			b.want(s, "nobody knows yet", id, job.Running, uint32(n+1))
		}
		b.worker(s, "b4") // the last boot's lease is lost at once
		end := answer(api, 1).GetJob()
		if end.GetState() != string(job.Failed) || end.GetFailure().GetCode() != string(job.AttemptsExhausted) || end.GetAttempts() != maxAttempts || end.GetBillable() {
			t.Errorf("ended as %v", end)
		}
	})
}

// One process of a worker costs a job one attempt, but not for ever.
func TestOneProcessCostsOneAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		w, _ := b.worker(s, "b1")
		id := b.submit()
		w.send(&pb.WorkUp{Credit: 1})
		var attempts []uint32
		for len(attempts) < 20 && b.look(s, id).State != string(job.Failed) {
			attempts = append(attempts, assigned(w).Attempt)
			time.Sleep(leaseFor + slack)
			synctest.Wait()
			w.send(&pb.WorkUp{Credit: 1})
		}
		// Six losses that cost one attempt, then two that cost what is left.
		if want := []uint32{1, 2, 2, 2, 2, 2, 2, 3}; len(attempts) != len(want) || attempts[2] != 2 || attempts[6] != 2 || attempts[7] != 3 {
			t.Errorf("attempts %v, want %v", attempts, want)
		}
	})
}

func TestJobsExpire(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		cfg := Config{Queue: Queue{WaitLimit: time.Hour}}
		s, kill := b.start("a", cfg)
		w, _ := b.worker(s, "b1")
		began := time.Now()
		held, waits, parks := b.submit(), b.submit(), b.submit()
		w.send(&pb.WorkUp{Credit: 1})
		if a := assigned(w); a.Job != held {
			t.Fatalf("%s was started, want %s", a.Job, held)
		}
		w.send(&pb.WorkUp{Draining: true})
		time.Sleep(time.Until(began.Add(30 * time.Minute)))
		young := b.submit()
		kill() // the next leader has no body of these jobs in memory
		s, _ = b.start("b", cfg)
		api := b.front(s)
		time.Sleep(time.Until(began.Add(time.Hour)))
		for _, id := range []string{waits, parks} {
			if j := b.look(s, id); j.State != string(job.Queued) {
				t.Errorf("at the limit %s is %s", id, j.State)
			}
		}
		api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 1, Id: parks, WaitMs: 60_000}}})
		asked := time.Now()
		if j := answer(api, 1).GetJob(); j.GetState() != string(job.Expired) || time.Since(asked) > slack || j.Body.GetCustomId() != "mine" {
			t.Errorf("after %s: %v", time.Since(asked), j)
		}
		b.want(s, "another that waited", waits, job.Expired, 0)
		b.want(s, "one whose lease was lost meanwhile", held, job.Expired, 1)
		b.want(s, "one of half an hour later", young, job.Queued, 0)
		time.Sleep(30*time.Minute + slack)
		b.want(s, "in its time", young, job.Expired, 0)
		if n := len(b.archive.ends); n != 4 {
			t.Errorf("%d ends are archived, want 4", n)
		}
	})
}

func TestLookupsWait(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		api := b.front(s)
		w, _ := b.worker(s, "b1")
		id := b.submit()
		asked := time.Now()
		after := func(call uint64, want time.Duration, state job.State) {
			t.Helper()
			j := answer(api, call).GetJob()
			if got := time.Since(asked); got != want || j.GetState() != string(state) {
				t.Errorf("call %d is answered after %s with %s, want %s with %s", call, got, j.GetState(), want, state)
			}
		}
		api.send(&pb.FrontUp{Lookups: []*pb.Lookup{
			{Call: 1, Id: id},
			{Call: 2, Id: id, WaitMs: 5_000},
			{Call: 3, Id: id, WaitMs: 60_000},
			{Call: 4, Id: id, WaitMs: 6_000},
		}})
		api.send(&pb.FrontUp{Forget: []uint64{4}})
		after(1, 0, job.Queued)
		after(2, 5*time.Second, job.Queued)
		time.Sleep(5 * time.Second)
		w.send(&pb.WorkUp{Credit: 1})
		w.send(done(assigned(w)))
		after(3, 10*time.Second, job.Succeeded)
		other := b.submit()
		asked = time.Now()
		api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 5, Id: other, WaitMs: 1 << 31}}})
		time.Sleep(maxLookupWait - time.Second) // await is not that patient
		after(5, maxLookupWait, job.Queued)
		for _, m := range api.seen {
			for _, a := range m.Answers {
				t.Errorf("an answer nobody waits for: %v", a)
			}
		}
	})
}

// A leader shows that it still leads, by an append, before it says of a job
// that it does not know it; within 700 ms of the last one it need not.
func TestFreshness(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		api := b.front(s)
		frames := func() int {
			synctest.Wait()
			b.streams.mu.Lock()
			defer b.streams.mu.Unlock()
			return len(b.streams.frames)
		}
		ask := func(call uint64, rest time.Duration) int {
			time.Sleep(rest)
			before := frames()
			api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: call, Id: "job_nobody"}}})
			if !answer(api, call).GetUnknown() {
				t.Error("a job that nobody submitted is known")
			}
			return frames() - before
		}
		ask(1, time.Second)
		if n := ask(2, freshFor-time.Millisecond); n != 0 {
			t.Errorf("%d frames were appended by a leader that was fresh", n)
		}
		if n := ask(3, time.Millisecond); n != 1 {
			t.Errorf("%d frames were appended by a leader that was not, want 1", n)
		}
		// A rival has appended: this leader may say nothing any more.
		time.Sleep(time.Second)
		frame := &pb.Frame{Epoch: 99}
		data, _, err := stream.Seal(0, frame)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.streams.Append(stream.Sealed{Seq: uint64(frames() + 1), Data: data}); err != nil {
			t.Fatal(err)
		}
		api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 4, Id: "job_nobody"}}})
		await(api, "not leader", func(m *pb.FrontDown) (bool, bool) { return true, m.NotLeader != nil })
		for _, m := range api.seen {
			if len(m.Answers) > 0 {
				t.Errorf("a deposed leader answered %v", m.Answers)
			}
		}
	})
}

// A standby waits while it hears the leader, and leads 1.0 to 1.5 s after it
// heard it last.
func TestStandbyLeadsAfterSilence(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		first, kill := b.start("a", alone())
		b.leading(first)
		second, _ := b.start("b", Config{})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if second.Leading() || !first.Leading() {
			t.Fatal("a standby led beside a leader that beats")
		}
		if got := len(b.streams.beats); got < 3000 || got > 3001 { // one each 200 ms
			t.Errorf("%d heartbeats in ten minutes", got)
		}
		kill()
		b.streams.mu.Lock()
		last := time.UnixMicro(b.streams.beats[len(b.streams.beats)-1].TimeUs)
		b.streams.mu.Unlock()
		b.leading(second)
		if silent := time.Since(last); silent < silence || silent > silence+silenceJitter+25*time.Millisecond {
			t.Errorf("it led after %s of silence", silent)
		}
	})
}

// An unfinished job keeps what it needs in both streams. Once it has ended, its
// record goes, and its frames when they are a minute old; the last never goes.
func TestPurgeKeepsAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		api := b.front(s)
		first := func() (record, frame uint64, frames int) {
			synctest.Wait()
			b.streams.mu.Lock()
			defer b.streams.mu.Unlock()
			return b.streams.jobsFirst, b.streams.frameFirst, len(b.streams.frames)
		}
		id := b.submit()
		time.Sleep(5 * time.Minute)
		_, _, accepted := first()
		if record, frame, _ := first(); record != 1 || frame > uint64(accepted) {
			t.Errorf("beside a job that waits the streams begin at %d and %d", record, frame)
		}
		api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: id, Account: "acc_acme"}}})
		answer(api, 1)
		_, _, ended := first()
		if ended != accepted+1 {
			t.Fatalf("the end is in frame %d, the acceptance in %d", ended, accepted)
		}
		time.Sleep(purgeMinAge - time.Second)
		if record, frame, _ := first(); record != 2 || frame > uint64(accepted) {
			t.Errorf("under a minute after its end the streams begin at %d and %d", record, frame)
		}
		for range 10 { // each look-up has the leader append an empty frame
			time.Sleep(purgeEvery)
			api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 2, Id: "job_nobody"}}})
			answer(api, 2)
		}
		if _, frame, frames := first(); frame <= uint64(accepted) || frame > uint64(frames) {
			t.Errorf("a while after its end the ledger begins at %d of %d", frame, frames)
		}
	})
}
