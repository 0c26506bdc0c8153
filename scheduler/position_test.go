package scheduler

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// dispatchOrder starts all that waits, with nothing else coming and time
// standing still.
func dispatchOrder(b *bench) (order []*entry, said []int) {
	places := map[*entry]int{}
	for _, t := range b.board.tiers {
		for e := range t.queue.all() {
			places[e] = b.board.position(e, b.now)
		}
	}
	for e := b.startOn("boot"); e != nil; e = b.startOn("boot") {
		order, said = append(order, e), append(said, places[e])
	}
	return order, said
}

// Positions in queues of thousands of jobs: exact for the next lookAhead ones,
// for those that have waited for long and where only one order is possible, and
// near enough for the rest.
func TestDeepPositions(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 0))
		strict, tiers := seed == 1, 1+r.IntN(4)
		if seed == 0 {
			tiers = 1
		}
		b := newBench(t, Queue{Length: 1 << 20, Strict: strict}, nil)
		for i := range 3000 {
			b.submitTo(fmt.Sprint(i), int32(r.IntN(tiers)), "")
			b.now = b.now.Add(time.Duration(r.IntN(25)) * time.Millisecond) // the first have waited for half a minute
		}
		if seed > 3 {
			b.now = b.now.Add(40 * time.Second) // and now some of them for more than one
		}
		for range r.IntN(turnEvery) {
			b.startOn("boot")
		}
		now := b.now
		order, said := dispatchOrder(b)
		for i, e := range order {
			real, off := i+1, said[i]-(i+1)
			exact := strict || tiers == 1 || real <= lookAhead || e.waitedLong(now)
			if exact && off != 0 || max(off, -off)*10 > real {
				t.Fatalf("seed %d, %d tiers: job %d of %d to start, in tier %d, was told %d", seed, tiers, real, len(order), e.tier, said[i])
			}
		}
	}
}

// An estimate is told once the farm has shown how fast it is, and comes true
// where it goes on like that.
func TestStartIn(t *testing.T) {
	b := newBench(t, Queue{Length: 100}, map[string]int{"acme": 2})
	wait := func(e *entry) time.Duration {
		t.Helper()
		return b.board.startIn(e, b.board.position(e, b.now), b.now)
	}
	near := func(what string, got, want time.Duration) {
		t.Helper()
		if got < want-want/8 || got > want+want/8 {
			t.Errorf("%s: starts in %s, want about %s", what, got, want)
		}
	}
	// Two seats, two seconds a job: one every second.
	var seats []*entry
	run := func(jobs int) {
		for range jobs {
			b.now = b.now.Add(time.Second)
			if len(seats) == 2 {
				b.finish(seats[0], job.Succeeded)
				seats = seats[1:]
			}
			if e := b.start(); e != nil {
				seats = append(seats, e)
			}
		}
	}
	b.now = b.now.Add(time.Hour) // an idle farm is not a slow one
	var own, others []*entry
	for range 150 {
		own = append(own, b.submit("acme", 0))
	}
	for i := range 20 {
		others = append(others, b.submit(fmt.Sprint(i), 0))
	}
	for _, e := range []*entry{own[1], own[149], others[19]} {
		if got := wait(e); got != 0 {
			t.Errorf("before anything has started: starts in %s", got)
		}
	}
	run(12)
	last, p := others[19], b.board.position(others[19], b.now)
	near("the last in the queue", wait(last), time.Duration(p)*time.Second)
	for last.lease == nil {
		run(1)
		p--
	}
	if p < -1 || p > 1 {
		t.Errorf("it started %d seconds after it was to", -p)
	}
	// The queue holds acme's jobs alone, and its two slots pass one every second.
	run(70)
	p = b.board.position(own[149], b.now)
	if b.board.queued > 2 {
		t.Fatalf("%d jobs are in the queue", b.board.queued)
	}
	got := wait(own[149])
	for own[149].lease == nil {
		run(1)
		got -= time.Second
	}
	if got = max(got, -got); got > 10*time.Second {
		t.Errorf("acme's last, number %d, started %s off", p, got)
	}
}

