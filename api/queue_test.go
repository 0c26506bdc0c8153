package api

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// busyFarm is what a leader may say.
func busyFarm() *pb.Queue {
	return &pb.Queue{Length: 8, Seats: 2, Tiers: []*pb.QueueTier{
		{Tier: 5, Jobs: &pb.Standing{Waiting: 3, Running: 2}, Counted: 3, Accepting: true, OldestMs: 1500, DrainPerS: 0.5},
		{Tier: 0, Jobs: &pb.Standing{Waiting: 5, Parked: 40, Retrying: 1}, Counted: 8, OldestMs: 61_000},
		{Tier: -1, Jobs: new(pb.Standing), Counted: 8},
	}}
}

func TestQueue(t *testing.T) {
	f := newFarm(t)
	f.leader.queue = busyFarm()
	f.submit(`{"html":"<p>"}`)
	other, otherKey := f.store.newAccount("other")
	got := f.do("GET", "/v1/queue", "")
	if got.Code != http.StatusOK {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	golden(t, "queue.json", append(got.Body.Bytes(), '\n'))

	var q Queue
	f.do("GET", "/v1/queue", "", header{"Authorization": "Bearer " + otherKey}).json(t, &q)
	if q.Account.Waiting != 0 {
		t.Errorf("%s is told of %d jobs that are not its own", other.ID, q.Account.Waiting)
	}
	f.do("GET", "/v1/queue?account="+f.acct.ID, "").problem(t, http.StatusBadRequest, "invalid_input")
	f.do("GET", "/v1/queue", "", header{"Authorization": ""}).problem(t, http.StatusUnauthorized, "missing_key")
}

// An account's threads are its plan's: a number, or the farm's seats.
func TestQueueThreads(t *testing.T) {
	f := newFarm(t, func(c *Config, _ *Deps) {
		c.Policy = account.DefaultPolicy()
		c.Policy.Plans[0].Threads, c.Policy.Plans[0].Tier = 7, 5
	})
	var q Queue
	if f.do("GET", "/v1/queue", "").json(t, &q); q.Account.Threads != 7 || q.Account.Tier != 5 {
		t.Errorf("%+v", q.Account)
	}
}

// A thousand who ask at once, of a hundred accounts, cost the leader no more
// than a question every queuePause.
func TestThousandPollers(t *testing.T) {
	f := newFarm(t)
	var keys []string
	for range 100 {
		_, key := f.store.newAccount("")
		keys = append(keys, key)
	}
	began := time.Now()
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			if a := f.do("GET", "/v1/queue", "", header{"Authorization": "Bearer " + keys[i%len(keys)]}); a.Code != http.StatusOK {
				t.Errorf("%d %s", a.Code, a.Body)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	f.leader.mu.Lock()
	defer f.leader.mu.Unlock()
	accounts := 0
	for _, q := range f.leader.asked {
		accounts += len(q.Accounts)
	}
	if n, most := len(f.leader.asked), 1+int(took/queuePause); n == 0 || n > most || accounts < len(keys) {
		t.Errorf("%d questions about %d accounts in %s, want at most %d about %d", n, accounts, took, most, len(keys))
	}
}

func TestQueueWithoutALeader(t *testing.T) {
	f := newLonelyFarm(t)
	a := f.do("GET", "/v1/queue", "")
	a.problem(t, http.StatusServiceUnavailable, "unavailable")
	if a.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestPressure(t *testing.T) {
	f := newFarm(t)
	ask := func(status int) (p Pressure) {
		t.Helper()
		a := f.do("GET", "/pressure", "", header{"Authorization": ""})
		if a.Code != status || (a.Header().Get("Retry-After") != "") != (status == http.StatusServiceUnavailable) {
			t.Fatalf("%d, Retry-After %q: %s", a.Code, a.Header().Get("Retry-After"), a.Body)
		}
		a.json(t, &p)
		return p
	}
	f.leader.mu.Lock()
	f.leader.queue = busyFarm()
	f.leader.mu.Unlock()
	if p := ask(http.StatusOK); !p.Available || p.Reason != nil || *p.Running != 2 || *p.Queued != 49 || *p.Seats != 2 {
		t.Errorf("%+v", p)
	}
	f.leader.mu.Lock()
	f.leader.queue.Tiers[0].Accepting = false
	f.leader.mu.Unlock()
	<-time.After(queueFresh)
	if p := ask(http.StatusServiceUnavailable); p.Available || *p.Reason != "queue_full" || *p.Queued != 49 {
		t.Errorf("%+v", p)
	}
	f.leader.mu.Lock()
	f.leader.queue.StorageFull = true
	f.leader.mu.Unlock()
	<-time.After(queueFresh)
	if p := ask(http.StatusServiceUnavailable); *p.Reason != "storage_full" {
		t.Errorf("%+v", p)
	}
	close(f.server.draining)
	if p := ask(http.StatusServiceUnavailable); *p.Reason != "draining" {
		t.Errorf("%+v", p)
	}
	f.server.draining = make(chan struct{}) // Run closes it, too
}

func TestPressureWithoutALeader(t *testing.T) {
	f := newLonelyFarm(t)
	a := f.do("GET", "/pressure", "")
	if a.Code != http.StatusServiceUnavailable || a.Header().Get("Retry-After") == "" {
		t.Errorf("%d, Retry-After %q", a.Code, a.Header().Get("Retry-After"))
	}
	if want := `{"available":false,"reason":"no_leader","running":null,"queued":null,"seats":null}`; a.Body.String() != want {
		t.Errorf("%s, want %s", a.Body, want)
	}
}
