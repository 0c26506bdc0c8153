package seeds

import (
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"
)

var page2images = seed{policy: "page2images", seats: 8, lines: []line{
	{"SEED-P2I-1", p2iCreate},
	{"SEED-P2I-2", p2iAvailable},
	{"SEED-P2I-3", p2iAnyCall},
	{"SEED-P2I-4", p2iLoads},
	{"SEED-P2I-5", p2iDownloads},
	{"SEED-P2I-7", p2iPayAsYouGo},
	{"SEED-P2I-8", p2iThreads},
	{"SEED-P2I-9", p2iQueue},
	{"SEED-P2I-10", p2iNext},
	{"SEED-P2I-11", p2iThroughput},
	{"SEED-P2I-12", p2iRenders},
	{"SEED-P2I-13", p2iCapacity},
}}

// Of 1,000 requests at once on 8 threads, 8 run and 992 wait; and so it stays
// as long as none ends.
func p2iThreads(t *testing.T, w *world) {
	const all, threads = 1000, 8
	c := w.on(t, "8-threads")
	parked := 0
	for range all {
		if c.submit("p2i-8", "hold=P2I-8").text("waiting_for") == "slot" {
			parked++
		}
	}
	w.wait(t, "P2I-8", threads)
	if parked != all-threads || w.renders("p2i-8.test") != threads {
		t.Errorf("%d wait and %d were begun, want %d and %d", parked, w.renders("p2i-8.test"), all-threads, threads)
	}
	queue := c.must(http.StatusOK, "GET", "/v1/queue", "")
	if got := fmt.Sprint(queue.at("account", "running"), queue.at("account", "parked")); got != fmt.Sprint(threads, all-threads) {
		t.Errorf("the queue shows %s running and waiting: %s", got, queue)
	}
	w.release("P2I-8")
	w.until(t, func() bool { return w.hosts["p2i-8.test"] == all && w.running["P2I-8"] == 0 }, func() string {
		return fmt.Sprintf("%d of %d were rendered", w.hosts["p2i-8.test"], all)
	})
	if most := w.most("P2I-8"); most != threads {
		t.Errorf("%d ran at the same time, want %d", most, threads)
	}
}

// Nothing is refused for being one too many: neither beyond the threads nor
// beyond what another seed's queue would hold. What bounds it is the disk.
func p2iQueue(t *testing.T, w *world) {
	for _, p := range w.policy.Plans {
		if p.OverThreads.Action != "park" || p.OverThreads.Backlog != math.MaxInt || p.Rate.Limited() {
			t.Errorf("plan %s refuses: %+v", p.Name, p)
		}
	}
	if w.policy.Queue.WaitLimit != 0 {
		t.Errorf("what waits expires after %s", w.policy.Queue.WaitLimit)
	}
	c := w.on(t, "1-thread")
	var ids []string
	for range 200 {
		ids = append(ids, c.submit("p2i-9", "hold=P2I-9").text("id"))
	}
	w.wait(t, "P2I-9", 1)
	last := c.must(http.StatusOK, "GET", "/v1/jobs/"+ids[len(ids)-1], "")
	if last.text("status") != "queued" || last.text("waiting_for") != "slot" {
		t.Errorf("the last of 200: %s", last)
	}
	w.release("P2I-9")
	for _, id := range ids {
		if r := c.ended(id); r.text("status") != "succeeded" {
			t.Errorf("%s", r)
		}
	}
}

// The end of one that runs starts the next one, without a request.
func p2iNext(t *testing.T, w *world) {
	c := w.on(t, "1-thread")
	first := c.submit("p2i-10", "hold=P2I-10 first").text("id")
	second := c.submit("p2i-10", "hold=P2I-10 second").text("id")
	third := c.submit("p2i-10", "hold=P2I-10 third").text("id")
	w.wait(t, "P2I-10 first", 1)
	if w.renders("p2i-10.test") != 1 {
		t.Errorf("%d were begun, want the first alone", w.renders("p2i-10.test"))
	}
	w.release("P2I-10 first")
	w.wait(t, "P2I-10 second", 1)
	c.cancel(second) // an end too
	w.wait(t, "P2I-10 third", 1)
	w.release("P2I-10 third")
	for id, want := range map[string]string{first: "succeeded", second: "canceled", third: "succeeded"} {
		if got := c.ended(id).text("status"); got != want {
			t.Errorf("%s is %s, want %s", id, got, want)
		}
	}
}

// Every row of the table is 16 s over the threads, to the digits that it has;
// the one that is not is the row of 8 threads. Each has its plan. How a farm
// comes up to it is measured: go run ./loadtest seeds.
func p2iThroughput(t *testing.T, w *world) {
	plans := map[int]bool{}
	for _, p := range w.policy.Plans {
		plans[p.Threads] = true
	}
	for _, row := range Throughput {
		threads := row.Threads
		if row.Misprint != 0 {
			threads = row.Misprint
			if off := Every(ShotTime, row.Threads) - row.Published; off.Abs() < time.Second {
				t.Errorf("%d threads: %s is no misprint", row.Threads, row.Published)
			}
		}
		if off := Every(ShotTime, threads) - row.Published; off.Abs() >= 10*time.Millisecond {
			t.Errorf("%d threads: 16 s / %d is %s, published are %s", row.Threads, threads, Every(ShotTime, threads), row.Published)
		}
		if !plans[threads] {
			t.Errorf("no plan has %d threads", threads)
		}
	}
}

// 1,000 million a month is 386 a second. What one machine takes of that is
// measured: go run ./loadtest seeds.
func p2iCapacity(t *testing.T, _ *world) {
	if got := math.Round(PerSecond(MonthlyClaim, 30)); got != 386 {
		t.Errorf("%d a month are %v a second", MonthlyClaim, got)
	}
}
