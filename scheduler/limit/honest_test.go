package limit

import (
	"container/heap"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tintype/tintype/pkg/account"
)

// What an API replica does for the leader, in its simplest form: a refusal is
// remembered until its end, and whoever comes meanwhile, and cannot have been on
// the way when the first refusal was answered, gets a strike.
const (
	answeredFor = 500 * time.Millisecond
	endSlack    = 100 * time.Millisecond
)

// episode is what a replica remembers.
type episode struct{ since, until time.Time }

// farm is a leader and some replicas, with one client.
type farm struct {
	book            *Book
	ladder          *Ladder
	replicas        []episode
	passed, strikes int
	steps           []account.Ban
}

func newFarm(rate account.Rate, replicas int) *farm {
	return &farm{book: NewBook(rate), ladder: NewLadder(), replicas: make([]episode, replicas)}
}

// request is answered at once with how long to wait; 0: it passed.
func (f *farm) request(now time.Time, at int) time.Duration {
	r := &f.replicas[at]
	if now.Before(r.until) {
		if now.Sub(r.since) > answeredFor && r.until.Sub(now) > endSlack {
			f.strikes++
			f.steps = append(f.steps, f.ladder.Strike(now, acme, 1)...)
		}
		return r.until.Sub(now)
	}
	if b, blocked := f.ladder.Blocked(now, acme.ID, "", ""); blocked {
		return max(b.Until.Sub(now), time.Hour)
	}
	b, cooling := f.ladder.Cooling(now, acme)
	wait := b.Until.Sub(now)
	if !cooling {
		receipt, left := f.book.Take(acme, now)
		if receipt != 0 {
			f.passed++
			return 0
		}
		wait = left.Wait
	}
	*r = episode{now, now.Add(max(wait, time.Second))}
	return r.until.Sub(now)
}

// client has many requests in flight. It is told a wait in whole seconds, by
// answers that take their time, and waits by a clock of its own.
type client struct {
	flight  int
	heeds   bool    // waits as long as it was told, from when it was
	clock   float64 // how fast its clock is
	latency func() time.Duration
	pause   func() time.Duration // between two of its own requests
	replica func() int
}

// event is something that happens on the way.
type event struct {
	at  time.Time
	run func(now time.Time)
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}

// play lets a client make so many requests of a farm.
func (c *client) play(f *farm, requests int) {
	var todo events
	push := func(at time.Time, run func(time.Time)) { heap.Push(&todo, event{at, run}) }
	inFlight := 0
	var notBefore time.Time // by the farm's clock
	var next func(now time.Time)
	send := func(now time.Time) {
		inFlight++
		requests--
		push(now.Add(c.latency()), func(now time.Time) {
			wait := f.request(now, c.replica())
			push(now.Add(c.latency()), func(now time.Time) {
				inFlight--
				if wait > 0 && c.heeds {
					told := (wait + time.Second - 1).Truncate(time.Second) // Retry-After
					until := now.Add(time.Duration(float64(told) * c.clock))
					if until.After(notBefore) {
						notBefore = until
					}
				}
				next(now)
			})
		})
	}
	next = func(now time.Time) {
		switch {
		case requests <= 0 || inFlight >= c.flight:
		case now.Before(notBefore):
			push(notBefore, next)
		default:
			send(now)
			push(now.Add(c.pause()), next)
		}
	}
	push(start, next)
	for len(todo) > 0 {
		e := heap.Pop(&todo).(event)
		e.run(e.at)
	}
}

// SEED-WEBSHOT-14: whoever waits for as long as every Retry-After said never
// gets a strike, and so never leaves the ladder's first step, with any number of
// requests in flight, any number of replicas, slow answers and a clock that is
// off by a thousandth.
func TestWhoeverWaitsIsNeverStruck(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := drawRate(t)
		f := newFarm(rate, rapid.IntRange(1, 3).Draw(t, "replicas"))
		random := rapid.Int64Range(0, 1<<30)
		upTo := func(most time.Duration, label string) func() time.Duration {
			return func() time.Duration { return time.Duration(random.Draw(t, label)) * most >> 30 }
		}
		c := &client{
			flight: rapid.IntRange(1, 50).Draw(t, "in flight"), heeds: true,
			clock:   1 + float64(rapid.IntRange(-1000, 1000).Draw(t, "ppm"))/1e6,
			latency: upTo(240*time.Millisecond, "latency"), pause: upTo(300*time.Millisecond, "pause"),
			replica: func() int { return rapid.IntRange(0, len(f.replicas)-1).Draw(t, "replica") },
		}
		c.play(f, 150)
		if f.strikes > 0 || len(f.steps) > 0 {
			t.Fatalf("%d strikes, %v", f.strikes, stepsOf(f.steps))
		}
	})
}

// The same client that does not wait climbs to the top.
func TestWhoeverDoesNotWaitIsBanned(t *testing.T) {
	f := newFarm(windowOf(5, time.Minute), 2)
	turn := 0
	c := &client{
		flight: 1, clock: 1,
		latency: func() time.Duration { return 100 * time.Millisecond }, pause: func() time.Duration { return 100 * time.Millisecond },
		replica: func() int { turn++; return turn % 2 },
	}
	c.play(f, 60_000)
	got := stepsOf(f.steps)
	want := []string{"cooling", "cooling", "cooling", "blocked", "cooling", "cooling", "cooling", "blocked", "cooling", "cooling", "cooling", "banned"}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if string(f.steps[i].Step) != want[i] {
			t.Errorf("step %d is %s, want %s", i, got[i], want[i])
		}
	}
}
