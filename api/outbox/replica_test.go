package outbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/webhook"
)

func (f *farm) ended(n int, account string) []*job.Job {
	jobs := make([]*job.Job, n)
	for i := range jobs {
		jobs[i] = failed(account)
	}
	return jobs
}

// lanesHeld are those that somebody holds.
func (f *farm) lanesHeld() (n int) {
	f.Helper()
	if err := f.conn.QueryRow(f.Context(), `SELECT count(*) FROM delivery_lanes WHERE holder IS NOT NULL`).Scan(&n); err != nil {
		f.Fatal(err)
	}
	return n
}

// Receivers that hang, with long backlogs, and as many of the account as of
// another: the healthy ones of both get everything meanwhile.
func TestHangingLanesDelayNobody(t *testing.T) {
	f := newFarm(t)
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	hanging := f.receives(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-over:
		}
	})
	healthy := f.receives(ok)
	for i := range 60 {
		f.exec(`INSERT INTO webhook_endpoints (id, account, url, events, secret) VALUES ($1, 'acc_a', $2, $3, $4)`,
			fmt.Sprintf("we_hangs_%02d", i), hanging.url, []webhook.Type{webhook.JobFailed}, []byte(secretText))
	}
	f.ends(f.ended(100, "acc_a")...) // 6,000 messages that will not arrive, first in line
	f.sends("one")
	for range 60 {
		f.next(hanging) // all of them hang
	}
	f.exec(`INSERT INTO webhook_endpoints (id, account, url, events, secret) VALUES ('we_same', 'acc_a', $1, $2, $3)`, healthy.url, []webhook.Type{webhook.JobFailed}, []byte(secretText))
	f.endpoint("we_b", healthy.url)
	f.ends(append(f.ended(20, "acc_a"), f.ended(20, "acc_b")...)...)
	for range 40 {
		f.next(healthy)
	}
	var attempts int
	if err := f.conn.QueryRow(t.Context(), `SELECT count(*) FROM delivery_attempts a JOIN deliveries d ON d.id = a.delivery WHERE d.endpoint LIKE 'we_hangs%'`).Scan(&attempts); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d attempts of those that hang were over by then", attempts)
}

// Two replicas send each message once, between them; what a dead one held is
// sent by the other when its lease is over.
func TestReplicas(t *testing.T) {
	f := newFarm(t)
	r := f.receives(ok)
	for i := range 20 {
		f.exec(`INSERT INTO webhook_endpoints (id, account, url, events, secret) VALUES ($1, 'acc_a', $2, $3, $4)`,
			fmt.Sprintf("we_%02d", i), r.url, []webhook.Type{webhook.JobFailed}, []byte(secretText))
	}
	f.ends(f.ended(10, "acc_a")...)
	// One that claims everything and dies.
	bouts, err := f.store.ClaimLanes(t.Context(), "dead", lease, []webhook.Want{{Standing: webhook.New, Lanes: 100, PerAccount: 100, Deliveries: 10}})
	if err != nil || len(bouts) != 20 {
		t.Fatalf("%d lanes, %v", len(bouts), err)
	}
	f.sends("one")
	f.sends("two")
	f.endpoint("we_b", r.url)
	f.ends(failed("acc_b"))
	if m := f.verify(f.next(r)); m.Data.Job == nil {
		t.Errorf("%+v", m)
	}
	f.delivered("acc_b")
	if n := f.lanesHeld(); n != 20 || len(r.hits) > 0 {
		t.Fatalf("%d lanes are held and %d messages came: a lease was not kept", n, len(r.hits))
	}
	f.exec(`UPDATE delivery_lanes SET wake_at = now() WHERE holder = 'dead'`) // its lease ends
	seen := map[string]int{}
	for range 200 {
		seen[f.next(r).header.Get("webhook-id")]++
	}
	if len(seen) != 200 {
		t.Errorf("%d messages in 200 requests", len(seen))
	}
}

// A replica that is told to go finishes what is on its way, starts nothing, and
// gives back its lanes; one that is told to go at once breaks off, and what it
// broke off was no attempt.
func TestDrain(t *testing.T) {
	for _, gently := range []bool{true, false} {
		f := newFarm(t)
		answer := make(chan struct{})
		r := f.receives(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-answer:
			case <-r.Context().Done():
			}
		})
		f.endpoint("we_a", r.url)
		f.ends(f.ended(3, "acc_a")...)
		stop, cut := f.sends("one")
		f.next(r)
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			if gently {
				stop()
			} else {
				cut()
			}
		}()
		if gently {
			for f.looking() { // it has heard that it is to stop: nothing listens any more
				<-time.After(time.Millisecond)
			}
			close(answer)
		}
		<-stopped
		if n := f.lanesHeld(); n != 0 {
			t.Errorf("gently %t: %d lanes are held by who is gone", gently, n)
		}
		var attempts, delivered int
		if err := f.conn.QueryRow(t.Context(), `SELECT sum(attempts), count(*) FILTER (WHERE state = 'delivered') FROM deliveries`).Scan(&attempts, &delivered); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{true: 1, false: 0}[gently]; attempts != want || delivered != want || len(r.hits) != 0 {
			t.Errorf("gently %t: %d attempts, %d delivered, %d more requests", gently, attempts, delivered, len(r.hits))
		}
		if !gently {
			close(answer)
		}
		f.sends("two") // which finds the rest at once
		for range 3 - delivered {
			f.next(r)
		}
	}
}

// looking reports a sender that listens to the outbox.
func (f *farm) looking() (yes bool) {
	f.Helper()
	if err := f.conn.QueryRow(f.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%')`).Scan(&yes); err != nil {
		f.Fatal(err)
	}
	return yes
}

// faulty is an archive that fails, or fails after it has done what it was asked.
type faulty struct {
	plain
	settles *atomic.Int64
	took    bool
}

func (s faulty) Settle(ctx context.Context, holder string, outcomes []webhook.Outcome, released []webhook.Release) ([]webhook.Disabled, bool, error) {
	if n := s.settles.Add(1); n != 1 && n != 3 {
		return s.plain.Settle(ctx, holder, outcomes, released)
	}
	if s.took {
		if _, _, err := s.plain.Settle(ctx, holder, outcomes, released); err != nil {
			return nil, false, err
		}
	}
	return nil, false, errors.New("the connection was lost")
}

// An archive that fails now and then: every message arrives, and
// each attempt is in the log once.
func TestArchiveFails(t *testing.T) {
	for _, took := range []bool{false, true} {
		f := newFarm(t)
		r := f.receives(ok)
		f.endpoint("we_a", r.url)
		f.ends(f.ended(5, "acc_a")...)
		f.sends("one", faulty{plain{f.store}, new(atomic.Int64), took})
		for range 5 {
			f.next(r)
		}
		for {
			var attempts, delivered int
			if err := f.conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM delivery_attempts), count(*) FILTER (WHERE state = 'delivered' AND attempts = 1) FROM deliveries`).Scan(&attempts, &delivered); err != nil {
				t.Fatal(err)
			}
			if attempts > 5 {
				t.Fatalf("took effect %t: %d attempts are in the log of 5", took, attempts)
			}
			if delivered == 5 && f.lanesHeld() == 0 {
				break
			}
			<-time.After(10 * time.Millisecond)
		}
	}
}
