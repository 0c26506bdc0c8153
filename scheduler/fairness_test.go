package scheduler

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/pkg/job"
)

// fillQueue puts one job of an account of its own into each of these tiers,
// the lowest tier first, as any queue of them can have come about.
func fillQueue(b *bench, tiers string) {
	digits := []byte(tiers)
	slices.Sort(digits)
	for i, d := range digits {
		if e, v := b.submitTo(fmt.Sprint("filler", i), int32(d-'0'), ""); e == nil {
			b.t.Fatalf("queue %s cannot come about: verdict %d at %c", tiers, v, d)
		}
	}
	b.check()
}

// The published table of a service with priority 0, 2, 5 and 6 and a queue of
// eight: what stands in the queue, and who may still come in.
func TestPriorityTable(t *testing.T) {
	for _, row := range []struct{ queue, accepted string }{
		{"", "0256"},
		{"6520000", "0256"},
		{"66652220", "256"},
		{"66652222", "56"},
		{"66666655", "6"},
		{"66666666", ""},
	} {
		b := newBench(t, Queue{Length: 8}, nil)
		fillQueue(b, row.queue)
		got := ""
		for _, d := range "0256" {
			switch v := b.board.judge("stranger", "", "", d-'0', roomy); v {
			case mayQueue:
				got += string(d)
			case queueFull:
			default:
				t.Errorf("queue %s, priority %c: verdict %d", row.queue, d, v)
			}
		}
		if got != row.accepted {
			t.Errorf("queue %s accepts %q, want %q", row.queue, got, row.accepted)
		}
	}
}

// Every queue that can come about with L up to 8, and every priority: accepted
// when the jobs of that priority and above, counted one by one, are fewer than
// L. Nothing is ever evicted for it.
func TestEveryQueue(t *testing.T) {
	tiers := []int32{0, 2, 5, 6}
	for length := 1; length <= 8; length++ {
		b := newBench(t, Queue{Length: length}, nil)
		var queue []int32 // what stands in it
		seen := 0
		var walk func(from int)
		walk = func(from int) {
			seen++
			for _, p := range tiers {
				above := 0
				for _, q := range queue {
					if q >= p {
						above++
					}
				}
				want := queueFull
				if above < length {
					want = mayQueue
				}
				if got := b.board.judge("stranger", "", "", p, roomy); got != want {
					t.Fatalf("L %d, queue %v, priority %d: verdict %d, want %d", length, queue, p, got, want)
				}
			}
			for i := from; i < len(tiers); i++ {
				e, v := b.submitTo(fmt.Sprint("account", len(queue)), tiers[i], "")
				if v == queueFull {
					continue
				}
				queue = append(queue, tiers[i])
				walk(i)
				queue = queue[:len(queue)-1]
				b.end(e, job.Canceled)
			}
		}
		walk(0)
		b.check()
		// Each priority may be there 0 to L times.
		if all := (length + 1) * (length + 1) * (length + 1) * (length + 1); seen != all {
			t.Errorf("L %d: %d queues were looked at, there are %d", length, seen, all)
		}
	}
}

// The same with running jobs among those that count, and among those that do
// not: each priority has jobs that wait and jobs that run.
func TestEveryQueueWithRunningJobs(t *testing.T) {
	for _, counted := range []bool{false, true} {
		for length := 1; length <= 8; length++ {
			// The lower tier's jobs come first: a higher one would be started before them.
			for lowRun := range length + 1 {
				for highRun := range length + 1 {
					for high := range length + 1 {
						b := newBench(t, Queue{Length: length, CountRunning: counted, Strict: true}, nil)
						add := func(tier int32, n int, run bool) (added int) {
							for range n {
								if e, _ := b.submitTo(fmt.Sprint("account", b.made), tier, ""); e == nil {
									break
								} else if added++; run && b.startOn("w") != e {
									t.Fatalf("not the job of tier %d was started", tier)
								}
							}
							return added
						}
						runLow, runHigh, waitHigh := add(0, lowRun, true), add(5, highRun, true), add(5, high, false)
						aboveHigh, aboveLow := waitHigh, waitHigh
						if counted {
							aboveHigh, aboveLow = waitHigh+runHigh, waitHigh+runHigh+runLow
						}
						for p, above := range map[int32]int{5: aboveHigh, 0: aboveLow} {
							if got := b.board.judge("stranger", "", "", p, roomy); (got == mayQueue) != (above < length) {
								t.Fatalf("L %d, %d+%d run, %d wait, counted %t, priority %d: verdict %d", length, runLow, runHigh, waitHigh, counted, p, got)
							}
						}
						b.check()
					}
				}
			}
		}
	}
}

