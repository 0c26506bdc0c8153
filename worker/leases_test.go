package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// stocked is the leases of a worker with n free seats on a fresh stream, with
// the leader's own pace.
func stocked(n int) (*leases, []*seat) {
	ls := newLeases()
	_, abort := times(&pb.Welcome{BeatMs: 2_000, LeaseMs: 12_000})
	ls.hello(time.Now())
	ls.welcomed(abort)
	var seats []*seat
	for range n {
		s := &seat{work: make(chan *lease, 1)}
		seats = append(seats, s)
		ls.free(s)
	}
	return ls, seats
}

// A page is aborted ten seconds after the sending of the last beat that was
// answered, not after its answer.
func TestAbortAfterUnansweredBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ls, seats := stocked(1)
		time.Sleep(time.Second)
		ls.assign(&pb.Assign{Token: 7}, time.Now())
		l := <-seats[0].work

		sent := time.Now()
		beat := ls.beat(sent)
		time.Sleep(3 * time.Second)
		ls.beat(time.Now()) // never answered
		ls.beaten(beat.Number, time.Now())

		<-l.ctx.Done()
		if got := time.Since(sent); got != 10*time.Second {
			t.Errorf("aborted %s after the answered beat was sent, want 10s", got)
		}
		if cause := context.Cause(l.ctx); cause != dropUnanswered {
			t.Errorf("cause %v, want %v", cause, dropUnanswered)
		}
		if ls.count() != 0 {
			t.Error("the lease is still held")
		}
	})
}

// Without any beat answered since, the assignment itself proves the lease no
// further than the last message that the leader had answered before it.
func TestAbortCountsFromBeforeTheAssignment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hello := time.Now()
		ls, seats := stocked(1)
		time.Sleep(4 * time.Second)
		ls.assign(&pb.Assign{Token: 7}, time.Now())
		l := <-seats[0].work
		<-l.ctx.Done()
		if got := time.Since(hello); got != 10*time.Second {
			t.Errorf("aborted %s after the hello, want 10s", got)
		}
	})
}

// While beats are answered, and across a change of leader in time, a page goes
// on; a report is kept however long the leader is away.
func TestNoAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ls, seats := stocked(2)
		ls.assign(&pb.Assign{Token: 7}, time.Now())
		ls.assign(&pb.Assign{Token: 8}, time.Now())
		page, reported := <-seats[0].work, <-seats[1].work
		ls.finish(reported, &report{done: &pb.Done{Token: 8}})
		for range 30 {
			time.Sleep(2 * time.Second)
			ls.beaten(ls.beat(time.Now()).Number, time.Now())
		}
		ls.lost()
		time.Sleep(9 * time.Second)
		if held := ls.hello(time.Now()); len(held) != 2 {
			t.Errorf("the hello lists %v, want both", held)
		}
		ls.welcomed(10 * time.Second)
		ls.beaten(ls.beat(time.Now()).Number, time.Now())
		time.Sleep(9 * time.Second)
		if page.ctx.Err() != nil {
			t.Errorf("aborted: %v", context.Cause(page.ctx))
		}
		time.Sleep(time.Minute)
		if page.ctx.Err() == nil {
			t.Error("not aborted a minute after the last beat")
		}
		if held := ls.hello(time.Now()); len(held) != 1 || held[0].Token != 8 {
			t.Errorf("the hello lists %v, want the reported one", held)
		}
	})
}