func TestRoomIn(t *testing.T) {
	for _, countRunning := range []bool{false, true} {
		b := newBench(t, Queue{Length: 6, CountRunning: countRunning}, nil)
		n := 0
		flood := func() {
			t.Helper()
			for e, v := b.submitTo(fmt.Sprint(n), 3, ""); ; e, v = b.submitTo(fmt.Sprint(n), 3, "") {
				if n++; e == nil {
					if v != queueFull {
						t.Fatalf("verdict %d", v)
					}
					break
				}
			}
			b.check()
		}
		flood()
		if got := b.board.roomIn(3, b.now); got != waitUnknown {
			t.Errorf("with nothing measured: wait %s", got)
		}
		for range 10 {
			b.now = b.now.Add(4 * time.Second)
			e := b.start()
			b.now = b.now.Add(4 * time.Second)
			b.finish(e, job.Succeeded)
			flood()
		}
		if got := b.board.roomIn(3, b.now); got < 7*time.Second || got > 9*time.Second {
			t.Errorf("count running %t: wait %s, want about 8 s", countRunning, got)
		}
		b.now = b.now.Add(time.Hour)
		if got := b.board.roomIn(3, b.now); got != waitMost {
			t.Errorf("after an hour without a start: wait %s", got)
		}
	}
}

func TestPace(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	var p pace
	pass := func(d time.Duration) { now = now.Add(d) }
	want := func(when string, want float64) {
		t.Helper()
		if got := p.perSecond(now); got < want*0.999 || got > want*1.001 {
			t.Errorf("%s: %g a second, want %g", when, got, want)
		}
	}
	want("at first", 0)
	p.leave(now)
	p.turn(now, true)
	p.leave(now)
	p.leave(now)
	pass(2 * time.Second)
	want("when only those have left that did not wait", 0)
	p.leave(now)
	pass(2 * time.Second)
	want("when one has left", 0)
	p.leave(now)
	want("when two have", 0.5)
	p.turn(now, false)
	pass(4 * time.Minute)
	want("while nobody waits", 0.5)
	p.turn(now, true)
	pass(time.Second)
	p.leave(now)
	want("when somebody waits again", 0.6)
	for range 100 {
		pass(time.Second)
		p.leave(now)
		p.leave(now)
	}
	want("at another pace for long", 184.0/90)
	pass(1000 * time.Second)
	if got := p.perSecond(now); got > 0.2 {
		t.Errorf("when nothing leaves any more: %g a second", got)
	}
	p.turn(now, false)
	pass(paceKeep + time.Second)
	p.turn(now, true)
	want("long after", 0)
}

// BenchmarkPosition is what a look at one of many waiting jobs costs under the
// leader's lock.
func BenchmarkPosition(b *testing.B) {
	bench := newBench(b, Queue{Length: 1 << 20}, nil)
	var queuedLast, parkedLast *entry
	for i := range 100_000 {
		queuedLast, _ = bench.submitTo(fmt.Sprint(i), int32(i%3), "")
		parkedLast, _ = bench.submitTo("acme", 0, "")
	}
	b.Run("queued", func(b *testing.B) {
		for b.Loop() {
			bench.board.position(queuedLast, bench.now)
		}
	})
	b.Run("parked", func(b *testing.B) {
		for b.Loop() {
			bench.board.position(parkedLast, bench.now)
		}
	})
}

// What a client is told of jobs that wait: nothing about their start while
// there is no seat or no measure.
func TestTellsTheStart(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("one", Config{Alone: true})
		b.leading(s)
		var ids []string
		for range 8 {
			ids = append(ids, b.submit())
		}
		want := func(when, id, waitsFor string, place uint32, in time.Duration) {
			t.Helper()
			j := b.look(s, id)
			if j.WaitingFor != waitsFor || j.Position != place {
				t.Errorf("%s: waits for %q at %d, want %q at %d", when, j.WaitingFor, j.Position, waitsFor, place)
			}
			off := time.Duration(0)
			if j.EstimatedStartUs != 0 {
				off = time.Until(time.UnixMicro(j.EstimatedStartUs))
			}
			if off < in/2 || off > in*3/2 {
				t.Errorf("%s: starts in %s, want about %s", when, off, in)
			}
		}
		want("without a worker", ids[1], "worker", 2, 0)
		want("without a worker", ids[7], "slot", 6, 0)
		w, hang := b.worker(s, "boot")
		want("before the first start", ids[7], "slot", 6, 0)
		for range 4 { // one seat, four seconds a job
			w.send(&pb.WorkUp{Credit: 1})
			a := assigned(w)
			time.Sleep(4 * time.Second)
			w.send(done(a))
			committed(w, a.Token)
		}
		want("when four have ended", ids[4], "worker", 1, 4*time.Second)
		want("when four have ended", ids[7], "slot", 2, 16*time.Second)
		hang()
		want("when the worker has gone", ids[7], "slot", 2, 0)
	})
}
