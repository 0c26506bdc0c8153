package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
	"github.com/tintype/tintype/pkg/webhook"
)

// lanes is an outbox to claim from.
type lanes struct {
	*testing.T
	*store.Store
	conn *pgx.Conn
	seq  uint64
}

func newLanes(t *testing.T) *lanes {
	url := storetest.URL(t)
	return &lanes{T: t, Store: storetest.Connect(t, url), conn: direct(t, url)}
}

// tell ends a job of an account for each of the URLs.
func (l *lanes) tell(account string, urls ...string) {
	l.Helper()
	var filing store.Filing
	for _, u := range urls {
		e := succeeded(job.NewID(), time.Now().UTC())
		e.Job.Account, e.Job.Webhook = account, &job.Webhook{URL: u}
		filing.Ends = append(filing.Ends, e)
	}
	l.seq++
	project(l.T, l.Store, l.seq, filing)
}

func want(s webhook.Standing) webhook.Want {
	return webhook.Want{Standing: s, Lanes: 10, PerAccount: 10, Deliveries: 4}
}

func (l *lanes) claim(holder string, wants ...webhook.Want) []webhook.Bout {
	l.Helper()
	got, err := l.ClaimLanes(l.Context(), holder, time.Minute, wants)
	if err != nil {
		l.Fatal(err)
	}
	slices.SortFunc(got, func(a, b webhook.Bout) int { return strings.Compare(a.Lane, b.Lane) })
	return got
}

func (l *lanes) claims(holder string, w webhook.Want, want ...string) []webhook.Bout {
	l.Helper()
	got := l.claim(holder, w)
	var names []string
	for _, b := range got {
		names = append(names, fmt.Sprintf("%s ×%d", b.Lane, len(b.Deliveries)))
	}
	if !slices.Equal(names, want) {
		l.Errorf("claimed %q, want %q", names, want)
	}
	return got
}

// came is what an answer makes of a delivery.
func came(d webhook.Delivery, a webhook.Answer) webhook.Outcome {
	at := time.Now().UTC().Truncate(time.Microsecond)
	return webhook.Outcome{
		Delivery: d.ID, Endpoint: d.Endpoint, Answer: a, Verdict: webhook.Next(d.Tries+1, at, a), Body: "{}",
		Attempt: webhook.Attempt{At: at, Status: a.Status, Answer: "answered"},
	}
}

func (l *lanes) settle(holder string, outcomes []webhook.Outcome, released ...webhook.Release) ([]webhook.Disabled, bool) {
	l.Helper()
	off, due, err := l.Settle(l.Context(), holder, outcomes, released)
	if err != nil {
		l.Fatal(err)
	}
	return off, due
}

func (l *lanes) delivery(id string) (webhook.Delivery, []webhook.Attempt) {
	l.Helper()
	d, err := l.Delivery(l.Context(), "acc_acme", id)
	if err != nil {
		l.Fatal(err)
	}
	return d, d.Log
}

// A lane is one sender's at a time, comes with what is due and what that is
// about, and is another's when its lease is over or it was given back.
func TestLaneIsHeldByOne(t *testing.T) {
	l := newLanes(t)
	l.tell("acc_acme", "https://a.example/1", "https://a.example/2", "https://b.example/")
	got := l.claims("one", want(webhook.New), "acc_acme https://a.example ×2", "acc_acme https://b.example ×1")
	for _, b := range got {
		for _, d := range b.Deliveries {
			if j := b.Jobs[job.ID(d.Subject)]; j == nil || string(j.ID) != d.Subject || b.Account != "acc_acme" {
				t.Errorf("%+v is about %+v", d, j)
			}
		}
	}
	l.claims("two", want(webhook.New))
	l.tell("acc_acme", "https://a.example/3") // which does not free it
	l.claims("two", want(webhook.New))
	first := got[0].Deliveries
	_, due := l.settle("one", []webhook.Outcome{came(first[0], webhook.Answer{Status: 200}), came(first[1], webhook.Answer{Status: 200})},
		webhook.Release{Lane: got[0].Lane, Health: webhook.Health{Standing: webhook.Proven}})
	if !due {
		t.Error("what was told meanwhile is not due")
	}
	l.claims("two", want(webhook.New))
	l.claims("two", want(webhook.Proven), "acc_acme https://a.example ×1")
	exec(t, l.conn, `UPDATE delivery_lanes SET wake_at = now() WHERE holder = 'one'`) // its lease ends
	l.claims("two", want(webhook.New), "acc_acme https://b.example ×1")
	// The one that was taken for dead gives back what is not its own, and tells what it heard.
	late := got[1].Deliveries[0]
	if _, due := l.settle("one", []webhook.Outcome{came(late, webhook.Answer{Status: 200})}, webhook.Release{Lane: got[1].Lane, Health: got[1].Health}); due {
		t.Error("a lane was given back by who does not hold it")
	}
	if d, attempts := l.delivery(late.ID); d.State != webhook.Delivered || len(attempts) != 1 {
		t.Errorf("%+v %+v", d, attempts)
	}
	again := came(late, webhook.Answer{Status: 500})
	l.settle("two", []webhook.Outcome{again}, webhook.Release{Lane: got[1].Lane, Health: got[1].Health})
	l.settle("two", []webhook.Outcome{again}) // as after a commit that was not heard
	if d, attempts := l.delivery(late.ID); d.State != webhook.Delivered || d.Attempts != 2 || len(attempts) != 2 || attempts[1].Status != 500 {
		t.Errorf("%+v %+v", d, attempts)
	}
}