// Reports that nobody commits stop the credit at a bound.
func TestUncommittedReportsAreBounded(t *testing.T) {
	ls, seats := stocked(1)
	var rendered uint64
	for {
		up, _ := ls.pending()
		if up == nil || up.Credit == 0 {
			break
		}
		ls.wrote()
		rendered++
		ls.assign(&pb.Assign{Token: rendered}, time.Now())
		ls.finish(<-seats[0].work, &report{failed: &pb.Failed{Token: rendered}})
		ls.rest()
		ls.free(seats[0])
		if rendered > 2*maxReports {
			t.Fatal("no bound")
		}
	}
	if rendered != maxReports {
		t.Errorf("credit ended at %d uncommitted reports, want %d", rendered, maxReports)
	}
	ls.drop(1, dropStale)
	if up, _ := ls.pending(); up == nil || up.Credit != 1 {
		t.Errorf("after a commit %v, want credit", up)
	}
	for token := range rendered {
		ls.drop(token+1, dropStale)
	}
}

// Whatever happens in whatever order: the leader never has more credit than
// there are free seats, a seat has one lease, and every token that was assigned
// is held, or was reported, dropped or returned.
func TestLeasesKeepTheirInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ls, seats := stocked(3)
		var token uint64
		outside := map[*seat]*lease{} // leases that a seat works on
		credit := 0                   // as the leader counts it
		tokens := func() []uint64 {
			var held []uint64
			for token := range ls.held {
				held = append(held, token)
			}
			return held
		}
		take := func() {
			if up, _ := ls.pending(); up != nil {
				credit += int(up.Credit)
				ls.wrote()
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(*rapid.T) { take() },
			"assign": func(*rapid.T) {
				if credit > 0 {
					credit--
					token++
					ls.assign(&pb.Assign{Token: token}, time.Now())
					if ls.held[token] == nil && !ls.draining {
						t.Fatal("credit that was given is not honoured")
					}
				}
			},
			"assign unasked": func(*rapid.T) {
				if len(ls.idle) == 0 {
					token++
					ls.assign(&pb.Assign{Token: token}, time.Now())
					if ls.held[token] != nil || ls.returned[len(ls.returned)-1] != token {
						t.Fatal("not returned")
					}
				}
			},
			"drop": func(t *rapid.T) {
				if held := tokens(); len(held) > 0 {
					ls.drop(rapid.SampledFrom(held).Draw(t, "token"), dropStale)
				}
			},
			"finish": func(t *rapid.T) {
				s := rapid.SampledFrom(seats).Draw(t, "seat")
				if l := outside[s]; l != nil {
					ls.finish(l, &report{failed: &pb.Failed{Token: l.Token}})
					delete(outside, s)
					ls.rest()
					ls.free(s)
				}
			},
			"reconnect": func(*rapid.T) {
				ls.lost()
				ls.hello(time.Now())
				ls.welcomed(10 * time.Second)
				credit = 0
			},
			"": func(t *rapid.T) {
				for _, s := range seats {
					select {
					case l := <-s.work:
						if outside[s] != nil {
							t.Fatal("two leases on one seat")
						}
						outside[s] = l
					default:
					}
				}
				if credit != ls.offered || credit > len(ls.idle) {
					t.Fatalf("credit %d, counted %d, free %d", credit, ls.offered, len(ls.idle))
				}
				if ls.busy+len(ls.idle) != len(seats) || ls.busy != len(outside) {
					t.Fatalf("busy %d, free %d of %d seats, %d at work", ls.busy, len(ls.idle), len(seats), len(outside))
				}
			},
		})
		for _, token := range tokens() {
			ls.drop(token, dropStale)
		}
	})
}

func TestPauseEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBroken)
	if err := pause(ctx, 3, time.Hour, 2*time.Hour); !errors.Is(err, errBroken) {
		t.Errorf("pause: %v, want its context's cause", err)
	}
}

// The pause grows from least to most and is never outside of them.
func TestPauseBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for try := range 100 {
			begin := time.Now()
			if err := pause(t.Context(), try, retryMin, retryMax); err != nil {
				t.Fatal(err)
			}
			most := min(retryMax, retryMin+retryMin<<min(try, 10))
			if took := time.Since(begin); took < retryMin || took > most {
				t.Errorf("try %d paused %s, want %s to %s", try, took, retryMin, most)
			}
		}
	})
}