// work gives seats to whatever is next and ends jobs in the order in which
// they started, until nothing waits. It returns the accounts as they started.
func work(b *bench, seats int, each func()) []string {
	var started []string
	var held []*entry
	for {
		for len(held) < seats {
			e := b.startOn("w")
			if e == nil {
				break
			}
			held, started = append(held, e), append(started, e.account)
		}
		if len(held) == 0 {
			return started
		}
		b.end(held[0], job.Succeeded)
		held = held[1:]
		each()
	}
}

// I12: one account with one thread has 10,000 jobs; a hundred others have one
// each and come later. They start as if the many were not there.
func TestManyJobsOfOneAccountDelayNobody(t *testing.T) {
	starts := func(many int) []string {
		b := newBench(t, Queue{Length: 10_000}, nil)
		for range many {
			b.submitTo("many", 0, "")
		}
		for i := range 100 {
			if _, v := b.submitTo(fmt.Sprint("small", i), 0, ""); v != mayQueue {
				t.Fatalf("beside %d jobs, small account %d got verdict %d", many, i, v)
			}
		}
		b.check()
		ends := 0
		all := work(b, 4, func() {
			if ends++; ends%500 == 0 {
				b.check()
			}
		})
		if len(all) != many+100 {
			t.Fatalf("%d jobs started, want %d", len(all), many+100)
		}
		return all
	}
	none, one, many := starts(0), starts(1), starts(10_000)
	if diff := cmp.Diff(one, many[:len(one)]); diff != "" {
		t.Errorf("10,000 jobs take more than one (-one +10,000):\n%s", diff)
	}
	for i, account := range none {
		if at := slices.Index(many, account); at > i+1 { // the many have one thread
			t.Errorf("%s started as number %d, alone as number %d", account, at, i)
		}
	}
}

// overload submits ten jobs of the top tier for every one that starts, each
// of another account, for a number of starts. The bottom tier's jobs come
// first, or after the top tier is full. It returns how many of them started.
func overload(t *testing.T, queue Queue, bottom, starts int, every time.Duration) int {
	b := newBench(t, queue, nil)
	for i := range bottom {
		if _, v := b.submitTo(fmt.Sprint("bottom", i), -1, ""); v != mayQueue {
			t.Fatalf("bottom job %d: verdict %d", i, v)
		}
	}
	moved, refused := 0, 0
	for n := range starts {
		for i := range 10 {
			if _, v := b.submitTo(fmt.Sprint("top", n, "-", i), 9, ""); v == queueFull {
				refused++
			}
		}
		b.now = b.now.Add(every)
		e := b.startOn("w")
		if e.tier < 0 {
			moved++
		}
		b.end(e, job.Succeeded)
	}
	b.check()
	if queue.Length < starts && refused == 0 {
		t.Error("a tier with ten times the load that it can take refused nothing")
	}
	if ahead := b.board.ahead(9); ahead > queue.Length {
		t.Errorf("%d jobs of the top tier wait, the bound is %d", ahead, queue.Length)
	}
	return moved
}

// I11: whatever comes in above, the bottom tier moves; unless that is what the
// operator wants.
func TestBottomTierMoves(t *testing.T) {
	const bottom, starts = 20, 640
	if got := overload(t, Queue{Length: 100}, bottom, starts, 0); got != bottom {
		t.Errorf("%d of %d jobs of the bottom tier started in %d dispatches", got, bottom, starts)
	}
	if got, want := overload(t, Queue{Length: 100}, bottom, 10*turnEvery, 0), 10; got != want {
		t.Errorf("in %d dispatches %d jobs of the bottom tier started, want %d", 10*turnEvery, got, want)
	}
	if got := overload(t, Queue{Length: 100, Strict: true}, bottom, starts, 0); got != 0 {
		t.Errorf("in a strict queue %d jobs of the bottom tier started before the top tier was empty", got)
	}
}

// A minute is the longest that a seat passes over a job; with seats this rare,
// the turn of every 16th would take eight.
func TestAMinuteIsLongEnough(t *testing.T) {
	if got := overload(t, Queue{Length: 100}, 3, 6, 30*time.Second); got != 3 {
		t.Errorf("%d of 3 jobs of the bottom tier started within three minutes", got)
	}
	if got := overload(t, Queue{Length: 100}, 3, 2, 30*time.Second); got != 0 {
		t.Errorf("%d jobs of the bottom tier went before the top tier within the minute", got)
	}
	if got := overload(t, Queue{Length: 100, Strict: true}, 3, 6, 30*time.Second); got != 0 {
		t.Errorf("in a strict queue %d jobs of the bottom tier started", got)
	}
}