// Neither an account's many lanes nor one's long backlog fill a claim.
func TestClaimIsShared(t *testing.T) {
	l := newLanes(t)
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("https://h%02d.example/", i))
	}
	l.tell("acc_acme", many...)
	l.tell("acc_acme", slices.Repeat([]string{"https://h00.example/more"}, 20)...)
	l.tell("acc_other", "https://o.example/")
	w := webhook.Want{Standing: webhook.New, Lanes: 8, PerAccount: 6, Deliveries: 4}
	held := l.claim("one", w)
	if len(held) != 6 { // as many as its account may hold; the other's are behind all of its lanes
		t.Fatalf("claimed %d lanes", len(held))
	}
	for _, b := range held {
		if len(b.Deliveries) > w.Deliveries || b.Account != "acc_acme" {
			t.Errorf("%s: %d deliveries", b.Lane, len(b.Deliveries))
		}
	}
	w.Held = map[string]int{"acc_acme": 6}
	l.claims("one", w, "acc_other https://o.example ×1")
	w.Held = map[string]int{"acc_acme": 5, "acc_other": 1}
	if got := l.claim("one", w); len(got) != 1 || got[0].Account != "acc_acme" {
		t.Errorf("claimed %+v", got)
	}
}

// A lane is claimed by those who have room for its standing, whichever it is.
func TestEachStandingIsClaimed(t *testing.T) {
	l := newLanes(t)
	l.tell("acc_acme", "https://a.example/")
	now := webhook.New
	for _, next := range webhook.Standings {
		for _, s := range webhook.Standings {
			if s != now {
				l.claims("one", want(s))
			}
		}
		b := l.claims("one", want(now), "acc_acme https://a.example ×1")[0]
		l.settle("one", nil, webhook.Release{Lane: b.Lane, Health: webhook.Health{Standing: next}})
		now = next
	}
}

