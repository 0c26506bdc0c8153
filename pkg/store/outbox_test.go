package store_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
	"github.com/tintype/tintype/pkg/webhook"
)

// direct is a connection beside the store, for what it has no method for.
func direct(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func addEndpoint(t *testing.T, conn *pgx.Conn, id string, lines bool, events ...webhook.Type) {
	t.Helper()
	exec(t, conn, `INSERT INTO webhook_endpoints (id, account, url, events, batch_line_events, secret) VALUES ($1, 'acc_acme', 'https://hooks.example.com/', $2, $3, 'sealed')`, id, events, lines)
}

// ends projects job ends and what else is in a filing, each once.
func project(t *testing.T, s *store.Store, seq uint64, filing store.Filing) {
	t.Helper()
	if _, err := s.Project(t.Context(), store.Projection{Seq: seq - 1}, store.Projection{Seq: seq}, filing); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, s *store.Store, of webhook.Filter) []webhook.Delivery {
	t.Helper()
	got, err := s.Deliveries(t.Context(), "acc_acme", of, webhook.Place{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What a filing tells, to whom, once.
func TestOutbox(t *testing.T) {
	url := storetest.URL(t)
	s, conn := storetest.Connect(t, url), direct(t, url)
	addEndpoint(t, conn, "we_all", true, webhook.Types...)
	addEndpoint(t, conn, "we_failed", false, webhook.JobFailed, webhook.QuotaWarning)
	addEndpoint(t, conn, "we_off", true, webhook.Types...)
	exec(t, conn, `UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'by_owner' WHERE id = 'we_off'`)
	exec(t, conn, `INSERT INTO webhook_endpoints (id, account, url, events, secret) VALUES ('we_other', 'acc_other', 'https://e/', $1, 'sealed')`, webhook.Types)
	exec(t, conn, `LISTEN `+store.OutboxChannel)

	now := time.Now().UTC().Truncate(time.Millisecond)
	end := func(state job.State, change func(*job.Job)) store.Ended {
		e := succeeded(job.NewID(), now)
		e.Job.State = state
		if state != job.Succeeded {
			no := false
			e.Job.Result, e.Job.Billable, e.Units = nil, &no, 0
		}
		if state == job.Failed {
			e.Job.Failure = job.Fail(job.NavigationTimeout, job.StageNavigate, "no answer")
		}
		change(e.Job)
		return e
	}
	own := func(events ...string) func(*job.Job) {
		return func(j *job.Job) { j.Webhook = &job.Webhook{URL: "https://own.example.com/hook?n=1", Events: events} }
	}
	line := func(j *job.Job) { j.Batch, j.Line, j.Pass = "batch_1", 1, 1 }
	filing := store.Filing{
		Ends: []store.Ended{
			end(job.Succeeded, own()), end(job.Succeeded, own("job.failed")), end(job.Failed, own("job.failed", "job.expired")),
			end(job.Failed, line), end(job.Succeeded, func(j *job.Job) { line(j); own()(j) }),
			end(job.Canceled, func(j *job.Job) { j.Webhook = &job.Webhook{URL: "https://own.example.com/\x00"} }),
		},
		Reached: []store.QuotaReached{
			{Account: "acc_acme", Period: november, Percent: 80, Used: 9600, Limit: 12000, ResetsAt: november.AddDate(0, 1, 0), Happened: now},
			{Account: "acc_acme", Period: november, Percent: 100, Used: 12000, Limit: 12000, ResetsAt: november.AddDate(0, 1, 0), Happened: now},
		},
	}
	of := map[string]string{} // subject → what the test calls it
	for i, name := range []string{"plain", "deaf", "failed", "line failed", "line with own", "poison"} {
		of[string(filing.Ends[i].Job.ID)] = name
	}
	project(t, s, 1, filing)
	if _, err := conn.WaitForNotification(t.Context()); err != nil {
		t.Fatal(err)
	}
	project(t, s, 2, filing) // as after a commit that was not heard

	var got []string
	seen := map[string]bool{}
	for _, d := range list(t, s, webhook.Filter{}) {
		got = append(got, string(d.Type)+" "+of[d.Subject]+" > "+d.Endpoint+d.URL)
		if seen[d.ID] || d.State != webhook.Pending || !d.Happened.Equal(now) || d.NextAt.IsZero() {
			t.Errorf("%+v", d)
		}
		seen[d.ID] = true
	}
	slices.Sort(got)
	want := []string{
		"job.canceled poison > we_all",
		"job.failed failed > https://own.example.com/hook?n=1",
		"job.failed failed > we_all",
		"job.failed failed > we_failed",
		"job.failed line failed > we_all",
		"job.succeeded deaf > we_all",
		"job.succeeded line with own > https://own.example.com/hook?n=1",
		"job.succeeded line with own > we_all",
		"job.succeeded plain > https://own.example.com/hook?n=1",
		"job.succeeded plain > we_all",
		"quota.exceeded  > we_all",
		"quota.warning  > we_all",
		"quota.warning  > we_failed",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
	d, err := s.Delivery(t.Context(), "acc_acme", list(t, s, webhook.Filter{Type: webhook.QuotaWarning, Endpoint: "we_failed"})[0].ID)
	var data struct {
		Usage struct {
			Percent     int
			Used, Limit float64
		}
	}
	if err != nil || len(d.Log) != 0 || json.Unmarshal(d.Data, &data) != nil || data.Usage.Percent != 80 || data.Usage.Used != 80 || data.Usage.Limit != 100 {
		t.Errorf("%+v %s, %v", d, d.Data, err)
	}
	if _, err := s.Delivery(t.Context(), "acc_other", d.ID); err == nil {
		t.Error("another account reads a delivery")
	}
}

// A message exists if and only if what it tells of does.
func TestOutboxIsInTheTransaction(t *testing.T) {
	url := storetest.URL(t)
	s, conn := storetest.Connect(t, url), direct(t, url)
	addEndpoint(t, conn, "we_all", true, webhook.Types...)
	exec(t, conn, `ALTER TABLE deliveries ADD CONSTRAINT no_more CHECK (false) NOT VALID`)
	e := succeeded(job.NewID(), time.Now().UTC())
	if _, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: []store.Ended{e}}); err == nil {
		t.Fatal("projected without its message")
	}
	if _, err := s.Job(t.Context(), e.Job.ID); err == nil {
		t.Error("the job is filed and its message is not")
	}
	if p, err := s.Projection(t.Context()); err != nil || p.Seq != 0 {
		t.Errorf("the offset moved to %v, %v", p, err)
	}
	exec(t, conn, `ALTER TABLE deliveries DROP CONSTRAINT no_more`)
	project(t, s, 1, store.Filing{Ends: []store.Ended{e}})
	if got := list(t, s, webhook.Filter{Subject: string(e.Job.ID)}); len(got) != 1 {
		t.Errorf("%d messages", len(got))
	}
}

func TestBatchEndIsTold(t *testing.T) {
	url := storetest.URL(t)
	s, conn := storetest.Connect(t, url), direct(t, url)
	addEndpoint(t, conn, "we_all", false, webhook.Types...)
	addEndpoint(t, conn, "we_jobs", true, webhook.JobSucceeded)
	b := &batch.Batch{ID: batch.NewID(), Account: "acc_acme", Pass: 1, Webhook: &job.Webhook{URL: "https://own.example.com/", Events: []string{"job.failed"}}}
	for _, pass := range []int{1, 1, 2} { // the first end twice, then that of another try
		b.Pass = pass
		err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			return store.TellBatchEnded(t.Context(), tx, b, json.RawMessage(`{"batch":{}}`), time.Now())
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	got := list(t, s, webhook.Filter{Type: webhook.BatchCompleted, Subject: b.ID, State: webhook.Pending})
	if len(got) != 4 {
		t.Errorf("%d messages, want one for each end to the endpoint and the batch's own", len(got))
	}
}

func TestLogTest(t *testing.T) {
	url := storetest.URL(t)
	s, conn := storetest.Connect(t, url), direct(t, url)
	addEndpoint(t, conn, "we_all", false, webhook.JobFailed)
	at := time.Now().UTC().Truncate(time.Microsecond)
	d := webhook.Delivery{ID: "msg_1", Account: "acc_acme", Endpoint: "we_all", Lane: "we_all", Type: webhook.Test, Data: json.RawMessage(`{}`), Happened: at}
	o := webhook.Outcome{
		Delivery: d.ID, Body: `{"a":1}`, Attempt: webhook.Attempt{At: at, Took: time.Second, Error: "nobody was there"},
		Verdict: webhook.Verdict{State: webhook.Failed, Failure: "a test is tried once"},
	}
	if err := s.LogTest(t.Context(), d, o); err != nil {
		t.Fatal(err)
	}
	got, err := s.Delivery(t.Context(), "acc_acme", d.ID)
	if err != nil || got.State != webhook.Failed || got.Body != o.Body || len(got.Log) != 1 || got.Log[0].Status != 0 || got.Log[0].Took != time.Second || got.Log[0].Error != o.Attempt.Error {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.Replay(t.Context(), "acc_acme", d.ID); err != nil {
		t.Fatal(err)
	}
	bouts, err := s.ClaimLanes(t.Context(), "one", time.Minute, []webhook.Want{want(webhook.New)})
	if err != nil || len(bouts) != 1 || bouts[0].Deliveries[0].Body != o.Body || bouts[0].Endpoint == nil {
		t.Errorf("%+v, %v", bouts, err)
	}
}