// What fails waits, without standing in front of what works, until its time or
// until somebody moves next_at.
func TestFailingLane(t *testing.T) {
	l := newLanes(t)
	l.tell("acc_acme", "https://a.example/1", "https://a.example/2")
	b := l.claim("one", want(webhook.New))[0]
	h := b.Health
	var outcomes []webhook.Outcome
	for _, d := range b.Deliveries {
		h = h.After(webhook.Answer{}, time.Now())
		outcomes = append(outcomes, came(d, webhook.Answer{}))
	}
	h.Open = time.Hour
	if _, due := l.settle("one", outcomes, webhook.Release{Lane: b.Lane, Health: h}); due {
		t.Error("it is due at once")
	}
	id := b.Deliveries[0].ID
	d, attempts := l.delivery(id)
	if wait := time.Until(d.NextAt); d.State != webhook.Pending || d.Attempts != 1 || wait < 55*time.Minute || attempts[0].Answer != "answered" || attempts[0].Status != 0 {
		t.Errorf("next at %s: %+v %+v", d.NextAt, d, attempts)
	}
	l.tell("acc_acme", "https://a.example/3") // which does not open it
	if _, _, err := l.TendLanes(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.claims("one", want(webhook.Failing))
	exec(t, l.conn, `UPDATE delivery_lanes SET open_until = NULL`)
	exec(t, l.conn, `UPDATE deliveries SET next_at = now() - interval '1 hour'`)
	if due, failing, err := l.TendLanes(t.Context()); err != nil || due != 3 || failing != 3 {
		t.Errorf("%d due, %d of failing lanes, %v", due, failing, err)
	}
	got := l.claims("one", want(webhook.Failing), "acc_acme https://a.example ×3")
	if got[0].Health.Failures != 2 {
		t.Errorf("%+v", got[0].Health)
	}
	// A replay does not wait for the breaker.
	l.settle("one", nil, webhook.Release{Lane: b.Lane, Health: webhook.Health{Standing: webhook.Failing, Failures: 9, Open: time.Hour}})
	if _, err := l.Replay(t.Context(), "acc_acme", id); err != nil {
		t.Fatal(err)
	}
	l.claims("one", want(webhook.Failing), "acc_acme https://a.example ×3")
	if _, err := l.Replay(t.Context(), "acc_other", id); err == nil {
		t.Error("another account replays a delivery")
	}
}

// A sender whose lease ended while the archive was away sends a message again,
// and what came of both is settled at once: each is an attempt of its own.
func TestTwoOutcomesOfOneDelivery(t *testing.T) {
	l := newLanes(t)
	l.tell("acc_acme", "https://a.example/1", "https://a.example/2")
	b := l.claim("one", want(webhook.New))[0]
	first, second := b.Deliveries[0], b.Deliveries[1]
	late, again := came(first, webhook.Answer{Status: 500}), came(first, webhook.Answer{Status: 200})
	late.Attempt.At = again.Attempt.At.Add(-time.Minute)
	outcomes := []webhook.Outcome{late, came(second, webhook.Answer{Status: 200}), again}
	for range 2 { // the second time changes nothing
		l.settle("one", outcomes, webhook.Release{Lane: b.Lane, Health: webhook.Health{Standing: webhook.Proven}})
	}
	if d, attempts := l.delivery(first.ID); d.State != webhook.Delivered || d.Attempts != 2 || len(attempts) != 2 || attempts[0].Status != 500 || attempts[1].Status != 200 {
		t.Errorf("%+v %+v", d, attempts)
	}
	if d, attempts := l.delivery(second.ID); d.State != webhook.Delivered || len(attempts) != 1 {
		t.Errorf("%+v %+v", d, attempts)
	}
}

// A delivery and its log are read as they were at one moment, whatever comes in
// between.
func TestDeliveryIsOfOneMoment(t *testing.T) {
	l := newLanes(t)
	urls := make([]string, 60)
	for i := range urls {
		urls[i] = fmt.Sprintf("https://a.example/%d", i)
	}
	l.tell("acc_acme", urls...)
	all := want(webhook.New)
	all.Deliveries = len(urls)
	b := l.claim("one", all)[0]
	if len(b.Deliveries) != len(urls) {
		t.Fatalf("%d of %d were claimed", len(b.Deliveries), len(urls))
	}
	settled := make(chan error, 1)
	go func() {
		for _, d := range b.Deliveries {
			if _, _, err := l.Settle(t.Context(), "one", []webhook.Outcome{came(d, webhook.Answer{Status: 200})}, nil); err != nil {
				settled <- err
				return
			}
		}
		settled <- nil
	}()
	last := b.Deliveries[len(b.Deliveries)-1].ID
	for ended := false; !ended; {
		select {
		case err := <-settled:
			if err != nil {
				t.Fatal(err)
			}
			ended = true
		default:
		}
		list, err := l.Deliveries(t.Context(), "acc_acme", webhook.Filter{}, webhook.Place{}, len(urls))
		if err != nil {
			t.Fatal(err)
		}
		one, _ := l.delivery(last)
		for _, d := range append(list, one) {
			if d.Attempts != len(d.Log) || (d.State == webhook.Delivered) != (len(d.Log) == 1) {
				t.Fatalf("%s after %d attempts with %d in its log", d.State, d.Attempts, len(d.Log))
			}
		}
	}
}

// The schedule ends, a replay begins it anew under the same id, and the log
// keeps every attempt.
func TestReplay(t *testing.T) {
	l := newLanes(t)
	l.tell("acc_acme", "https://a.example/1")
	b := l.claim("one", want(webhook.New))[0]
	d := b.Deliveries[0]
	for range webhook.MaxTries {
		l.settle("one", []webhook.Outcome{came(d, webhook.Answer{Status: 500})})
		d, _ = l.delivery(d.ID)
	}
	l.settle("one", nil, webhook.Release{Lane: b.Lane, Health: b.Health})
	if d.State != webhook.Failed || d.Attempts != 10 || d.EndedAt.IsZero() || !strings.Contains(d.Failure, "10 attempts") {
		t.Fatalf("%+v", d)
	}
	l.claims("one", want(webhook.New))
	if again, err := l.Replay(t.Context(), "acc_acme", d.ID); err != nil || again.ID != d.ID || again.State != webhook.Pending || again.Tries != 0 || again.Failure != "" {
		t.Fatalf("%+v, %v", again, err)
	}
	b = l.claim("one", want(webhook.New))[0]
	l.settle("one", []webhook.Outcome{came(b.Deliveries[0], webhook.Answer{Status: 200})}, webhook.Release{Lane: b.Lane, Health: b.Health})
	if d, attempts := l.delivery(d.ID); d.State != webhook.Delivered || len(attempts) != 11 || attempts[10].Number != 11 {
		t.Errorf("%+v, %d attempts", d, len(attempts))
	}
}

// An endpoint that answers 410, or to which nothing arrives for five days, is
// disabled, and says why.
func TestEndpointIsDisabled(t *testing.T) {
	l := newLanes(t)
	addEndpoint(t, l.conn, "we_gone", false, webhook.JobSucceeded)
	addEndpoint(t, l.conn, "we_fails", false, webhook.JobSucceeded)
	tell := func() map[string]webhook.Bout {
		e := succeeded(job.NewID(), time.Now().UTC())
		l.seq++
		project(t, l.Store, l.seq, store.Filing{Ends: []store.Ended{e}})
		out := map[string]webhook.Bout{}
		for _, s := range webhook.Standings {
			for _, b := range l.claim("one", want(s)) {
				out[b.Lane] = b
			}
		}
		return out
	}
	bouts := tell()
	if e := bouts["we_gone"].Endpoint; e == nil || e.URL != "https://hooks.example.com/" || string(e.Secrets.Sealed) != "sealed" {
		t.Fatalf("%+v", e)
	}
	settle := func(lane string, status int) []webhook.Disabled {
		off, _ := l.settle("one", []webhook.Outcome{came(bouts[lane].Deliveries[0], webhook.Answer{Status: status})}, webhook.Release{Lane: lane, Health: bouts[lane].Health})
		return off
	}
	since := func(id string) (failing *time.Time, reason *string) {
		if err := l.conn.QueryRow(t.Context(), `SELECT failing_since, disabled_reason FROM webhook_endpoints WHERE id = $1`, id).Scan(&failing, &reason); err != nil {
			t.Fatal(err)
		}
		return failing, reason
	}
	if off := settle("we_gone", 410); len(off) != 1 || off[0] != (webhook.Disabled{ID: "we_gone", Account: "acc_acme", Reason: "gone"}) {
		t.Errorf("%+v", off)
	}
	if off := settle("we_fails", 500); len(off) != 0 {
		t.Errorf("disabled at its first failure: %+v", off)
	}
	if failing, reason := since("we_fails"); failing == nil || reason != nil {
		t.Errorf("failing since %v, disabled %v", failing, reason)
	}
	exec(t, l.conn, `UPDATE webhook_endpoints SET failing_since = now() - interval '6 days' WHERE id = 'we_fails'`)
	bouts = tell()
	if _, ok := bouts["we_gone"]; ok {
		t.Error("something is made for an endpoint that is disabled")
	}
	settle("we_fails", 204)
	if failing, _ := since("we_fails"); failing != nil {
		t.Errorf("something arrived, and it fails since %s", failing)
	}
	exec(t, l.conn, `UPDATE webhook_endpoints SET failing_since = now() - interval '5 days' WHERE id = 'we_fails'`)
	bouts = tell()
	if off := settle("we_fails", 0); len(off) != 1 || off[0].Reason != "failing" {
		t.Errorf("%+v", off)
	}
	for _, d := range list(t, l.Store, webhook.Filter{State: webhook.Pending}) {
		t.Errorf("it is still tried: %+v", d)
	}
	for _, d := range list(t, l.Store, webhook.Filter{State: webhook.Failed, Endpoint: "we_fails"}) {
		if !strings.Contains(d.Failure, "five days") {
			t.Errorf("%+v", d)
		}
	}
	log, err := l.AuditLog(t.Context(), "", "", 10)
	if err != nil || len(log) != 2 || log[0].Subject != "we_fails" || log[0].Action != "disabled" || log[0].Detail["reason"] != "failing" {
		t.Errorf("audit %+v, %v", log, err)
	}
}

// backlog has a great many deliveries wait in a lane, due since then.
func (l *lanes) backlog(lane, account string, endpoint, url *string, n int, since time.Duration) {
	l.Helper()
	exec(l.T, l.conn, `INSERT INTO deliveries (id, account, endpoint, url, lane, type, subject, happened, next_at)
SELECT 'msg_' || n, $1, $2, $3, $4, 'job.succeeded', '', now(), now() - $5::interval FROM generate_series(1, $6) AS n`, account, endpoint, url, lane, since, n)
	exec(l.T, l.conn, `INSERT INTO delivery_lanes (lane, account, wake_at) VALUES ($1, $2, now())`, lane, account)
}

func (l *lanes) pending() (n int) {
	l.Helper()
	if err := l.conn.QueryRow(l.Context(), `SELECT count(*) FROM deliveries WHERE state = 'pending'`).Scan(&n); err != nil {
		l.Fatal(err)
	}
	return n
}

// A long backlog is given up piece by piece: to end all of it in the
// transaction of everybody's outcomes would take longer than that may.
func TestLongBacklogIsDroppedInPieces(t *testing.T) {
	const all, piece = 4500, 2000
	l := newLanes(t)
	addEndpoint(t, l.conn, "we_a", false, webhook.JobSucceeded)
	endpoint := "we_a"
	l.backlog("we_a", "acc_acme", &endpoint, nil, all, 0)
	b := l.claim("one", want(webhook.New))[0]
	health := webhook.Health{Standing: webhook.Proven}
	off, due := l.settle("one", []webhook.Outcome{came(b.Deliveries[0], webhook.Answer{Status: 410})}, webhook.Release{Lane: "we_a", Health: health})
	if left := l.pending(); len(off) != 1 || !due || left != all-1-piece {
		t.Fatalf("disabled %v, due %t, %d wait", off, due, left)
	}
	b = l.claim("one", want(webhook.Proven))[0]
	if b.Endpoint == nil || b.Endpoint.DisabledReason != "gone" {
		t.Fatalf("%+v", b.Endpoint)
	}
	if _, due := l.settle("one", nil, webhook.Release{Lane: "we_a", Health: health, Drop: "it is disabled"}); !due || l.pending() != all-1-2*piece {
		t.Errorf("due %t, %d wait", due, l.pending())
	}
	// Nor does a deletion take longer, and what it leaves is due.
	exec(t, l.conn, `INSERT INTO deliveries (id, account, endpoint, lane, type, subject, happened) SELECT 'msg_new_' || n, 'acc_acme', 'we_a', 'we_a', 'job.succeeded', '', now() FROM generate_series(1, 2000) AS n`)
	if err := l.DeleteEndpoint(t.Context(), "acc_acme", "we_a"); err != nil {
		t.Fatal(err)
	}
	if b = l.claim("one", want(webhook.Proven))[0]; b.Endpoint != nil || len(b.Deliveries) != 4 || l.pending() != all-1-2*piece {
		t.Errorf("%+v, %d wait", b, l.pending())
	}
	l.settle("one", nil, webhook.Release{Lane: "we_a", Health: health, Drop: "the endpoint was deleted"})
	l.claims("one", want(webhook.Proven))
	if left := l.pending(); left != 0 {
		t.Errorf("%d wait for nobody", left)
	}
}

// What has been due for five days in a lane that fails is given up: one attempt
// in five minutes never comes to the end of a long backlog, and a job's own URL
// is no endpoint that is disabled.
func TestBacklogOfADeadHostEnds(t *testing.T) {
	l := newLanes(t)
	url, day := "https://dead.example/", 24*time.Hour
	l.backlog("acc_acme https://dead.example", "acc_acme", nil, &url, 3, 5*day+time.Minute)
	exec(t, l.conn, `UPDATE deliveries SET next_at = now() - interval '4 days' WHERE id = 'msg_3'`)
	h := webhook.Health{Standing: webhook.New}
	for try, left := range []int{3, 3, 1} { // the breaker opens with the third
		exec(t, l.conn, `UPDATE delivery_lanes SET open_until = NULL, wake_at = now()`)
		b := l.claim("one", want(webhook.New), want(webhook.Failing))[0]
		h = h.After(webhook.Answer{}, time.Now())
		l.settle("one", nil, webhook.Release{Lane: b.Lane, Health: h})
		if n := l.pending(); n != left {
			t.Errorf("after try %d %d wait, want %d", try+1, n, left)
		}
	}
	if d, _ := l.delivery("msg_1"); d.State != webhook.Failed || !strings.Contains(d.Failure, "five days") || d.EndedAt.IsZero() {
		t.Errorf("%+v", d)
	}
}

// What is told while a lane is given back is not lost: whoever is second sees
// the other's work. Many times, with both on their way at once.
func TestNoWakeUpIsLost(t *testing.T) {
	l := newLanes(t)
	other := storetest.Connect(t, l.conn.Config().ConnString())
	for range 20 {
		l.tell("acc_acme", "https://a.example/")
		var b webhook.Bout
		for _, s := range webhook.Standings {
			for _, got := range l.claim("one", want(s)) {
				b = got
			}
		}
		if len(b.Deliveries) == 0 {
			t.Fatal("nothing was claimed")
		}
		var outcomes []webhook.Outcome
		for _, d := range b.Deliveries {
			outcomes = append(outcomes, came(d, webhook.Answer{Status: 200}))
		}
		settled := make(chan error, 1)
		go func() {
			_, _, err := other.Settle(context.WithoutCancel(t.Context()), "one", outcomes, []webhook.Release{{Lane: b.Lane, Health: webhook.Health{Standing: webhook.Proven}}})
			settled <- err
		}()
		l.tell("acc_acme", "https://a.example/")
		if err := <-settled; err != nil {
			t.Fatal(err)
		}
		got := l.claims("one", want(webhook.Proven), "acc_acme https://a.example ×1")
		l.settle("one", []webhook.Outcome{came(got[0].Deliveries[0], webhook.Answer{Status: 200})}, webhook.Release{Lane: b.Lane, Health: webhook.Health{Standing: webhook.Proven}})
	}
}

func TestLanesAreForgotten(t *testing.T) {
	l := newLanes(t)
	l.tell("acc_acme", "https://a.example/", "https://b.example/")
	bouts := l.claim("one", want(webhook.New))
	l.settle("one", []webhook.Outcome{came(bouts[0].Deliveries[0], webhook.Answer{Status: 200})}, webhook.Release{Lane: bouts[0].Lane, Health: webhook.Health{Standing: webhook.Proven}})
	l.settle("one", nil, webhook.Release{Lane: bouts[1].Lane, Health: webhook.Health{Standing: webhook.New}})
	for _, old := range []bool{false, true} {
		if old {
			exec(t, l.conn, `UPDATE delivery_lanes SET touched_at = now() - interval '2 days'`)
		}
		if _, _, err := l.TendLanes(t.Context()); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := l.conn.QueryRow(t.Context(), `SELECT count(*) FROM delivery_lanes`).Scan(&n); err != nil || (n == 1) != old {
			t.Errorf("%d lanes, %v", n, err)
		}
	}
}

// Whoever tends lanes waits for nobody who writes into them: they lock many, each
// in another order.
func TestTendingLanesWaitsForNobody(t *testing.T) {
	l := newLanes(t)
	l.tell("acc_acme", "https://a.example/", "https://b.example/")
	exec(t, l.conn, `UPDATE deliveries SET state = 'delivered', ended_at = now() WHERE lane LIKE '%b.example'`)
	exec(t, l.conn, `UPDATE delivery_lanes SET touched_at = now() - interval '2 days', wake_at = CASE WHEN lane LIKE '%b.example' THEN 'infinity' ELSE now() + interval '1 hour' END`)
	left := func() (asleep, all int) {
		t.Helper()
		if err := l.conn.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE wake_at > now()), count(*) FROM delivery_lanes`).Scan(&asleep, &all); err != nil {
			t.Fatal(err)
		}
		return asleep, all
	}
	tend := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, _, err := l.TendLanes(ctx); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, l.conn, `BEGIN`)
	exec(t, l.conn, `SELECT FROM delivery_lanes FOR UPDATE`)
	tend()
	exec(t, l.conn, `COMMIT`)
	if asleep, all := left(); asleep != 2 || all != 2 {
		t.Errorf("%d of %d lanes sleep", asleep, all)
	}
	tend()
	if asleep, all := left(); asleep != 0 || all != 1 {
		t.Errorf("then %d of %d lanes sleep", asleep, all)
	}
}
